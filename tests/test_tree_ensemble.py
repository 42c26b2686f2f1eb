"""Trees of scikit-learn as plain arrays."""

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor
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
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_the_arrays_predict_what_scikit_learn_predicts(estimator: Any) -> None:
    ensemble = TreeEnsemble.of(estimator.fit(X, Y))
    others = np.vstack([X, RNG.normal(size=(500, 4))])
    np.testing.assert_allclose(ensemble.predict(others), estimator.predict(others), rtol=1e-12, atol=1e-14)


def state() -> dict[str, Any]:
    ensemble = TreeEnsemble.of(RandomForestRegressor(n_estimators=3, random_state=0).fit(X, Y))
    return {name: array.copy() for name, array in ensemble.to_arrays().items()}


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
        TreeEnsemble().from_arrays(changed)


@pytest.mark.parametrize("name", list(state()))
def test_arrays_of_another_kind_are_refused(name: str) -> None:
    original = state()
    for value in (original[name][..., None], original[name].astype(complex), np.array(["text"]), original[name][None]):
        with pytest.raises(ValueError, match="the trees"):
            TreeEnsemble().from_arrays({**original, name: value})
    with pytest.raises(ValueError, match="an ensemble of trees has the arrays"):
        TreeEnsemble().from_arrays({key: value for key, value in original.items() if key != name})


def test_trees_from_a_file_are_not_fitted_again() -> None:
    with pytest.raises(TypeError, match="fit the regressor that they come from"):
        TreeEnsemble().from_arrays(state()).fit(X, Y)
