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
    """Draw nested training sets of distinct groups; all rows whose group is in none of them are the test set.

    A size counts structures, not rows: several rows of one structure (isomorphic architectures) teach little more than
    one of them. Of each group in the training sets one row, drawn at random, is trained on, and none is tested on.

    Args:
        groups: the group of each row.
        train_sizes: how many groups each training set has.
        seed: draws the order of the groups, and their rows.

    Raises:
        DataError: a size below 1, or too few groups to leave any for the test.
    """
    sizes = sorted(set(train_sizes))
    if not sizes or sizes[0] < 1:
        raise DataError(f"training sizes {list(train_sizes)}: give at least one, each at least 1")
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    members: dict[Hashable, list[int]] = {}
    for row in shuffled.tolist():
        members.setdefault(groups[row], []).append(row)
    if len(members) <= sizes[-1]:
        distinct = f"{len(groups)} architectures" + (
            f" of {len(members)} structures" if len(members) < len(groups) else ""
        )
        raise DataError(
            f"{distinct} cannot give {sizes[-1]} for training and leave some for the test: profile more, or train on "
            "fewer"
        )
    drawn = list(members.values())
    train = [rows[0] for rows in drawn[: sizes[-1]]]
    test = sorted(row for rows in drawn[sizes[-1] :] for row in rows)
    return Split({size: np.array(train[:size], dtype=np.intp) for size in sizes}, np.array(test, dtype=np.intp))


def folds_by_group(groups: Sequence[Hashable], folds: int, *, seed: int) -> Rows:
    """Return the number of each row's fold ``(n,)``; rows of one group share theirs.

    Args:
        groups: the group of each row.
        folds: how many; fewer where there are fewer groups.
        seed: draws them.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    drawn = np.random.default_rng(seed).permutation(len(numbers)) % folds
    return np.array([drawn[numbers[group]] for group in groups], dtype=np.intp)
