"""From a profile to a predictor that knows what it predicts."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from latbench.errors import DataError, ParseError, PluginError, PredictorFileError, ShapeError, UsageError
from latbench.prediction.evaluation.comparison import compare
from latbench.prediction.fit import fit
from latbench.prediction.plugin import fit_estimator, names_of
from latbench.prediction.trained import is_differentiable, predict_values
from latbench.spaces.darts import DartsSpace
from latbench.testing.additive_profile import additive_profile


def test_a_trained_predictor_knows_how_it_was_fitted() -> None:
    profile = additive_profile(40, noise=0.01, duplicates=20)
    trained = fit(profile, "ridge", samples=30, seed=5, alpha=0.5)
    assert (trained.unit, trained.space, trained.conditions) == ("ms", profile.space, profile.conditions)
    assert (trained.facts["samples"], trained.facts["seed"]) == (30, 5)
    assert 0 < trained.facts["noise_floor"] < 0.03
    assert trained.estimator.get_params()["regressor__alpha"] == 0.5
    alone = fit_estimator("ridge", profile.X[:30], profile.y[:30], context=profile.context(), params={"alpha": 0.5})
    np.testing.assert_array_equal(trained.predict(profile.X), alone.predict(profile.X))


@pytest.mark.parametrize("given", [Ridge, Ridge()])
def test_a_class_in_place_of_a_name_is_refused(given: object) -> None:
    with pytest.raises(UsageError, match=r"a predictor is named by a text: give 'sklearn\.linear_model\._ridge:Ridge'"):
        fit(additive_profile(20), given)  # type: ignore[arg-type]


def test_architectures_their_texts_and_encodings_predict_the_same() -> None:
    profile = additive_profile(40)
    trained = fit(profile, "ridge")
    expected = trained.predict(profile.X)
    np.testing.assert_array_equal(trained.predict(profile.architectures), expected)
    np.testing.assert_array_equal(trained.predict([str(a) for a in profile.architectures]), expected)
    assert trained.predict([]).shape == (0,)


def test_what_is_no_architecture_is_refused() -> None:
    trained = fit(additive_profile(20), "ridge")
    with pytest.raises(ParseError):
        trained.predict(["nonsense"])
    with pytest.raises(UsageError, match=r"give a list, predict\(\['nonsense'\]\)"):
        trained.predict("nonsense")
    for encodings in (np.ones((3, 7)), np.ones(30)):
        with pytest.raises(ShapeError, match=r"\(n, 30\)"):
            trained.predict(encodings)


def test_a_seed_makes_a_predictor_repeatable() -> None:
    profile = additive_profile(40)
    predictions = [
        fit(profile, "sklearn.ensemble:ExtraTreesRegressor", seed=s).predict(profile.X + 0.3) for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(predictions[0], predictions[1])
    assert not np.array_equal(predictions[0], predictions[2])


def test_any_scikit_learn_regressor_is_a_predictor() -> None:
    trained = fit(additive_profile(40), "sklearn.ensemble:ExtraTreesRegressor", n_estimators=3)
    assert isinstance(trained.estimator.regressor_, ExtraTreesRegressor)
    assert trained.estimator.regressor_.n_estimators == 3


UNIT_FREE = {
    "ridge": {},
    "mlp": {"steps": 50},
    "gbdt": {"n_estimators": 50},
    "lookup": {},
    "sklearn.svm:SVR": {},
    "sklearn.ensemble:RandomForestRegressor": {"n_estimators": 10},
    "sklearn.gaussian_process:GaussianProcessRegressor": {},
    "sklearn.linear_model:GammaRegressor": {},
}


@pytest.mark.parametrize("predictor", UNIT_FREE)
@settings(max_examples=4, deadline=None)
@given(unit=st.floats(1e-6, 1e6))
def test_predictions_follow_the_unit_of_the_labels(predictor: str, unit: float) -> None:
    profile, params = additive_profile(60, noise=0.02), UNIT_FREE[predictor]
    context = profile.context()
    assert context.costs is not None
    costs = tuple(dataclasses.replace(cost, value=unit * cost.value) for cost in context.costs)
    scaled = dataclasses.replace(context, costs=costs)
    expected = fit_estimator(predictor, profile.X, profile.y, context=context, params=params)
    given_unit = fit_estimator(predictor, profile.X, unit * profile.y, context=scaled, params=params)
    X = additive_profile(40, seed=1).X
    np.testing.assert_allclose(given_unit.predict(X), unit * expected.predict(X), rtol=1e-5)


@pytest.mark.parametrize("predictor", ["sklearn.svm:SVR", "sklearn.gaussian_process:GaussianProcessRegressor"])
def test_defaults_that_presume_standardised_labels_learn_from_a_tenth_of_a_millisecond(predictor: str) -> None:
    profile, test = additive_profile(200), additive_profile(100, seed=1)
    trained = fit_estimator(predictor, profile.X, profile.y / 50, context=profile.context())
    constant = np.abs(profile.y.mean() / test.y - 1).mean()
    assert np.abs(50 * trained.predict(test.X) / test.y - 1).mean() < constant / 2


@pytest.mark.parametrize("params", [{}, {"criterion": "poisson"}])
def test_losses_for_positive_labels_get_positive_labels(params: dict[str, str]) -> None:
    name = "sklearn.ensemble:RandomForestRegressor" if params else "sklearn.linear_model:PoissonRegressor"
    profile = additive_profile(60)
    fitted = fit_estimator(name, profile.X, profile.y, context=profile.context(), params=params)
    assert (fitted.predict(profile.X) > 0).all()


def test_a_predictor_without_gradients_says_which_ones_have_them() -> None:
    assert set(names_of(is_differentiable)) == {"additive", "lookup", "mlp", "transfer"}
    with pytest.raises(TypeError, match=r"'ridge' is not differentiable, and .* use 'additive' or 'lookup' or 'mlp'"):
        fit(additive_profile(20, space=DartsSpace()), "ridge").module()


@pytest.mark.parametrize("samples", [-1, 0, 1, 21])
def test_sample_counts_that_the_profile_cannot_serve_are_refused(samples: int) -> None:
    with pytest.raises(DataError, match="holds 20"):
        fit(additive_profile(20), "ridge", samples=samples)


def test_mistakes_of_the_user_have_a_message() -> None:
    profile = additive_profile(20)
    with pytest.raises(PluginError, match="did you mean 'ridge'"):
        fit(profile, "rigde")
    with pytest.raises(UsageError, match="alfa"):
        fit(profile, "ridge", alfa=1)
    with pytest.raises(DataError, match="no measured architecture"):
        fit(dataclasses.replace(profile, measurements=()), "ridge")
    with pytest.raises(DataError, match="too few"):
        fit(dataclasses.replace(profile, measurements=profile.measurements[:1]), "ridge")


@pytest.mark.parametrize("name", ["sklearn.cluster:KMeans", "sklearn.svm:SVC", "os:getcwd"])
def test_what_is_no_regressor_is_refused(name: str) -> None:
    profile = additive_profile(20)
    message = (
        "not a scikit-learn regressor: name a class with fit and predict|not a class: name a class as 'module:Class'"
    )
    with pytest.raises(UsageError, match=message):
        fit(profile, name)
    with pytest.raises(UsageError, match=message):
        compare(profile, [name], train_sizes=(10,), seeds=1)


@pytest.mark.parametrize("alpha", ["abc", -5])
def test_a_keyword_that_scikit_learn_refuses_is_refused_in_its_words(alpha: object) -> None:
    with pytest.raises(UsageError, match=r"'ridge' cannot be fitted with .*'alpha' parameter of Ridge must be a float"):
        fit(additive_profile(20), "ridge", alpha=alpha)


class Stubborn(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Learns nothing, and says so in one way or another."""

    def __init__(self, answer: str = "raise") -> None:
        self.answer = answer

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Stubborn":
        self.fitted_ = True
        if self.answer == "never":
            raise RuntimeError("not today")
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        if self.answer == "raise":
            raise ZeroDivisionError("by nothing")
        return np.ones((len(X), 2))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("raise", r"'plugin' cannot predict \(ZeroDivisionError: by nothing\)"),
        ("pairs", r"'plugin' predicts \(3, 2\) for 3 rows"),
    ],
)
def test_a_foreign_predictor_that_fails_is_named(answer: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predict_values(Stubborn(answer), np.ones((3, 2)), "plugin")


def test_a_foreign_fit_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latbench.prediction.plugin.configure", lambda kind, name, params: Stubborn("never"))
    profile = additive_profile(20)
    with pytest.raises(UsageError, match=r"'mine' cannot be fitted \(RuntimeError: not today\)"):
        fit_estimator("mine", profile.X, profile.y, context=profile.context())


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sklearn.svm:SVR", {}, "SVR is not among linear models, forests, .*: choose from linear models"),
        ("sklearn.neighbors:KNeighborsRegressor", {}, "KNeighborsRegressor is not among"),
        ("sklearn.ensemble:GradientBoostingRegressor", {"init": DecisionTreeRegressor()}, "start from another"),
        ("sklearn.ensemble:BaggingRegressor", {"estimator": SVR()}, "BaggingRegressor is not among"),
        ("sklearn.pipeline:Pipeline", {"steps": [("a", StandardScaler()), ("b", SVR())]}, "SVR is not among"),
        ("sklearn.gaussian_process:GaussianProcessRegressor", {"normalize_y": True}, "standardised already"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_fit(
    name: str, params: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = additive_profile(40)
    monkeypatch.setattr("latbench.prediction.fit.fit_estimator", lambda *args, **keywords: pytest.fail("fitted"))
    with pytest.raises(PredictorFileError, match=message):
        fit(profile, name, **params)
    monkeypatch.undo()
    if not params:
        assert compare(profile, [name], train_sizes=(20,), seeds=1).predictors == [name]


@pytest.mark.parametrize("label", [np.nan, np.inf, 0.0, -1.0])
def test_labels_that_no_device_measures_are_refused(label: float) -> None:
    profile = additive_profile(20)
    y = profile.y.copy()
    y[3] = label
    with pytest.raises(DataError, match="zero, negative or not finite"):
        fit_estimator("ridge", profile.X, y, context=profile.context())


def test_a_prediction_that_is_no_number_is_refused() -> None:
    class Lost:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.full(len(X), np.nan)

    with pytest.raises(UsageError, match="predictor 'lost' predicts what is not a number for row 1 of 2"):
        predict_values(Lost(), np.zeros((2, 3)), "lost")  # type: ignore[arg-type]
