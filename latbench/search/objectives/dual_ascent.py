"""The multiplier of a constraint, for anyone's loop: it grows while the target is exceeded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.search.objectives.latency_loss import LatencyLoss, TensorLike


class DualAscent(nn.Module):
    """``multiplier * penalty``, and the multiplier grows by ``rate * penalty`` at every step in training mode.

    Dual ascent (Boyd et al., "Distributed Optimization ... via the Alternating Direction Method of Multipliers", 2011,
    section 2.1) on ``relu(expected / target - 1) <= 0``: no trade-off between task and latency has to be guessed. The
    multiplier starts at 0, so that the penalty takes over no faster than the alphas can follow; it is a buffer, so a
    checkpoint of the loop holds it. In evaluation mode it stays as it is.

    Args:
        loss: a latency loss with a hinge.
        rate: how fast the multiplier grows, at least 0.

    Raises:
        UsageError: the loss is not a hinge, or the rate is negative.
    """

    multiplier: Tensor

    def __init__(self, loss: LatencyLoss, rate: float = 0.1) -> None:
        super().__init__()
        if loss.penalty != "hinge":
            raise UsageError(
                f"the multiplier of a {loss.penalty} penalty would grow for ever: "
                'give LatencyLoss(..., target=..., penalty="hinge")'
            )
        if not 0 <= rate < math.inf:
            raise UsageError(f"the rate of the dual ascent is {rate}: give a number that is at least 0")
        self.loss, self.rate = loss, rate
        self.register_buffer("multiplier", torch.zeros(()))

    def forward(self, alphas: Sequence[Tensor]) -> Tensor:
        """Return the weighted penalty of alphas, a scalar, and move the multiplier; see `LatencyLoss.forward`."""
        return self._weighted(self.loss(alphas))

    def of(self, encoding: TensorLike, weights: TensorLike | None = None) -> Tensor:
        """Return the weighted penalty of encodings, a scalar, and move the multiplier; see `LatencyLoss.of`."""
        return self._weighted(self.loss.of(encoding, weights))

    def _weighted(self, penalty: Tensor) -> Tensor:
        # A copy: the graph keeps the multiplier of this step while the buffer moves on.
        weighted = self.multiplier.to(penalty, copy=True) * penalty
        if self.training:
            self.multiplier += self.rate * penalty.detach().to(self.multiplier)
        return weighted
