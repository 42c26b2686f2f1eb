"""A new device from a few values and from other devices."""

import dataclasses

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.prediction.evaluation.comparison import compare
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.predictor import Context
from latbench.records.profile import Profile
from latbench.testing.additive_profile import additive_profile
from latbench_transfer import TransferRegressor

TRANSFER = "latbench_transfer:TransferRegressor"
SOURCES = [additive_profile(80, seed=device, noise=0.02, device=device) for device in (1, 2, 3)]


def mixture(n: int, *, seed: int, noise: float = 0.0) -> Profile:
    """Return a device that takes what two others take, in shares, and 0.4 ms besides."""
    first, second = (additive_profile(n, seed=seed, device=device) for device in (1, 3))
    values = (0.4 + 0.7 * first.y + 1.5 * second.y) * np.exp(noise * np.random.default_rng(seed).standard_normal(n))
    measurements = [
        dataclasses.replace(m, value=value, low=value, high=value) for m, value in zip(first.first, values, strict=True)
    ]
    return dataclasses.replace(first, measurements=tuple(measurements))


def test_ten_values_of_a_device_that_resembles_others_are_enough() -> None:
    profile, test = mixture(10, seed=5, noise=0.02), mixture(200, seed=6)

    def error(predictor: str, sources: list[Profile]) -> float:
        return float(np.abs(fit(profile, predictor, sources=sources).predict(test.X) / test.y - 1).mean())

    assert error(TRANSFER, SOURCES) < 0.02
    assert error(TRANSFER, SOURCES) < error("mlp", []) / 2


def test_shares_are_found_and_never_negative() -> None:
    profile = mixture(60, seed=5)
    exact = [additive_profile(300, seed=9, device=device) for device in (1, 2, 3)]
    shares = fit(profile, TRANSFER, sources=exact).estimator.shares_
    np.testing.assert_allclose(shares, [0.7, 0, 1.5], atol=0.1)
    falling = dataclasses.replace(
        profile,
        measurements=tuple(dataclasses.replace(m, value=20 - m.value, low=0.1, high=30.0) for m in profile.first),
    )
    assert (fit(falling, TRANSFER, sources=exact).estimator.shares_ >= 0).all()


def test_without_sources_it_is_refused() -> None:
    profile = additive_profile(20)
    with pytest.raises(
        UsageError, match=r"other devices' profiles: give one or more \(latbench fit --sources other\.db\)"
    ):
        fit(profile, TRANSFER)
    with pytest.raises(UsageError, match="cannot be compared: it learns from other devices"):
        compare(profile, [TRANSFER], train_sizes=(10,), seeds=1)
    with pytest.raises(ValueError, match="give one or more as sources"):
        TransferRegressor().fit(profile.X, profile.y, context=Context(tuple(profile.space.columns)))


def test_it_is_compared_beside_predictors_that_do_without() -> None:
    comparison = compare(mixture(60, seed=5), ["ridge", TRANSFER], train_sizes=(10,), seeds=2, sources=SOURCES)
    ridge, transfer = comparison.rows[1:]
    assert transfer.mean.mape < ridge.mean.mape / 2


def test_a_file_tells_what_it_was_fitted_from(tmp_path) -> None:  # type: ignore[no-untyped-def]
    trained = fit(mixture(20, seed=5), TRANSFER, sources=SOURCES[:2])
    save_predictor(tmp_path / "transfer", trained)
    again = load_predictor(tmp_path / "transfer")
    assert again.facts["sources"] == "adding machine (null), adding machine (null)"
    np.testing.assert_array_equal(again.estimator.shares_, trained.estimator.shares_)


@pytest.mark.parametrize("name", ["coef", "intercept", "products", "sums", "shares"])
def test_arrays_that_are_no_line_are_refused(name: str) -> None:
    arrays = dict(fit(mixture(20, seed=5), TRANSFER, sources=SOURCES).estimator.to_arrays())
    TransferRegressor().from_arrays(arrays)
    del arrays[name]
    with pytest.raises(ValueError, match="'coef', 'intercept', 'products', 'sums', 'shares'"):
        TransferRegressor().from_arrays(arrays)
