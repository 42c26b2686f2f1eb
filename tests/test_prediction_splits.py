"""Splits do not leak."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from latbench.errors import DataError
from latbench.prediction.splits import folds_by_group, split_by_group

groupings = st.lists(st.integers(0, 30), min_size=12, max_size=60)


@given(groupings, st.sets(st.integers(1, 8), min_size=1), st.integers(0, 99))
def test_training_sets_are_nested_rows_of_distinct_groups_of_which_no_row_is_tested_on(
    groups: list[int], sizes: set[int], seed: int
) -> None:
    try:
        split = split_by_group(groups, sorted(sizes), seed=seed)
    except DataError:
        assume(False)
    trained = [groups[row] for row in split.train[max(sizes)]]
    assert len(set(trained)) == len(trained) == max(sizes)
    assert sorted(split.test) == [row for row, group in enumerate(groups) if group not in trained]
    for size in sizes:
        assert len(split.train[size]) == size
        np.testing.assert_array_equal(split.train[size], split.train[max(sizes)][:size])


def test_any_row_of_a_group_may_be_trained_on() -> None:
    drawn = {int(split_by_group([0] * 8 + [1], [1], seed=seed).train[1][0]) for seed in range(200)}
    assert drawn == set(range(9))


@given(groupings, st.integers(2, 6), st.integers(0, 99))
def test_rows_of_a_group_share_a_fold(groups: list[int], folds: int, seed: int) -> None:
    found = folds_by_group(groups, folds, seed=seed)
    by_group = dict(zip(groups, found.tolist(), strict=True))
    assert found.tolist() == [by_group[group] for group in groups]
    sizes = np.bincount(list(by_group.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_a_seed_is_a_split() -> None:
    rows = [tuple(split_by_group(range(50), [20], seed=seed).test) for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize("sizes", [[], [0], [-3, 5], [10], [11]])
def test_sizes_that_leave_nothing_to_train_or_to_test_are_refused(sizes: list[int]) -> None:
    with pytest.raises(DataError):
        split_by_group(range(10), sizes, seed=0)
