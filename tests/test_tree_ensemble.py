"""Trees of scikit-learn as plain arrays."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

from latbench.prediction.sklearn.tree_ensemble import TreeEnsemble

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(120, 4)), RNG.normal(size=120)
ESTIMATORS = [
    DecisionTreeRegressor(random_state=0),
    ExtraTreeRegressor(random_state=0),
    RandomForestRegressor(n_estimators=7, random_state=0),
    ExtraTreesRegressor(n_estimators=7, max_leaf_nodes=9, random_state=0),
    GradientBoostingRegressor(n_estimators=7, random_state=0),
    HistGradientBoostingRegressor(max_iter=7, min_samples_leaf=3, random_state=0),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_the_arrays_predict_what_scikit_learn_predicts(estimator: Any) -> None:
    ensemble = TreeEnsemble.of(estimator.fit(X, Y))
    assert ensemble is not None
    others = np.vstack([X, RNG.normal(size=(500, 4))])
    np.testing.assert_allclose(ensemble.predict(others), estimator.predict(others), rtol=1e-12, atol=1e-14)


def test_what_predicts_more_than_a_sum_of_trees_is_left_alone() -> None:
    positive = np.exp(Y)
    assert TreeEnsemble.of(RandomForestRegressor()) is None
    assert TreeEnsemble.of(HistGradientBoostingRegressor(loss="poisson").fit(X, positive)) is None
    assert TreeEnsemble.of(GradientBoostingRegressor(init=DecisionTreeRegressor(), n_estimators=2).fit(X, Y)) is None


def state() -> dict[str, Any]:
    ensemble = TreeEnsemble.of(RandomForestRegressor(n_estimators=3, random_state=0).fit(X, Y))
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in ensemble.__dict__.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature", 4),
        ("feature", -1),
        ("children", -1),
        ("children", 10**6),
        ("children", 0),
        ("roots", -1),
        ("roots", 10**6),
        ("value", np.nan),
        ("threshold", np.nan),
    ],
)
def test_a_value_that_leads_nowhere_is_refused(name: str, value: float) -> None:
    changed = state()
    changed[name].flat[0] = value
    with pytest.raises(ValueError, match=r"the trees|a tree"):
        TreeEnsemble().__setstate__(changed)


@pytest.mark.parametrize("name", list(state()))
def test_attributes_of_another_kind_are_refused(name: str) -> None:
    original = state()
    wrong = [None, "text", [1.0], {}]
    if isinstance(original[name], np.ndarray):
        wrong += [original[name][..., None], original[name].astype(complex)]
    for value in wrong:
        with pytest.raises(ValueError, match="the trees"):
            TreeEnsemble().__setstate__({**original, name: value})
    with pytest.raises(ValueError, match="an ensemble of trees holds"):
        TreeEnsemble().__setstate__({key: value for key, value in original.items() if key != name})
