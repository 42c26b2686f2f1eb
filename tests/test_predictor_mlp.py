"""The networks beside the line."""

import numpy as np
import pytest
import torch

from latbench.testing.additive_profile import additive_profile
from latbench_mlp import MlpRegressor


def encodings(n: int, seed: int) -> np.ndarray:
    return np.eye(4)[np.random.default_rng(seed).integers(0, 4, (n, 5))].reshape(n, -1)


def or_values(X: np.ndarray) -> np.ndarray:
    """Return a value that no line has: a layer that runs if any of three edges uses it."""
    return 2 + X @ np.linspace(0, 1, 20) + 3 * X[..., [0, 4, 8]].max(axis=-1)


def error(estimator: MlpRegressor, X: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs(estimator.predict(X) / y - 1).mean())


def line_error(estimator: MlpRegressor, X: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs((estimator.expansion_(X) @ estimator.coef_ + estimator.intercept_) / y - 1).mean())


def test_the_networks_learn_what_a_line_cannot() -> None:
    X, test = encodings(400, 0), encodings(300, 1)
    estimator = MlpRegressor(random_state=0).fit(X, or_values(X))
    assert error(estimator, test, or_values(test)) < 0.4 * line_error(estimator, test, or_values(test))


def test_the_networks_stay_out_where_there_is_only_noise_to_learn() -> None:
    profile, test = additive_profile(100, noise=0.1), additive_profile(300, seed=1)
    estimator = MlpRegressor(random_state=0).fit(profile.X, profile.y, context=profile.context())
    assert error(estimator, test.X, test.y) < 1.1 * line_error(estimator, test.X, test.y)


def test_the_networks_learn_the_same_in_every_unit() -> None:
    X = encodings(200, 0)
    small, large = (MlpRegressor(random_state=0).fit(X, unit * or_values(X)) for unit in (1e-6, 1e6))
    np.testing.assert_allclose(1e12 * small.predict(X), large.predict(X), rtol=1e-4)


def test_too_few_rows_leave_the_line_alone() -> None:
    X = encodings(30, 0)
    estimator = MlpRegressor(random_state=0).fit(X, or_values(X))
    np.testing.assert_allclose(
        estimator.predict(X), estimator.expansion_(X) @ estimator.coef_ + estimator.intercept_, rtol=1e-5
    )


def test_mixtures_teach_expected_values() -> None:
    X = encodings(400, 0)
    alphas = np.random.default_rng(1).dirichlet(np.ones(4), (50, 5))
    draws = (alphas.cumsum(axis=-1) > np.random.default_rng(2).uniform(size=(4000, 50, 5, 1))).argmax(axis=-1)
    expected = or_values(np.eye(4)[draws].reshape(4000, 50, -1)).mean(axis=0)

    def gap(mixed: int) -> float:
        return error(MlpRegressor(mixed=mixed, random_state=0).fit(X, or_values(X)), alphas.reshape(50, -1), expected)

    assert gap(16) < 0.8 * gap(1)


def test_fitting_leaves_torch_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    MlpRegressor(steps=2, random_state=0).fit(encodings(50, 0), or_values(encodings(50, 0)))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_module_has_no_parameters_that_a_search_could_train() -> None:
    X = encodings(20, 0)
    module = MlpRegressor().fit(X, or_values(X)).module()
    assert not list(module.parameters())
    assert not any(buffer.requires_grad for buffer in module.buffers())


def test_arrays_of_another_architecture_are_refused() -> None:
    X = encodings(20, 0)
    arrays = MlpRegressor(hidden=16).fit(X, or_values(X)).to_arrays()
    for estimator in (MlpRegressor(hidden=8), MlpRegressor(hidden=16, members=3)):
        with pytest.raises(ValueError, match="have the shapes"):
            estimator.from_arrays(arrays)
    with pytest.raises(ValueError, match="an mlp predictor has the arrays"):
        MlpRegressor(hidden=16).from_arrays({"coef": arrays["coef"]})
