"""A predictor of known cost, without a profile: its prediction is a sum over an architecture's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from latbench.space import Architecture, Encoder


class KnownCost:
    """A trained predictor that adds up the costs of columns.

    Args:
        space: whose encodings it takes.
        costs: of each column ``(columns,)``, in ms; None draws them from a fixed seed, 0 for columns named ``none``.
        base: what every architecture takes in addition, in ms.
    """

    unit = "ms"

    def __init__(self, space: Encoder[Any], costs: Sequence[float] | None = None, *, base: float = 0.2) -> None:
        self.space, self.base = space, base
        drawn = np.random.default_rng(0).uniform(0.1, 1.0, len(space.columns))
        worked = [not column.name.endswith("/none") for column in space.columns]
        self.costs = np.asarray(drawn * worked if costs is None else costs, dtype=np.float64)

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return predictions ``(n,)``, in ms."""
        return np.asarray(self.space.encode(architectures) @ self.costs + self.base)

    def module(self) -> nn.Module:
        """Return the sum as a module: encodings ``(..., columns)`` to ``(...)``."""
        return _Sum(torch.from_numpy(self.costs).float(), self.base)


class _Sum(nn.Module):
    costs: Tensor
    base: Tensor

    def __init__(self, costs: Tensor, base: float) -> None:
        super().__init__()
        self.register_buffer("costs", costs)
        self.register_buffer("base", torch.tensor(base))

    def forward(self, encoding: Tensor) -> Tensor:
        return encoding @ self.costs + self.base
