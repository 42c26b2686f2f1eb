"""The operator table with its line."""

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.prediction.fit import fit
from latbench.predictor import Context, Cost
from latbench.space import Column
from latbench.testing.additive_profile import additive_profile
from latbench_lookup import LookupRegressor


def context(*costs: float) -> Context:
    columns = tuple(Column(f"c{number}", "all") for number in range(len(costs)))
    return Context(columns, tuple(Cost((number,), cost) for number, cost in enumerate(costs)))


def test_a_straight_line_of_the_table_is_found_from_two_architectures() -> None:
    X, costs = np.eye(3)[[0, 1, 2]], (1.0, 2.0, 4.0)
    y = 5 + 3 * X @ costs
    estimator = LookupRegressor().fit(X[:2], y[:2], context=context(*costs))
    np.testing.assert_allclose(estimator.predict(X), y)


def test_without_a_table_it_is_refused() -> None:
    profile = additive_profile(50, with_operations=False)
    with pytest.raises(UsageError, match=r"'lookup' cannot be fitted.*not all are measured: .*--operators"):
        fit(profile, "lookup")
    with pytest.raises(ValueError, match="lookup builds on measured operations"):
        LookupRegressor().fit(profile.X, profile.y, context=profile.context())


@pytest.mark.parametrize("value", [0.0, 0.03])
def test_a_table_that_tells_no_architectures_apart_is_refused(value: float) -> None:
    X = np.eye(4)[np.random.default_rng(0).integers(0, 4, (20, 3))].reshape(20, -1)
    with pytest.raises(ValueError, match="have the same sum"):
        LookupRegressor().fit(X, np.arange(1.0, 21.0), context=context(*[value] * 12))


def test_large_values_do_not_rule_the_line() -> None:
    X = np.arange(1.0, 5.0)[:, None]
    y = np.array([1.0, 2.0, 3.0, 400.0])
    near = np.abs(LookupRegressor().fit(X, y, context=context(1.0)).predict(X)[:3] - y[:3])
    squares = np.abs(np.polyval(np.polyfit(X[:, 0], y, 1), X[:3, 0]) - y[:3])
    assert near.max() < squares.max() / 5


LINE = {"coef": np.ones(3), "intercept": np.ones(1), "products": np.zeros((0, 1), dtype=np.int64)}
LINE |= {"sums": np.zeros((0, 1), dtype=np.int64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coef": np.ones((3, 1))}, "'coef'"),
        ({"intercept": np.ones(2)}, "'coef'"),
        ({"more": np.ones(2)}, "'coef'"),
        ({"products": np.zeros((1, 1))}, "integers"),
        ({"sums": np.zeros((1, 1))}, "sums are integers"),
        ({"sums": np.array([[3, -1]])}, "a sum has a factor outside the 3 columns"),
        ({"products": np.array([[2, -1]])}, "outside the 2 columns"),
        ({"products": np.array([[-2, 1]])}, "outside the 2 columns"),
        ({"products": np.zeros((5, 1), dtype=np.int64)}, "outside the -2 columns"),
    ],
)
def test_arrays_that_are_no_line_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    np.testing.assert_array_equal(LookupRegressor().from_arrays(LINE).predict(np.eye(3)), [2, 2, 2])
    with pytest.raises(ValueError, match=message):
        LookupRegressor().from_arrays({**LINE, **change})
