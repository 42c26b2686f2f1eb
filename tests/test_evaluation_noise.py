"""The noise floor is what a perfect predictor shows."""

import numpy as np
import pytest

from latbench.errors import ShapeError
from latbench.prediction.evaluation.metrics import Accuracy
from latbench.records.noise_floor import noise_floor


def pairs(cv: float, n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(1, 5, (n, 1)) * np.exp(cv * rng.standard_normal((n, 2)))


@pytest.mark.parametrize("cv", [0.002, 0.02])
def test_the_floor_of_normal_noise(cv: float) -> None:
    floor = noise_floor(pairs(cv))
    assert floor.robust_cv == pytest.approx(cv, rel=0.05)
    assert floor.rms_cv == pytest.approx(cv, rel=0.05)
    assert floor.mape == pytest.approx(0.798 * cv, rel=0.05)


def test_a_predictor_that_knows_the_truth_scores_the_floor() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 5, 4000)
    first, second = truth * np.exp(0.03 * rng.standard_normal((2, 4000)))
    assert Accuracy.of(first, truth).mape == pytest.approx(
        noise_floor(np.stack([first, second], axis=1)).mape, rel=0.05
    )


def test_outliers_move_all_but_the_robust_estimate() -> None:
    noisy = pairs(0.01)
    noisy[::50, 1] *= 2
    floor, clean = noise_floor(noisy), noise_floor(pairs(0.01))
    assert floor.robust_cv == pytest.approx(clean.robust_cv, rel=0.1)
    assert floor.rms_cv > 3 * clean.rms_cv
    assert floor.mape > 1.5 * clean.mape


def test_too_few_pairs_give_a_reason_and_no_number() -> None:
    floor = noise_floor(pairs(0.01, 4))
    assert (floor.mape, floor.robust_cv, floor.rms_cv, floor.pairs) == (None, None, None, 4)
    assert "4 blind duplicates" in str(floor)
    with pytest.raises(ShapeError):
        noise_floor(np.ones(10))
