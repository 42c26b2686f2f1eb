"""Regressors of scikit-learn from a stranger's file: whatever the numbers and texts are, the interpreter lives on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.preprocessing import StandardScaler

from latbench.prediction.fit import fit
from latbench.prediction.sklearn.plain_state import describe, restore, to_arrays
from latbench.prediction.sklearn.standardised_labels import StandardisedLabels
from latbench.prediction.trained import predict_values
from latbench.testing.additive_profile import additive_profile

REGRESSORS: dict[str, dict[str, Any]] = {
    "sklearn.ensemble:RandomForestRegressor": {"n_estimators": 3},
    "sklearn.ensemble:GradientBoostingRegressor": {"n_estimators": 3},
    "sklearn.gaussian_process:GaussianProcessRegressor": {"kernel": RBF() + WhiteKernel(0.1), "optimizer": None},
    "sklearn.pipeline:Pipeline": {"steps": [("scale", StandardScaler()), ("line", BayesianRidge())]},
}
NUMBERS = [-(2**31), -5, -1, 0, 1, 5, 10**6, 2**31 - 1]
VALUES = [0, -1, 100000, None, True, [1], "linear", {"kind": "Pipeline", "params": {}}, {"kind": "os:system"}, 1e300]


def changed_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    kind = rng.choice(["value", "cut", "shape", "type", "twice"])
    if kind == "value" and array.size and array.dtype.kind in "if":
        array = array.copy()
        array.flat[rng.randrange(array.size)] = rng.choice(NUMBERS)
        return array
    if kind == "cut":
        return array[: rng.randrange(len(array) + 1)]
    if kind == "twice":
        return np.concatenate([array, array])
    return array.astype(rng.choice(["<i4", "<i8", "<f4", "<f8"])) if kind == "type" else array.reshape(1, -1)


def changed_keywords(keywords: Any, rng: random.Random) -> Any:
    """Replace one value somewhere."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            collect(node[key])

    keywords = json.loads(json.dumps(keywords))
    collect(keywords)
    node, key = rng.choice(places)
    node[key] = rng.choice(VALUES)
    return keywords


def fuzz(name: str, times: int) -> None:
    profile, rng = additive_profile(30), random.Random(0)
    estimator: Any = fit(profile, name, **REGRESSORS[name]).estimator
    keywords, arrays = describe(estimator.regressor), to_arrays(estimator)
    answers = {"refused": 0, "predicted": 0}
    for _ in range(times):
        others = dict(arrays)
        for key in rng.sample(sorted(others), k=min(2, len(others))):
            others[key] = changed_array(others[key], rng)
        try:
            restored = restore(changed_keywords(keywords, rng) if rng.random() < 0.5 else keywords, others, 30)
            predict_values(restored, profile.X, name)
        except Exception:  # noqa: BLE001 - load_predictor turns any into a message
            answers["refused"] += 1
        else:
            answers["predicted"] += 1
    assert answers["refused"] > times / 2, answers


def test_no_file_ends_the_interpreter() -> None:
    code = (
        "import importlib.util as u, warnings; warnings.simplefilter('ignore')\n"
        f"spec = u.spec_from_file_location('state', {__file__!r}); module = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\nfor name in module.REGRESSORS: module.fuzz(name, 150)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def state(regressor: Any) -> tuple[Any, dict[str, Any]]:
    profile = additive_profile(30)
    estimator = StandardisedLabels(regressor).fit(profile.X, profile.y)
    return describe(regressor), dict(to_arrays(estimator))


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sparse": lambda arrays: arrays.update(coef_=sparse.csr_matrix(arrays["coef_"][None])),
    "objects": lambda arrays: arrays.update(coef_=arrays["coef_"].astype(object)),
    "too long": lambda arrays: arrays.update(coef_=np.ones(31)),
    "not finite": lambda arrays: arrays.update(coef_=np.full(30, np.nan)),
    "no labels": lambda arrays: arrays.update(labels=np.ones(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_arrays_that_are_no_numbers_of_the_right_shape_are_refused(change: str) -> None:
    keywords, arrays = state(Ridge())
    restore(keywords, arrays, 30)
    CHANGES[change](arrays)
    with pytest.raises(ValueError, match=r"does not hold finite numbers of shape|dimension"):
        restore(keywords, arrays, 30)


def test_no_other_kind_is_built() -> None:
    keywords, arrays = state(RandomForestRegressor(n_estimators=2))
    for kind in ("SVR", "os:system", "TreeEnsemble"):
        with pytest.raises(KeyError, match=kind):
            restore({**keywords, "kind": kind}, arrays, 30)
