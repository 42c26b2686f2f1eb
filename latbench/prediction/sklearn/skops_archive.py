"""A fitted scikit-learn estimator as a skops archive, restored from types that are plain data or checked by latbench.

skops restores no type that it does not trust itself. Here some more are trusted that hold numbers and other plain
values, run Python alone and never run what they hold. Trees are trusted in latbench's own form only, and what native
code follows unchecked is checked or refused (`latbench.prediction.sklearn.native_state`).
"""

from __future__ import annotations

import copy
from typing import Any

from sklearn.base import BaseEstimator, is_regressor
from sklearn.neighbors import KNeighborsRegressor, RadiusNeighborsRegressor
from skops import io

from latbench.errors import PredictorFileError
from latbench.prediction.sklearn.native_state import without_native_state
from latbench.prediction.sklearn.standardised_labels import LabelScaler
from latbench.prediction.sklearn.tree_ensemble import TreeEnsemble
from latbench.predictor import Predictor

_KERNELS = (
    "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern Product RBF RationalQuadratic "
    "Sum WhiteKernel"
)
TRUSTED = (
    *(f"{kind.__module__}.{kind.__qualname__}" for kind in (TreeEnsemble, LabelScaler)),
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS.split()),
)
"""What an archive may hold beyond what skops trusts: each type was read, and does nothing but arithmetic."""


def dumps(estimator: Predictor) -> bytes:
    """Return a fitted estimator as bytes.

    Raises:
        PredictorFileError: it holds what could not be restored safely.
    """
    data: bytes = io.dumps(_with_plain_trees(estimator))
    loads(data, "a file of this predictor")
    return data


def loads(data: bytes, source: object) -> Predictor:
    """Return the estimator in bytes that may come from anybody.

    Args:
        data: what `dumps` returned, or anything else.
        source: the file that it is from, for messages.

    Raises:
        PredictorFileError: damaged, no regressor, or it holds what is not trusted.
    """
    try:
        untrusted = [name for name in io.get_untrusted_types(data=data) if name not in TRUSTED]
        estimator = None if untrusted else io.loads(data, trusted=list(TRUSTED))
        is_one = isinstance(estimator, BaseEstimator) and is_regressor(estimator) and hasattr(estimator, "predict")
    except Exception as error:  # a damaged archive raises anything
        raise PredictorFileError(
            f"{source} holds a damaged skops archive ({error}): fit the predictor again"
        ) from error
    if untrusted:
        raise PredictorFileError(
            f"{source} is refused: it holds {', '.join(untrusted)}, which cannot be restored safely: "
            "choose another predictor, or give it to_arrays and from_arrays (latbench.predictor.HasArrays)"
        )
    if not is_one:
        raise PredictorFileError(f"{source} holds a {type(estimator).__name__}, which is no regressor: fit one")
    try:
        restored: Predictor = without_native_state(estimator)
    except Exception as error:  # whatever its attributes are instead of what they should be
        raise PredictorFileError(f"{source} is refused ({error}): choose another predictor") from error
    return restored


def _with_plain_trees(value: Any) -> Any:
    """Return a fitted estimator with the trees in it, and in the estimators it consists of, in latbench's form."""
    if isinstance(value, list):
        return [_with_plain_trees(each) for each in value]
    if not isinstance(value, BaseEstimator):
        return value
    trees = TreeEnsemble.of(value)
    if trees is not None:
        return trees
    twin = copy.copy(value)
    twin.__dict__.update({name: _with_plain_trees(each) for name, each in vars(value).items()})
    if isinstance(value, KNeighborsRegressor | RadiusNeighborsRegressor) and hasattr(value, "_tree"):
        twin._tree = None  # an index of the rows, which are fitted to again when they are read
    return twin
