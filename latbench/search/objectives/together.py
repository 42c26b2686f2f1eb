"""Several predictors in one loss: devices, or quantities, each with its own target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.search.objectives.alpha_rows import Alphas
from latbench.search.objectives.latency_loss import LatencyLoss, TensorLike

How = Literal["sum", "worst"]


class Together(nn.Module):
    """The sum of several losses, or the worst of them: one network for a phone and a server, or for time and energy.

    Each loss is relative to its own target, so that milliseconds and millijoules may be added, and the worst is the one
    that exceeds its target by the largest share. ``"worst"`` steers by that one alone, wherever it lies.

    Args:
        losses: one for each predictor; all take the same alphas.
        how: ``"sum"`` or ``"worst"``.

    Raises:
        UsageError: there are no losses, they are of different spaces, or no such way.
    """

    def __init__(self, losses: Sequence[LatencyLoss], how: How = "sum") -> None:
        super().__init__()
        if how not in get_args(How):
            raise UsageError(f"losses cannot be taken together by {how!r}: choose one of {', '.join(get_args(How))}")
        if not losses:
            raise UsageError("there are no losses to take together: give at least one LatencyLoss")
        for loss in losses[1:]:
            if list(loss.space.columns) != list(losses[0].space.columns):
                raise UsageError(
                    "the predictors of these losses are for different spaces, and one search has one: fit all of them "
                    "for the space that is searched"
                )
        self._losses = tuple(losses)
        self.losses, self.how = nn.ModuleList(losses), how  # that they move with the module

    def forward(self, alphas: Alphas) -> Tensor:
        """Return the penalty of alphas, a scalar; see `LatencyLoss.forward`."""
        return self._together([loss(alphas) for loss in self._losses])

    def of(self, encoding: TensorLike, weights: TensorLike | None = None) -> Tensor:
        """Return the penalty of encodings, a scalar; see `LatencyLoss.of`."""
        return self._together([loss.of(encoding, weights) for loss in self._losses])

    def _together(self, penalties: Sequence[Tensor]) -> Tensor:
        values = torch.stack(list(penalties))
        return values.sum() if self.how == "sum" else values.max()
