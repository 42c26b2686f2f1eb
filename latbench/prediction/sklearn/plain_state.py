"""Regressors of scikit-learn as keywords and arrays of numbers, and back: the few kinds that numpy can evaluate.

scikit-learn trusts what its estimators hold: native code follows node numbers, sizes and sparse indices unchecked. So a
file never fills an estimator with whatever it holds. A linear model and a scaler get the arrays listed here, trees
become a `TreeEnsemble`, and a Gaussian process is fitted again to its rows. Every other kind is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import linear_model, preprocessing
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.pipeline import Pipeline

from latbench.prediction.sklearn.standardised_labels import StandardisedLabels
from latbench.prediction.sklearn.tree_ensemble import TREES, TreeEnsemble

Arrays = Mapping[str, NDArray[Any]]

WRITABLE = "linear models, forests, boosted trees, Gaussian processes, and pipelines of a scaler and one of these"

_LINES = "LinearRegression Ridge RidgeCV Lasso LassoCV ElasticNet ElasticNetCV HuberRegressor BayesianRidge"
_KERNELS = "ConstantKernel DotProduct ExpSineSquared Matern Product RBF RationalQuadratic Sum WhiteKernel"
_STATE: dict[type, dict[str, int]] = {
    **{getattr(linear_model, name): {"coef_": 1, "intercept_": 0} for name in _LINES.split()},
    preprocessing.StandardScaler: {"mean_": 1, "scale_": 1},
    preprocessing.MinMaxScaler: {"min_": 1, "scale_": 1},
    preprocessing.MaxAbsScaler: {"scale_": 1},
    preprocessing.RobustScaler: {"center_": 1, "scale_": 1},
}
"""What each kind predicts or scales with: 0 for a number, 1 for a value per column, 2 for one per pair of columns."""
_STATE[linear_model.BayesianRidge] |= {"alpha_": 0, "sigma_": 2, "X_offset_": 1}

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (*_STATE, *TREES, GaussianProcessRegressor, Pipeline)}
_KINDS |= {name: getattr(kernels, name) for name in _KERNELS.split()}


def describe(regressor: Any) -> Any:
    """Return a regressor, fitted or not, as its keywords: values for JSON.

    Raises:
        ValueError: it is not of a kind that can be written; the message says why.
    """
    value = regressor
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [describe(each) for each in value]
    if type(value) not in _KINDS.values():
        raise ValueError(f"{type(value).__name__} is not among {WRITABLE}, nor a plain keyword of one")
    if getattr(value, "normalize_y", False):
        raise ValueError("normalize_y is true, although labels are standardised already")
    if type(value) in TREES and getattr(value, "init", None) is not None:
        raise ValueError("its trees start from another predictor (init)")
    params = {name: describe(each) for name, each in value.get_params(deep=False).items()}
    return {"kind": type(value).__name__, "params": params}


def to_arrays(estimator: StandardisedLabels) -> Arrays:
    """Return what a regressor that `describe` accepts has learnt."""
    labels = np.array([estimator.mean_, estimator.scale_])
    return {"labels": labels, **_arrays(estimator.regressor_, "")}


def restore(keywords: Any, arrays: Arrays, columns: int) -> StandardisedLabels:
    """Return the regressor of `describe` and `to_arrays`, from values that may come from anybody.

    Raises:
        Exception: the values do not describe a regressor.
    """
    restored = StandardisedLabels(_value(keywords))
    restored.mean_, restored.scale_ = map(float, _numbers(arrays["labels"], (2,)))
    learnt = {name: array for name, array in arrays.items() if name != "labels"}
    restored.regressor_, restored.n_features_in_ = _fitted(clone(restored.regressor), learnt, columns), columns
    return restored


def _arrays(fitted: Any, place: str) -> dict[str, NDArray[Any]]:
    held: Mapping[str, Any]
    if isinstance(fitted, Pipeline):
        steps = [_arrays(step, f"{number}/") for number, (_, step) in enumerate(fitted.steps) if not _is_nothing(step)]
        held = {name: array for step in steps for name, array in step.items()}
    elif isinstance(fitted, TreeEnsemble):
        held = fitted.to_arrays()
    elif type(fitted) in TREES:
        held = TreeEnsemble.of(fitted).to_arrays()
    elif isinstance(fitted, GaussianProcessRegressor):
        held = {"X": fitted.X_train_, "y": fitted.y_train_, "theta": fitted.kernel_.theta}
    else:
        held = {name: getattr(fitted, name) for name in _STATE[type(fitted)]}
    return {f"{place}{name}": np.atleast_1d(array) for name, array in held.items() if array is not None}


def _fitted(estimator: Any, arrays: Arrays, columns: int) -> Any:
    """Return an estimator of given keywords with what it has learnt."""
    if isinstance(estimator, Pipeline):
        steps = []
        for number, (name, step) in enumerate(estimator.steps):
            place = f"{number}/"
            own = {key.removeprefix(place): array for key, array in arrays.items() if key.startswith(place)}
            steps.append((name, step if _is_nothing(step) else _fitted(step, own, columns)))
        return Pipeline(steps)
    if type(estimator) in TREES:
        return TreeEnsemble().from_arrays(arrays)
    if isinstance(estimator, GaussianProcessRegressor):
        given = estimator.get_params(deep=False)
        kernel = estimator.kernel and estimator.kernel.clone_with_theta(
            _numbers(arrays["theta"], arrays["theta"].shape)
        )
        estimator.set_params(kernel=kernel, optimizer=None).fit(arrays["X"], arrays["y"])
        return estimator.set_params(kernel=given["kernel"], optimizer=given["optimizer"])
    for name, dimensions in _STATE[type(estimator)].items():
        value = _numbers(arrays[name], (columns,) * dimensions or (1,)) if name in arrays else None
        setattr(estimator, name, value if dimensions or value is None else value[0])
    estimator.n_features_in_ = columns
    return estimator


def _numbers(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.floating]:
    if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"an array does not hold finite numbers of shape {shape}")
    return array


def _value(keywords: Any) -> Any:
    if isinstance(keywords, dict):
        return _KINDS[keywords["kind"]](**{name: _value(value) for name, value in keywords["params"].items()})
    return tuple(_value(each) for each in keywords) if isinstance(keywords, list) else keywords


def _is_nothing(step: Any) -> bool:
    return step is None or step == "passthrough"
