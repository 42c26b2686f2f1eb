"""The shrunken line, and what it shares with other predictors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.prediction.few_samples.expansion import Expansion
from latbench.prediction.few_samples.regression import group_matrix, merge_rows, relative_scale
from latbench.prediction.few_samples.shrunken_line import fit_shrunken_line
from latbench.testing.additive_profile import additive_profile


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(0)
    X, y, weight = rng.integers(0, 2, (30, 3)).astype(float), rng.uniform(1, 2, 30), rng.integers(0, 4, 30)
    merged = merge_rows(X, y, weight.astype(float))
    repeated = merge_rows(X.repeat(weight, axis=0), y.repeat(weight), np.ones(weight.sum()))
    for one, other in zip(merged, repeated, strict=True):
        np.testing.assert_allclose(one, other)
    assert len(merged[0]) <= 8
    assert merged[1] @ merged[2] == pytest.approx(y @ weight)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30), st.floats(1e-3, 1e3))
def test_relative_errors_have_no_unit_and_no_label_rules(labels: list[float], unit: float) -> None:
    y = np.array(labels)
    scale = relative_scale(y)
    np.testing.assert_allclose(relative_scale(unit * y), unit * scale)
    assert (scale >= y).all()
    assert scale.min() >= np.median(y) / 10 * (1 - 1e-12)


def test_labels_that_are_not_all_positive_weigh_the_same() -> None:
    assert len(set(relative_scale(np.array([-2.0, 0.0, 3.0])))) == 1
    assert relative_scale(np.zeros(3)).tolist() == [1, 1, 1]


def test_group_counts() -> None:
    np.testing.assert_array_equal(group_matrix(["a", "b", "a"]), [[1, 0], [0, 1], [1, 0]])


def errors(samples: int, *, noise: float = 0.0, groups: bool = True, costs: bool = False) -> float:
    """Return the mean relative error on other architectures."""
    profile, test = additive_profile(samples, noise=noise), additive_profile(300, seed=1)
    known = Expansion.of(profile.context(), len(profile.space.columns))
    line = fit_shrunken_line(
        profile.X.astype(float),
        profile.y,
        np.ones(samples),
        groups=known.groups if groups else None,
        costs=known.costs if costs else None,
    )
    return float(np.abs((test.X @ line.coef + line.intercept) / test.y - 1).mean())


def test_groups_and_costs_each_help_where_samples_are_few() -> None:
    assert errors(15, groups=False) > 2 * errors(15)
    assert errors(3, costs=True) < errors(3) / 5


@pytest.mark.parametrize("costs", [False, True])
def test_the_shrinkage_vanishes_with_samples(costs: bool) -> None:
    assert errors(200, costs=costs) < 1e-3


def test_left_out_errors_are_those_on_unseen_rows() -> None:
    profile = additive_profile(40, noise=0.05)
    X, y, groups = profile.X.astype(float), profile.y, [column.group for column in profile.space.columns]
    line = fit_shrunken_line(X, y, np.ones(40), groups=groups)
    for row in range(0, 40, 8):
        others = np.arange(40) != row
        without = fit_shrunken_line(X[others], y[others], np.ones(39), groups=groups)
        # Leaving a row out may choose other penalties: the closed form keeps them.
        assert y[row] - (X[row] @ without.coef + without.intercept) == pytest.approx(
            line.left_out[row], abs=0.03 * y[row]
        )
    seen = np.abs(y - X @ line.coef - line.intercept).mean()
    assert seen < np.abs(line.left_out).mean()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_without_information_give_their_weighted_mean(rows: int) -> None:
    line = fit_shrunken_line(
        np.ones((rows, 3)), np.full(rows, 7.0), np.ones(rows), groups=["a", "a", "b"], costs=[1, 2, 3]
    )
    np.testing.assert_array_equal(line.coef, 0)
    assert line.intercept == pytest.approx(7)
