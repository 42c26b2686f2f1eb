"""The line that finds out whether dead operations cost something."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from latbench.prediction.few_samples.robust_line import student_weights
from latbench.prediction.file import load_predictor, save_predictor
from latbench.prediction.fit import fit
from latbench.records.profile import Profile
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.spaces.nasbench201.cell import EDGES, NasBench201Cell
from latbench.testing import PredictorSuite
from latbench.testing.additive_profile import additive_profile
from latbench_additive import AdditiveRegressor

ADDITIVE = "latbench_additive:AdditiveRegressor"
COSTS = {"none": 0.0, "skip_connect": 0.1, "nor_conv_1x1": 1.0, "nor_conv_3x3": 4.0, "avg_pool_3x3": 0.5}


class TestAdditive(PredictorSuite):
    predictor = ADDITIVE


def compiled(cell: NasBench201Cell) -> float:
    """Return what a compiler leaves of a cell: operations whose output is used and whose input is not zero."""
    there = [edge for edge, kind in zip(EDGES, cell.operations, strict=True) if kind != "none"]
    reached, used = {0}, {3}
    for source, node in sorted(there, key=lambda edge: edge[1]):
        reached |= {node} if source in reached else set()
    for source, node in sorted(there, key=lambda edge: -edge[0]):
        used |= {source} if node in used else set()
    ran = zip(EDGES, cell.operations, strict=True)
    return 1.0 + sum(COSTS[kind] for (source, node), kind in ran if source in reached and node in used)


def compiled_profile(n: int, *, seed: int = 0, noise: float = 0.0, outliers: int = 0) -> Profile:
    """Return measurements of a device that runs no dead operation; some are three times too slow."""
    profile, rng = additive_profile(n, seed=seed, with_operations=False), np.random.default_rng(seed)
    values = np.array([compiled(cell) for cell in profile.architectures]) * np.exp(noise * rng.standard_normal(n))  # type: ignore[arg-type]
    values[:outliers] *= 3
    rows = zip(profile.measurements, values.tolist(), strict=True)
    return dataclasses.replace(
        profile, measurements=tuple(dataclasses.replace(m, value=v, low=v, high=v) for m, v in rows)
    )


def error(trained_on: Profile, test: Profile, predictor: str = ADDITIVE) -> float:
    return float(np.abs(fit(trained_on, predictor).predict(test.X) / test.y - 1).mean())


def without_graph(profile: Profile) -> float:
    """Return the error of the line that knows nothing of the graph."""
    context = dataclasses.replace(profile.context(), graphs=())
    test = compiled_profile(300, seed=1)
    line = AdditiveRegressor().fit(profile.X, profile.y, context=context)
    return float(np.abs(line.predict(test.X) / test.y - 1).mean())


def test_dead_operations_are_found() -> None:
    profile = compiled_profile(100, noise=0.02)
    assert error(profile, compiled_profile(300, seed=1)) < 0.03
    assert without_graph(profile) > 0.1


@pytest.mark.parametrize("n", [20, 100])
def test_where_they_run_the_line_stays_as_it_is(n: int) -> None:
    profile = additive_profile(n, noise=0.02, with_operations=False)
    trained = fit(profile, ADDITIVE)
    assert not len(trained.estimator.expansion_.products)  # type: ignore[attr-defined]


def test_the_networks_of_mlp_start_from_that_line() -> None:
    assert error(compiled_profile(100, noise=0.02), compiled_profile(300, seed=1), "mlp") < 0.03


def test_outliers_do_not_rule() -> None:
    test = compiled_profile(300, seed=1)
    clean, dirty = (error(compiled_profile(150, noise=0.02, outliers=outliers), test) for outliers in (0, 10))
    assert dirty < 1.5 * clean + 0.005


def drawn_and_relaxed(predictor: str, sharpness: float) -> tuple[float, float]:
    """Return the mean prediction for the cells that alphas draw, all of them, and the one for the expected encoding."""
    estimator = fit(compiled_profile(200, noise=0.02), predictor).estimator
    space = NasBench201Space()
    alphas = [sharpness * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))]
    probabilities = alphas[0].softmax(dim=-1).double().numpy()
    choices = np.indices((5,) * 6).reshape(6, -1).T
    chance = probabilities[np.arange(6), choices].prod(axis=1)
    expected = float(chance @ estimator.predict(np.eye(5)[choices].reshape(-1, 30)))
    return expected, float(estimator.predict(space.relaxation().expected(alphas).numpy()[None])[0])


def test_its_relaxed_prediction_is_the_expected_one() -> None:
    expected, relaxed = drawn_and_relaxed(ADDITIVE, 2.0)
    assert relaxed == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_the_relaxed_prediction_of_mlp_is_close_to_the_expected_one(sharpness: float) -> None:
    expected, relaxed = drawn_and_relaxed("mlp", sharpness)
    assert relaxed == pytest.approx(expected, rel=0.02)


def test_what_it_learnt_of_a_graph_is_in_its_file(tmp_path: Path) -> None:
    profile = compiled_profile(100, noise=0.02)
    trained = fit(profile, ADDITIVE)
    assert len(trained.estimator.expansion_.sums)  # type: ignore[attr-defined]
    save_predictor(tmp_path / "predictor", trained)
    again = load_predictor(tmp_path / "predictor", profile.space)
    np.testing.assert_array_equal(again.predict(profile.X), trained.predict(profile.X))


def test_tails_weigh_little_and_noise_alone_hardly_changes_weights() -> None:
    errors = np.random.default_rng(0).normal(size=500)
    assert student_weights(errors, np.ones(500)).min() > 0.1
    errors[0] = 50.0
    assert student_weights(errors, np.ones(500))[0] < 0.01
    np.testing.assert_array_equal(student_weights(np.zeros(3), np.ones(3)), 1)
