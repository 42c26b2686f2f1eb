"""The predictor ``stack``: a line, a product, a critical path and a Gaussian process, weighted by what they missed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from latbench.prediction.few_samples.critical_path import CriticalPath
from latbench.prediction.few_samples.expansion import ColumnSet, Expansion, column_sets
from latbench.prediction.few_samples.gaussian_process import GaussianProcess, fit_gaussian_process
from latbench.prediction.few_samples.regression import (
    Matrix,
    fitted_encodings,
    left_out_errors,
    merge_rows,
    relative_scale,
)
from latbench.prediction.few_samples.robust_line import fit_robust_line, left_out_scale, student_weights
from latbench.prediction.few_samples.shrunken_line import fit_shrunken_line
from latbench.predictor import Context

FOLDS = 5

PROCESS_ROWS = 50
"""With fewer rows a Gaussian process has too little to learn from."""

EQUAL = 0.25
"""How much the weights are drawn to equal ones: as much as if every row of the best model erred by so many medians."""


class StackRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """What devices do that is no sum, learnt by four models of growing freedom.

    1. The line of ``additive`` (`latbench.prediction.few_samples.robust_line`).
    2. The same of the logarithm of the labels: a resolution, or a width, multiplies what everything costs.
    3. Where the space tells its graph and the graph has branches, the critical path
       (`latbench.prediction.few_samples.critical_path`): compilers and GPUs run branches side by side.
    4. From 50 rows on, a Gaussian process on the line's columns and the path's prediction
       (`latbench.prediction.few_samples.gaussian_process`), relative to the better one of the first two.

    Their predictions are added up with weights that are not negative and add up to 1, those that explain relative
    errors on rows that the models have not seen (stacking, Breiman 1996), drawn to equal ones.

    It has no module: give ``mlp`` or ``additive`` to a search that differentiates.

    Args:
        random_state: seed of the folds, and of the rows to which the process' parameters are fitted.

    Attributes:
        shares_: the weights, of the models that there are.
        left_out_: see `latbench.predictor.KnowsItsErrors`.
    """

    def __init__(self, *, random_state: int | np.random.RandomState | None = None) -> None:
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, context: Context | None = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        Raises:
            ValueError: the context has other columns.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        sets = column_sets(context, X.shape[1])
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        weight = weight / weight.mean()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        unit = float(np.abs(y).mean()) or 1.0
        y = y / unit
        self.unit_, self.columns_ = unit, sets[-1]
        positive = y.min() > 0
        # Nothing takes less than a tenth of what is usual, and no product is to run away.
        self.bounds_ = np.array([np.median(y) / 10, y.max() * math.e] if positive else [-np.inf, np.inf])
        columns, line = sets[-1](X), fit_robust_line(sets, X, y, weight)[1]
        # The columns of each set begin with those of the set before.
        self.line_ = np.append(np.pad(line.coef, (0, columns.shape[1] - len(line.coef))), line.intercept)
        unseen = {"line": self._bounded(y - line.left_out)}
        self.product_ = np.empty(0)
        if positive:
            logs = np.log(y)
            product = fit_shrunken_line(columns, logs, weight, groups=sets[-1].groups, scale=np.ones(len(y)))
            self.product_ = np.append(product.coef, product.intercept)
            unseen["product"] = self._bounded(np.exp(np.minimum(logs - product.left_out, 700)))
        self.scale_ = int(np.argmin([np.abs(y - each).mean() for each in unseen.values()]))
        scale = list(unseen.values())[self.scale_]
        self.path_ = CriticalPath.fit(context, X, y, weight)
        if self.path_ is not None:
            unseen["path"] = _left_out_paths(context, X, y, weight, seed)
        self.process_, self.rows_ = None, np.empty((0, X.shape[1]))
        if len(y) >= PROCESS_ROWS:
            given = unseen.get("path", np.ones(len(y)))
            self.process_, self.rows_ = (
                _process(columns, sets[-1].groups, y, weight, given=given, scale=scale, seed=seed),
                X,
            )
            unseen["process"] = self._bounded(self.process_.left_out)
        models = np.column_stack(list(unseen.values()))
        self.shares_ = _shares(models, y, weight)
        self.left_out_ = left_out_errors(y, models @ self.shares_)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings of architectures ``(n, columns)``."""
        X = fitted_encodings(self, X)
        columns = self.columns_(X)
        found = [self._bounded(columns @ self.line_[:-1] + self.line_[-1])]
        if len(self.product_):
            logs = columns @ self.product_[:-1] + self.product_[-1]
            found.append(self._bounded(np.exp(np.minimum(logs, 700))))
        scale, given = found[self.scale_], np.ones(len(X))
        if self.path_ is not None:
            given = self.path_(X)
            found.append(given)
        if self.process_ is not None:
            if not len(self.product_):  # labels that are not all positive are divided by one number
                scale = np.full(len(X), self.process_.unit / self.process_.inverse_scale[0])
            found.append(self._bounded(self.process_(columns, given, scale)))
        return np.asarray(self.unit_ * (np.column_stack(found) @ self.shares_))

    def _bounded(self, values: Matrix) -> Matrix:
        return np.asarray(np.clip(values, *self.bounds_))

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the state of each model, and the weights."""
        check_is_fitted(self)
        mix = np.empty((0, 0)) if self.columns_.mix is None else self.columns_.mix
        arrays = {
            "line": self.line_,
            "product": self.product_,
            "numbers": np.array([*self.bounds_, self.unit_, self.scale_]),
            "shares": self.shares_,
            "rows": self.rows_,
            "mix": mix,
        }
        path = {} if self.path_ is None else self.path_.to_arrays()
        process = {} if self.process_ is None else self.process_.to_arrays()
        return {**arrays, **self.columns_.expansion.to_arrays(), **path, **process}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        self.line_, self.product_, self.rows_, mix = (arrays[name] for name in ("line", "product", "rows", "mix"))
        if self.rows_.ndim != 2 or mix.ndim != 2 or arrays["numbers"].shape != (4,):
            raise ValueError("the arrays of this stack have other shapes")
        self.n_features_in_ = self.rows_.shape[1]
        expansion = Expansion.from_arrays(arrays, self.n_features_in_)
        self.columns_ = ColumnSet(expansion, mix if mix.size else None, None, None)
        width = mix.shape[1] if mix.size else expansion.expanded_width
        if (
            (mix.size and len(mix) != expansion.expanded_width)
            or self.line_.shape != (width + 1,)
            or self.product_.shape not in ((width + 1,), (0,))
        ):
            raise ValueError("the lines of this stack do not fit its columns")
        low, high, self.unit_, scale = map(float, arrays["numbers"])
        self.bounds_, self.scale_ = np.array([low, high]), int(scale)
        has_path, has_process = "path_costs" in arrays, "process_rows" in arrays
        self.path_ = CriticalPath.from_arrays(arrays, self.n_features_in_) if has_path else None
        self.process_ = GaussianProcess.from_arrays(arrays, self.columns_(self.rows_)) if has_process else None
        self.shares_, has_product = arrays["shares"], len(self.product_) > 0
        if self.shares_.shape != (1 + has_product + has_path + has_process,) or not 0 <= self.scale_ <= has_product:
            raise ValueError("the weights of this stack do not fit its models")
        return self


def _process(
    columns: Matrix, groups: Sequence[str] | None, y: Matrix, weight: Matrix, *, given: Matrix, scale: Matrix, seed: int
) -> GaussianProcess:
    """Fit a process twice: the second time without what it takes for outliers."""
    scale = left_out_scale(y, y - scale)
    tails = np.ones(len(y))
    for _ in range(2):
        process = fit_gaussian_process(columns, groups, y, given=given, scale=scale, weight=weight * tails, seed=seed)
        tails = student_weights((y - process.left_out) / scale, weight)
    return process


def _left_out_paths(context: Context | None, X: Matrix, y: Matrix, weight: Matrix, seed: int) -> Matrix:
    """Return what the critical path predicts for the rows that it has not seen ``(n,)``."""
    folds = np.random.default_rng(seed).permutation(len(y)) % min(FOLDS, len(y))
    unseen = np.empty(len(y))
    for fold in range(folds.max() + 1):
        kept = folds != fold
        path = CriticalPath.fit(context, X[kept], y[kept], weight[kept]) if kept.any() else None
        unseen[~kept] = y.mean() if path is None else path(X[~kept])
    return unseen


def _shares(unseen: Matrix, y: Matrix, weight: Matrix) -> Matrix:
    """Return weights ``(models,)`` that add up to 1, from predictions of rows that were not seen ``(n, models)``."""
    errors = (unseen - y[:, None]) / relative_scale(y)[:, None]
    root = np.sqrt(weight * student_weights(errors[:, 0], weight))
    models, target = unseen / relative_scale(y)[:, None], y / relative_scale(y)
    pull = EQUAL * float(np.median(np.abs(errors), axis=0).min()) * np.sqrt(len(y))
    rows = np.vstack([root[:, None] * models, pull * np.eye(models.shape[1])])
    shares, _ = nnls(rows, np.concatenate([root * target, np.full(models.shape[1], pull / models.shape[1])]))
    return np.asarray(shares / shares.sum()) if shares.any() else np.full(models.shape[1], 1 / models.shape[1])
