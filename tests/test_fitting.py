"""From a profile to a predictor that knows what it predicts."""

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from latbench.errors import DataError, ParseError, PluginError, ShapeError, UsageError
from latbench.fitting import fit, fit_estimator
from latbench.testing.additive_profile import additive_profile
from latbench.trained_predictor import differentiable_predictors


def test_a_trained_predictor_knows_how_it_was_fitted() -> None:
    profile = additive_profile(40, noise=0.01, duplicates=20)
    trained = fit(profile, "ridge", samples=30, seed=5, alpha=0.5)
    assert (trained.unit, trained.space, trained.conditions) == ("ms", profile.space, profile.conditions)
    assert (trained.facts["samples"], trained.facts["seed"]) == (30, 5)
    assert 0 < trained.facts["noise_floor"] < 0.03
    assert trained.estimator.get_params()["alpha"] == 0.5
    alone = fit_estimator("ridge", profile.X[:30], profile.y[:30], facts=profile.column_facts(), params={"alpha": 0.5})
    np.testing.assert_array_equal(trained.predict(profile.X), alone.predict(profile.X))


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
    assert isinstance(trained.estimator, ExtraTreesRegressor)
    assert trained.estimator.n_estimators == 3


def test_a_predictor_without_gradients_says_which_ones_have_them() -> None:
    assert differentiable_predictors() == ["lookup", "mlp"]
    with pytest.raises(TypeError, match="predictor 'ridge' is not differentiable: use 'lookup' or 'mlp'"):
        fit(additive_profile(20), "ridge").module()


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


@pytest.mark.parametrize("label", [np.nan, np.inf, 0.0, -1.0])
def test_labels_that_no_device_measures_are_refused(label: float) -> None:
    profile = additive_profile(20)
    y = profile.y.copy()
    y[3] = label
    with pytest.raises(DataError, match="zero, negative or not finite"):
        fit_estimator("ridge", profile.X, y, facts=profile.column_facts())
