"""Trees as arrays."""

import dataclasses

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.predictor import Context, Cost
from latbench.testing.additive_profile import additive_profile
from latbench_gbdt import GbdtRegressor

PROFILE = additive_profile(60)
CONTEXT = PROFILE.context()
GROUPS = dataclasses.replace(CONTEXT, costs=None)


def fitted() -> GbdtRegressor:
    return GbdtRegressor(n_estimators=20, random_state=0).fit(PROFILE.X, PROFILE.y, context=GROUPS)


@pytest.mark.parametrize("samples", [2, 7, 60])
def test_the_arrays_predict_what_lightgbm_predicts(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boosters = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *args: boosters.append(train(*args)) or boosters[-1])
    y = PROFILE.y[:samples] / PROFILE.y[:samples].mean()
    estimator = GbdtRegressor(random_state=0).fit(PROFILE.X[:samples], y)
    X = PROFILE.X + np.random.default_rng(0).uniform(-1, 1, PROFILE.X.shape)
    np.testing.assert_allclose(estimator.predict(X), boosters[0].predict(X), rtol=1e-12)


def test_group_counts_costs_and_linear_leaves_each_help() -> None:
    profile, test = additive_profile(60), additive_profile(300, seed=1)

    def error(context: Context | None, **keywords: float) -> float:
        estimator = GbdtRegressor(random_state=0, **keywords).fit(profile.X, profile.y, context=context)
        return float(np.abs(estimator.predict(test.X) / test.y - 1).mean())

    assert error(GROUPS) < 0.8 * error(None)
    assert error(CONTEXT) < 0.8 * error(GROUPS)
    assert error(GROUPS) < 0.8 * error(GROUPS, linear_lambda=1e9)


def test_the_unit_of_the_costs_does_not_matter() -> None:
    assert CONTEXT.costs is not None
    in_seconds = tuple(Cost(cost.columns, cost.value / 1000) for cost in CONTEXT.costs)
    predictions = [
        GbdtRegressor(random_state=0).fit(PROFILE.X, PROFILE.y, context=each).predict(PROFILE.X)
        for each in (CONTEXT, dataclasses.replace(CONTEXT, costs=in_seconds))
    ]
    np.testing.assert_allclose(*predictions, rtol=1e-6)
    free = tuple(Cost(cost.columns, 0.0) for cost in CONTEXT.costs)
    estimator = GbdtRegressor(n_estimators=2).fit(
        PROFILE.X, PROFILE.y, context=dataclasses.replace(CONTEXT, costs=free)
    )
    assert np.isfinite(estimator.predict(PROFILE.X)).all()


@pytest.mark.parametrize(
    ("name", "value"), [("feature", 35), ("feature", -1), ("leaf_feature", 35), ("children", 3), ("children", -5)]
)
def test_an_index_that_leads_nowhere_is_refused(name: str, value: int) -> None:
    arrays = {key: array.copy() for key, array in fitted().to_arrays().items()}
    arrays[name].flat[0] = value
    with pytest.raises(ValueError, match="out of range"):
        GbdtRegressor().from_arrays(arrays)


def test_a_split_that_leads_back_to_itself_is_refused() -> None:
    arrays = dict(fitted().to_arrays())
    arrays["children"] = np.zeros_like(arrays["children"])
    with pytest.raises(ValueError, match="out of range"):
        GbdtRegressor().from_arrays(arrays)


@pytest.mark.parametrize(
    "name", ["products", "counts", "feature", "threshold", "children", "constant", "leaf_feature", "leaf_coef"]
)
def test_arrays_of_another_shape_or_kind_are_refused(name: str) -> None:
    arrays = dict(fitted().to_arrays())
    for wrong in (arrays[name].ravel()[:-1], arrays[name].astype("complex"), None):
        broken = {key: array for key, array in {**arrays, name: wrong}.items() if array is not None}
        with pytest.raises(ValueError, match=r"gbdt|trees|products"):
            GbdtRegressor().from_arrays(broken)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_arrays_make_a_prediction_leave_its_bounds(data: st.DataObject) -> None:
    arrays = {key: array.copy() for key, array in fitted().to_arrays().items()}
    for name in ("feature", "children", "leaf_feature"):
        index = data.draw(st.integers(0, arrays[name].size - 1))
        arrays[name].flat[index] = data.draw(st.integers(-8, 40))
    try:
        estimator = GbdtRegressor().from_arrays(arrays)
    except ValueError:
        return
    assert np.isfinite(estimator.predict(PROFILE.X)).all()
