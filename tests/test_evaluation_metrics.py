"""Metrics on values that can be checked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.errors import DataError, ShapeError
from latbench.prediction.evaluation.metrics import Accuracy


def test_errors_are_relative_to_the_measured_value() -> None:
    accuracy = Accuracy.of([10.0, 20.0, 30.0, 40.0], [10.4, 19.1, 27.6, 60.0])
    assert accuracy.mape == pytest.approx((0.04 + 0.045 + 0.08 + 0.5) / 4)
    assert accuracy.within_5 == pytest.approx(0.5)
    assert accuracy.within_10 == pytest.approx(0.75)
    assert accuracy.rmspe == pytest.approx(math.sqrt((0.04**2 + 0.045**2 + 0.08**2 + 0.5**2) / 4))
    assert accuracy.spearman == accuracy.kendall == pytest.approx(1.0)


def test_one_swapped_pair_of_four_costs_a_third_of_kendalls_tau() -> None:
    accuracy = Accuracy.of([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0])
    assert accuracy.kendall == pytest.approx(4 / 6)
    assert accuracy.spearman == pytest.approx(0.8)


def test_a_constant_prediction_has_no_rank() -> None:
    accuracy = Accuracy.of([1.0, 2.0], [1.5, 1.5])
    assert math.isnan(accuracy.spearman)
    assert math.isnan(accuracy.kendall)


@given(st.lists(st.floats(0.1, 1e3), min_size=2, max_size=20), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_no_metric_depends_on_the_unit(measured: list[float], unit: float, seed: int) -> None:
    truth = np.array(measured)
    predicted = truth * np.random.default_rng(seed).uniform(0.8, 1.2, len(truth))
    here, there = Accuracy.of(truth, predicted), Accuracy.of(truth * unit, predicted * unit)
    assert here.mape == pytest.approx(there.mape)
    assert here.rmspe == pytest.approx(there.rmspe)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2,\) and predicted \(3,\)"):
        Accuracy.of([1.0, 2.0], [1.0, 2.0, 3.0])
    for measured in ([], [0.0], [-1.0], [math.nan]):
        with pytest.raises(DataError, match="positive"):
            Accuracy.of(measured, measured)


def test_mean_and_spread_over_seeds() -> None:
    several = [Accuracy(mape, 0, 0, 0, 0, 0) for mape in (0.01, 0.03)]
    assert Accuracy.mean(several).mape == pytest.approx(0.02)
    assert Accuracy.spread(several).mape == pytest.approx(0.01 * math.sqrt(2))
    assert math.isnan(Accuracy.spread(several[:1]).mape)
