"""The exact expectation of any predictor over a space that is small enough to be listed.

Where the decisions of an architecture are drawn independently, each from its own probabilities, the expected prediction
is the table of all predictions contracted with the probabilities of one decision after the other: no gap, whatever the
predictor is, and differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MOST_LISTED = 200_000
"""More architectures than this are not predicted one by one."""


class ExpectationModule(nn.Module):
    """Encodings ``(..., columns)``, relaxed ones too, to expected predictions ``(...)``.

    Args:
        decisions: the columns of each decision, of which an architecture has one at 1.
        table: the prediction for every architecture, a dimension for each decision.
    """

    table: Tensor

    def __init__(self, decisions: Sequence[Sequence[int]], table: NDArray[np.floating]) -> None:
        super().__init__()
        self.decisions = [list(columns) for columns in decisions]
        self.register_buffer("table", torch.tensor(table, dtype=torch.float32))

    def forward(self, encoding: Tensor) -> Tensor:
        """Return the expected predictions."""
        rows = encoding.reshape(-1, encoding.shape[-1])
        *others, last = self.decisions
        # The last decision is a matrix product; what is left of the table then has a copy for each row.
        expected = (rows[:, last] @ self.table.reshape(-1, len(last)).T).reshape(len(rows), -1)
        for columns in reversed(others):
            expected = (expected.reshape(len(rows), -1, len(columns)) @ rows[:, columns, None]).squeeze(-1)
        return expected.reshape(encoding.shape[:-1])


def decisions_of(X: NDArray[np.floating]) -> list[list[int]] | None:
    """Return the columns of each decision of a space, from the encodings of all its architectures ``(n, columns)``.

    Two columns are options of one decision where no architecture has both.

    Returns:
        None where architectures are not all combinations of such options, once each.
    """
    if not np.isin(X, (0, 1)).all():
        return None
    together = X.T @ X > 0
    decisions: list[list[int]] = []
    left = set(range(X.shape[1]))
    while left:
        first = min(left)
        columns = [column for column in sorted(left) if column == first or not together[first, column]]
        left -= set(columns)
        decisions.append(columns)
    combinations = math.prod(map(len, decisions))
    chosen = np.stack([X[:, columns].sum(axis=1) for columns in decisions])
    whole = len(X) == combinations and (chosen == 1).all() and len(np.unique(X, axis=0)) == combinations
    return decisions if whole else None


def expectation_module(X: NDArray[np.floating], values: NDArray[np.floating]) -> ExpectationModule | None:
    """Return the module of a predictor's values ``(n,)`` for all architectures of a space, encoded ``(n, columns)``.

    Returns:
        None where the architectures are not all combinations of independent decisions.
    """
    decisions = decisions_of(X)
    if decisions is None:
        return None
    table = np.empty([len(columns) for columns in decisions])
    table[tuple(X[:, columns].argmax(axis=1) for columns in decisions)] = values
    return ExpectationModule(decisions, table)
