"""The estimate recovers known costs through drift, outliers and one-sided noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.measure.estimate import Visits, fit

WORKLOADS = 16
COSTS = np.linspace(1.0, 3.0, WORKLOADS)


def visits(rounds: int, seed: int, *, drift: float = 0.0, outliers: float = 0.0, noise: float = 0.01) -> Visits:
    rng = np.random.default_rng(seed)
    workload = np.concatenate([rng.permutation(WORKLOADS) for _ in range(rounds)])
    ms = COSTS[workload] * np.exp(noise * np.abs(rng.standard_normal(len(workload))))
    ms *= np.exp(drift * np.sin(np.linspace(0, 7, len(workload))))
    slow = rng.random(len(workload)) < outliers
    ms[slow] *= rng.uniform(1.5, 5, slow.sum())
    return Visits(workload, ms)


def ratio_errors(log_ms: np.ndarray) -> np.ndarray:
    error = log_ms - np.log(COSTS)
    return np.abs(error - np.median(error))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), drift=st.floats(0, 0.3), outliers=st.floats(0, 0.3))
def test_ratios_survive_drift_and_outliers(seed: int, drift: float, outliers: float) -> None:
    fitted = fit(visits(24, seed, drift=drift, outliers=outliers), WORKLOADS)
    assert ratio_errors(fitted.log_ms).mean() < 0.005


def test_without_the_drift_term_the_same_data_would_be_wrong() -> None:
    data = visits(24, 0, drift=0.3)
    plain = np.array([np.log(np.median(data.ms[data.workload == k])) for k in range(WORKLOADS)])
    assert ratio_errors(plain).mean() > 3 * ratio_errors(fit(data, WORKLOADS).log_ms).mean()


def test_the_drift_is_found() -> None:
    data = visits(40, 1, drift=0.2)
    found = fit(data, WORKLOADS).drift
    assert np.corrcoef(found, np.sin(np.linspace(0, 7, len(found))))[0, 1] > 0.98


def test_the_interval_holds_the_truth() -> None:
    inside = []
    for seed in range(60):
        fitted = fit(visits(24, seed, drift=0.1, outliers=0.1, noise=0.03), WORKLOADS)
        error = fitted.log_ms - np.log(COSTS)
        inside.append(np.abs(error - error.mean()) <= fitted.half_width())
    assert 0.85 < np.mean(inside) < 0.995


def test_more_rounds_narrow_the_interval() -> None:
    few, many = (fit(visits(rounds, 3), WORKLOADS).half_width().mean() for rounds in (16, 128))
    assert many < few / 2


def test_one_visit_has_no_interval() -> None:
    assert np.isinf(fit(visits(1, 0), WORKLOADS).half_width()).all()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_estimate_scales_with_the_unit(scale: float) -> None:
    data = visits(16, 0)
    scaled = fit(Visits(data.workload, data.ms * scale), WORKLOADS)
    np.testing.assert_allclose(scaled.log_ms, fit(data, WORKLOADS).log_ms + np.log(scale), atol=1e-9)


def test_one_workload_alone_keeps_its_noise_in_the_interval() -> None:
    rng = np.random.default_rng(0)
    fitted = fit(Visits(np.zeros(64, int), np.exp(0.2 * rng.standard_normal(64))), 1)
    assert not fitted.drift.any()
    assert fitted.half_width()[0] > 0.03
