"""The operator table with its line."""

import numpy as np
import pytest

from latbench.prediction.fit import fit
from latbench.testing.additive_profile import additive_profile
from latbench_lookup import LookupRegressor


def test_a_straight_line_of_the_table_is_found_from_two_architectures() -> None:
    X, costs = np.eye(3)[[0, 1, 2]], (1.0, 2.0, 4.0)
    y = 5 + 3 * X @ costs
    estimator = LookupRegressor(costs=costs).fit(X[:2], y[:2])
    np.testing.assert_allclose(estimator.predict(X), y)


def test_without_a_table_one_hot_encodings_get_the_same_value() -> None:
    profile = additive_profile(50, with_operations=False)
    predicted = fit(profile, "lookup").predict(profile.X)
    assert np.ptp(predicted) < 1e-9
    assert profile.y.min() < predicted[0] < profile.y.max()


def test_large_values_do_not_rule_the_line() -> None:
    X = np.arange(1.0, 5.0)[:, None]
    y = np.array([1.0, 2.0, 3.0, 400.0])
    near = np.abs(LookupRegressor(costs=[1.0]).fit(X, y).predict(X)[:3] - y[:3])
    squares = np.abs(np.polyval(np.polyfit(X[:, 0], y, 1), X[:3, 0]) - y[:3])
    assert near.max() < squares.max() / 5


def test_costs_that_do_not_fit_the_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="2 costs for 3 columns"):
        LookupRegressor(costs=[1.0, 2.0]).fit(np.eye(3), np.ones(3))


@pytest.mark.parametrize("arrays", [{}, {"coef": np.ones(3)}, {"coef": np.ones((3, 1)), "intercept": np.ones(1)}])
def test_arrays_that_are_no_line_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="'coef'"):
        LookupRegressor().from_arrays(arrays)
