"""A penalty that begins at 0, so that a search first learns what is accurate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.search.objectives.alpha_rows import Alphas
from latbench.search.objectives.latency_loss import TensorLike


class WarmUp(nn.Module):
    """A loss whose weight grows linearly from 0 to 1 in the first steps in training mode, and stays there.

    Fresh weights favour operations without any, which are fast as well: a penalty from the first step on would decide
    before the task can. The count is a buffer, so a checkpoint of the loop holds it.

    Args:
        loss: a `LatencyLoss`, or anything with the same calls, such as a `Together`. A `DualAscent` begins at 0 anyway.
        steps: how many steps it takes to the whole weight, at least 1.

    Raises:
        UsageError: there are no steps.
    """

    done: Tensor
    loss: Any

    def __init__(self, loss: nn.Module, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise UsageError(f"a warm-up of {steps} steps: give at least 1, or leave it out")
        self.loss, self.steps = loss, steps
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    def forward(self, alphas: Alphas) -> Tensor:
        """Return the weighted penalty of alphas, a scalar, and count the step; see `LatencyLoss.forward`."""
        return self._weighted(self.loss(alphas))

    def of(self, encoding: TensorLike, weights: TensorLike | None = None) -> Tensor:
        """Return the weighted penalty of encodings, a scalar, and count the step; see `LatencyLoss.of`."""
        return self._weighted(self.loss.of(encoding, weights))

    def _weighted(self, penalty: Tensor) -> Tensor:
        share = self.done.to(penalty, copy=True).clamp(max=self.steps) / self.steps
        if self.training:
            self.done += 1
        return share * penalty
