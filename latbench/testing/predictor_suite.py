"""The contract of a predictor as tests: a plug-in's test file is one subclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from latbench.plugins import PREDICTORS, configure
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.prediction.plugin import takes_context
from latbench.prediction.trained import TrainedPredictor
from latbench.predictor import DifferentiablePredictor, UsesSources
from latbench.records.measurement import Measurement
from latbench.records.profile import Profile
from latbench.testing.additive_profile import additive_profile


class PredictorSuite:
    """Every promise of `latbench.predictor`.

    Subclass it and set the entry-point name::

        class TestMyPredictor(PredictorSuite):
            predictor = "mine"

    `quick` holds keywords that make ``check_estimator`` fit faster, as scikit-learn lowers ``max_iter`` of its own;
    `known_gaps` the names of its checks that are known to fail, with the reason: one that passes fails the suite.
    """

    predictor: ClassVar[str]
    quick: ClassVar[Mapping[str, Any]] = {}
    known_gaps: ClassVar[Mapping[str, str]] = {}

    def create(self) -> Any:
        """Return the predictor under test, not fitted."""
        return configure(PREDICTORS, self.predictor, self.quick)

    def sources(self) -> tuple[Profile, ...]:
        """Return profiles of other devices, for a predictor that learns from them."""
        if not isinstance(self.create(), UsesSources):
            return ()
        return tuple(additive_profile(100, seed=device, device=device) for device in (1, 2))

    def fit(self, profile: Profile) -> TrainedPredictor:
        """Return the predictor as latbench fits it."""
        return fit(profile, self.predictor, sources=self.sources())

    def fitted_module(self, samples: int) -> Any:
        """Return the module of a differentiable predictor; skip the test for others."""
        if not isinstance(self.create(), DifferentiablePredictor):
            pytest.skip(f"{self.predictor} is not differentiable")
        return self.fit(additive_profile(samples)).module()

    def test_scikit_learn_accepts_it(self) -> None:
        """``check_estimator`` is scikit-learn's published contract."""
        from sklearn.utils.estimator_checks import check_estimator

        gaps = dict(self.known_gaps)
        results = check_estimator(self.create(), expected_failed_checks=gaps, on_fail=None, on_skip=None)
        failed = {r["check_name"]: r["exception"] for r in results if r["status"] in {"failed", "xfail"}}
        assert failed.keys() == gaps.keys(), failed

    def test_a_grid_search_fits_it(self) -> None:
        """scikit-learn's model selection works, with what the columns mean."""
        from sklearn.model_selection import GridSearchCV

        profile, estimator = additive_profile(60), self.create()
        known = {"context": profile.context(self.sources())} if takes_context(estimator) else {}
        grid = {name: [value] for name, value in estimator.get_params().items()}
        search = GridSearchCV(estimator, grid, cv=3, error_score="raise").fit(profile.X, profile.y, **known)
        assert np.isfinite(search.best_score_)

    def test_a_context_belongs_to_a_fit(self) -> None:
        """A clone learns the same from the same context, and a fit keeps nothing of the fit before."""
        from sklearn.base import clone

        profile, other, estimator = additive_profile(60), additive_profile(60, device=3), self.create()
        if not takes_context(estimator):
            pytest.skip(f"{self.predictor} takes no context")
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=0)
        again, context = clone(estimator), profile.context(self.sources())
        estimator.fit(other.X, other.y, context=other.context(self.sources()))
        predictions = [
            each.fit(profile.X, profile.y, context=context).predict(profile.X) for each in (estimator, again)
        ]
        np.testing.assert_array_equal(*predictions)

    def test_a_context_of_other_columns_is_refused(self) -> None:
        """Costs and groups of another space would be taken for those of this one."""
        profile, estimator = additive_profile(20), self.create()
        if not takes_context(estimator):
            pytest.skip(f"{self.predictor} takes no context")
        with pytest.raises(ValueError, match="30 columns for 29 columns"):
            estimator.fit(profile.X[:, 1:], profile.y, context=profile.context(self.sources()))

    def test_it_learns_a_sum(self) -> None:
        """Latency is close to a sum: a predictor off by 5% after 200 noiseless architectures learns too slowly."""
        test = additive_profile(300, seed=1)
        error = np.abs(self.fit(additive_profile(200)).predict(test.X) / test.y - 1).mean()
        assert error < 0.05 < np.abs(test.y.mean() / test.y - 1).mean()

    def test_its_predictions_have_no_unit(self) -> None:
        """A profile in seconds and one in milliseconds give the same relative predictions."""
        profile, test = additive_profile(80, noise=0.02), additive_profile(40, seed=1)
        in_seconds = dataclasses.replace(profile, measurements=tuple(map(_in_seconds, profile.measurements)))
        expected = self.fit(profile).predict(test.X)
        np.testing.assert_allclose(1000 * self.fit(in_seconds).predict(test.X), expected, rtol=1e-5)

    def test_a_file_restores_the_same_predictions(self, tmp_path: Path) -> None:
        """Saving and loading changes no bit."""
        profile = additive_profile(80)
        trained = self.fit(profile)
        save_predictor(tmp_path / "predictor.safetensors", trained)
        again = load_predictor(tmp_path / "predictor.safetensors", profile.space)
        np.testing.assert_array_equal(again.predict(profile.X), trained.predict(profile.X))
        assert str(again.estimator) == str(trained.estimator)

    def test_the_module_agrees_with_predict(self) -> None:
        """A search optimises the number that the predictor reports, whatever the shape of the batch."""
        module, profile = self.fitted_module(80), additive_profile(80)
        trained = self.fit(profile)
        relaxed = profile.X.reshape(20, 4, -1).mean(axis=1)
        for rows in (profile.X, relaxed):
            expected, encoding = trained.predict(rows), torch.from_numpy(rows)
            with torch.no_grad():
                assert module(encoding).dtype == torch.float32
                np.testing.assert_allclose(module(encoding), expected, rtol=1e-4)
                np.testing.assert_allclose(
                    module(encoding.view(2, 2, -1, rows.shape[1])).flatten(), expected, rtol=1e-4
                )
                np.testing.assert_allclose(module(encoding[0]), expected[0], rtol=1e-4)

    def test_its_gradients_are_right(self) -> None:
        """Automatic and numerical gradients agree at relaxed encodings, in double precision."""
        module = self.fitted_module(80).double()
        relaxed = torch.from_numpy(additive_profile(12).X.reshape(3, 4, -1).mean(axis=1)).double().requires_grad_()
        assert torch.autograd.gradcheck(module, (relaxed,))
        (gradient,) = torch.autograd.grad(module(relaxed).sum(), relaxed)
        assert gradient.abs().max() > 0

    def test_a_relaxed_encoding_predicts_an_expected_value(self) -> None:
        """The mean of the encodings of some architectures predicts the mean of their values."""
        module, profile = self.fitted_module(200), additive_profile(400, seed=2)
        expected = profile.y.reshape(-1, 4).mean(axis=1)
        with torch.no_grad():
            predicted = module(torch.from_numpy(profile.X.reshape(-1, 4, profile.X.shape[1]).mean(axis=1)))
        assert np.abs(predicted.numpy() / expected - 1).mean() < 0.03


def _in_seconds(measured: Measurement) -> Measurement:
    value, low, high = measured.value / 1000, measured.low / 1000, measured.high / 1000
    return dataclasses.replace(measured, value=value, low=low, high=high)
