"""Fitted estimators from a file whose predictions run native code: rebuilt from checked arrays, or refused.

skops trusts the types of scikit-learn, not what their attributes hold: libsvm, the neighbours' search and products of
sparse matrices follow sizes and numbers without checking them, so that a crafted file would read foreign memory or end
the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MethodType
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.neighbors import KNeighborsRegressor, RadiusNeighborsRegressor
from sklearn.svm import SVR, NuSVR

NUMPY_ALONE = (
    "latbench.",
    "sklearn.compose._target.",
    "sklearn.cross_decomposition.",
    "sklearn.dummy.",
    "sklearn.ensemble._bagging.",
    "sklearn.ensemble._voting.",
    "sklearn.ensemble._weight_boosting.",
    "sklearn.gaussian_process.",
    "sklearn.kernel_ridge.",
    "sklearn.linear_model.",
    "sklearn.neural_network.",
    "sklearn.preprocessing._data.",
    "sklearn.preprocessing._function_transformer.",
    "sklearn.svm._classes.LinearSVR.",
)
"""Modules and a class whose fitted estimators predict with numpy and scipy, which check what dense arrays hold."""


def without_native_state(estimator: Any) -> Any:
    """Return a regressor from a file, safe to predict with; it may be within a `TransformedTargetRegressor`.

    Raises:
        ValueError: its arrays do not fit together, or it holds a sparse matrix or a fitted estimator that runs
            unchecked native code.
    """
    for value in _reachable(estimator, None):
        if issparse(value):
            raise ValueError("it holds a sparse matrix, whose indices nobody checks")
    inner = vars(estimator).get("regressor_", estimator)
    rebuilt = inner
    if type(inner) in (SVR, NuSVR):
        rebuilt = _support_vectors(inner)
    elif type(inner) in (KNeighborsRegressor, RadiusNeighborsRegressor):
        rebuilt = clone(inner).fit(inner._fit_X, inner._y)
    if inner is estimator:
        estimator = rebuilt
    else:
        estimator.regressor_ = rebuilt
    known = rebuilt if rebuilt is not inner else None
    for value in _reachable(estimator, known):
        name = f"{type(value).__module__}.{type(value).__name__}."
        if _is_fitted(value) and not name.startswith(NUMPY_ALONE):
            raise ValueError(f"a fitted {type(value).__name__} is trusted nowhere but as the regressor itself")
    return estimator


def _support_vectors(given: Any) -> Any:
    """Return an SVR of which libsvm finds every array as large as it presumes."""
    vectors, columns = given.support_vectors_, given.n_features_in_
    count = len(vectors)
    arrays = {
        "support_": (given.support_, (count,), np.int32),
        "support_vectors_": (vectors, (count, columns), np.float64),
        "_n_support": (given._n_support, (2,), np.int32),
        "_dual_coef_": (given._dual_coef_, (1, count), np.float64),
        "_intercept_": (given._intercept_, (1,), np.float64),
    }
    for name, (array, shape, dtype) in arrays.items():
        if not isinstance(array, np.ndarray) or (array.shape, array.dtype) != (shape, np.dtype(dtype)):
            raise ValueError(f"{name} of the support vectors is no array {shape} of {np.dtype(dtype)}")
    if given.kernel not in ("linear", "poly", "rbf", "sigmoid"):
        raise ValueError(f"the kernel {given.kernel!r} is not one of libsvm's own")
    rebuilt = clone(given)
    vars(rebuilt).update({name: np.ascontiguousarray(array) for name, (array, _, _) in arrays.items()})
    rebuilt.dual_coef_, rebuilt.intercept_ = rebuilt._dual_coef_, rebuilt._intercept_
    rebuilt._probA = rebuilt._probB = np.empty(0)
    rebuilt._gamma, rebuilt._sparse = float(given._gamma), False
    rebuilt.fit_status_, rebuilt.shape_fit_, rebuilt.n_features_in_ = 0, (count, columns), columns
    return rebuilt


def _is_fitted(value: Any) -> bool:
    """Return whether an estimator holds more than its keywords, by scikit-learn's rule for the names of state."""
    names = vars(value).keys() - {"_sklearn_version"} if isinstance(value, BaseEstimator) else ()
    return any(name.startswith("_") or name.endswith("_") for name in names)


def _reachable(root: Any, known: Any) -> Iterator[Any]:
    """Yield everything that an object leads to, itself first, but nothing through `known`."""
    waiting, seen = [root], {id(known)}
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen.add(id(value))
            yield value
            waiting.extend(_parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype.hasobject else ()
    if isinstance(value, MethodType):
        return (value.__self__,)
    return () if isinstance(value, type) else list(getattr(value, "__dict__", {}).values())
