"""Training and test sets that do not leak: isomorphic architectures stay on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of one seed.

    Args:
        train: by size, the rows to fit to; a smaller set is the beginning of a larger one.
        test: the rows to test on, the same for every size, so that a learning curve shows the size alone.
    """

    train: dict[int, Rows]
    test: Rows


def split_by_group(groups: Sequence[Hashable], train_sizes: Sequence[int], *, seed: int) -> Split:
    """Draw nested training sets; all rows whose group is in none of them are the test set.

    Args:
        groups: the group of each row; rows of one group (isomorphic architectures) are never split.
        train_sizes: how many rows each training set has.
        seed: draws the order of the groups.

    Raises:
        DataError: a size below 1, or too few rows to leave any for the test.
    """
    sizes = sorted(set(train_sizes))
    if not sizes or sizes[0] < 1:
        raise DataError(f"training sizes {list(train_sizes)}: give at least one, each at least 1")
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    order = np.random.default_rng(seed).permutation(len(members))
    shuffled = [list(members.values())[index] for index in order]
    train: list[int] = []
    test: list[int] = []
    for rows in shuffled:
        # A group that would make the training set larger than asked is tested on.
        (train if len(train) + len(rows) <= sizes[-1] else test).extend(rows)
    if len(train) < sizes[-1] or not test:
        raise DataError(
            f"{len(groups)} architectures cannot give {sizes[-1]} for training and leave some for the test: "
            "profile more, or train on fewer"
        )
    cut = {size: np.array(train[:size], dtype=np.intp) for size in sizes}
    return Split(cut, np.array(test, dtype=np.intp))
