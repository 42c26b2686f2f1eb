"""The predictor ``stack``: a line, a critical path and a Gaussian process, weighted by what they did not see."""

from __future__ import annotations

from collections.abc import Mapping
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
from latbench.predictor import Context

FOLDS = 5

PROCESS_ROWS = 50
"""With fewer rows a Gaussian process has too little to learn from."""

EQUAL = 0.5
"""How much the weights are drawn to equal ones: with many rows, as much as errors of this many medians would."""


class StackRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """What devices do that is no sum, learnt by three models of growing freedom.

    1. The line of ``additive`` (`latbench.prediction.few_samples.robust_line`).
    2. Where the space tells its graph and the graph has branches, the critical path
       (`latbench.prediction.few_samples.critical_path`): compilers and GPUs run branches side by side.
    3. From 50 rows on, a Gaussian process on the line's columns and the path's prediction
       (`latbench.prediction.few_samples.gaussian_process`).

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
        line = fit_robust_line(sets, X, y, weight)[1]
        self.unit_, self.columns_ = unit, sets[-1]
        # The columns of each set begin with those of the set before.
        self.coef_ = np.pad(line.coef, (0, sets[-1](X[:1]).shape[1] - len(line.coef)))
        self.intercept_, self.least_ = line.intercept, float(np.median(y) / 10) if y.min() > 0 else -np.inf
        unseen = {"line": np.maximum(y - line.left_out, self.least_)}
        self.path_ = CriticalPath.fit(context, X, y, weight)
        if self.path_ is not None:
            unseen["path"] = _left_out_paths(context, X, y, weight, seed)
        self.process_, self.rows_ = None, np.empty((0, X.shape[1]))
        if len(y) >= PROCESS_ROWS:
            self.process_, self.rows_ = self._fit_process(X, y, weight, unseen, seed), X
            unseen["process"] = np.maximum(self.process_.left_out, self.least_)
        models = np.column_stack(list(unseen.values()))
        self.shares_ = _shares(models, y, weight)
        self.left_out_ = left_out_errors(y, models @ self.shares_)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return predictions ``(n,)`` for encodings of architectures ``(n, columns)``."""
        X = fitted_encodings(self, X)
        columns = self.columns_(X)
        line = np.maximum(columns @ self.coef_ + self.intercept_, self.least_)
        found = [line]
        if self.path_ is not None:
            found.append(self.path_(X))
        if self.process_ is not None:
            scale = (
                line
                if np.isfinite(self.least_)
                else np.full(len(X), self.process_.unit / self.process_.inverse_scale[0])
            )
            given = np.ones(len(X)) if self.path_ is None else found[-1]
            found.append(np.maximum(self.process_(columns, given, scale), self.least_))
        return self.unit_ * (np.column_stack(found) @ self.shares_)

    def _fit_process(
        self, X: Matrix, y: Matrix, weight: Matrix, unseen: Mapping[str, Matrix], seed: int
    ) -> GaussianProcess:
        columns, groups = self.columns_(X), self.columns_.groups
        given = unseen.get("path", np.ones(len(y)))
        scale = left_out_scale(y, y - unseen["line"])
        missed = y - unseen["line"]
        for _ in range(2):  # the second time, outliers are told from what the line alone does not know
            tails = student_weights(missed / scale, weight)
            process = fit_gaussian_process(
                columns, groups, y, given=given, scale=scale, weight=weight * tails, seed=seed
            )
            missed = y - process.left_out
        return process

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the state of each model, and the weights."""
        check_is_fitted(self)
        mix = np.empty((0, 0)) if self.columns_.mix is None else self.columns_.mix
        numbers = np.array([self.intercept_, self.least_, self.unit_])
        arrays = {"coef": self.coef_, "numbers": numbers, "shares": self.shares_, "rows": self.rows_, "mix": mix}
        path = {} if self.path_ is None else self.path_.to_arrays()
        process = {} if self.process_ is None else self.process_.to_arrays()
        return {**arrays, **self.columns_.expansion.to_arrays(), **path, **process}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_arrays` returned.

        Raises:
            ValueError: the arrays are not such a state.
        """
        coef, rows, mix = arrays["coef"], arrays["rows"], arrays["mix"]
        if coef.ndim != 1 or rows.ndim != 2 or mix.ndim != 2 or arrays["numbers"].shape != (3,):
            raise ValueError("the line of this stack has another shape")
        self.n_features_in_ = rows.shape[1]
        expansion = Expansion.from_arrays(arrays, self.n_features_in_)
        self.columns_ = ColumnSet(expansion, mix if mix.size else None, None, None)
        if len(coef) != (mix.shape[1] if mix.size else expansion.expanded_width) or (
            mix.size and len(mix) != expansion.expanded_width
        ):
            raise ValueError("the line of this stack does not fit its columns")
        self.coef_, self.rows_, self.shares_ = coef, rows, arrays["shares"]
        self.intercept_, self.least_, self.unit_ = map(float, arrays["numbers"])
        has_path, has_process = "path_costs" in arrays, "process_rows" in arrays
        self.path_ = CriticalPath.from_arrays(arrays, self.n_features_in_) if has_path else None
        self.process_ = GaussianProcess.from_arrays(arrays, self.columns_(rows)) if has_process else None
        if self.shares_.shape != (1 + has_path + has_process,):
            raise ValueError("the weights of this stack do not fit its models")
        return self


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
    pull = EQUAL * float(np.median(np.abs(errors))) * np.sqrt(len(y))
    rows = np.vstack([root[:, None] * models, pull * np.eye(models.shape[1])])
    shares, _ = nnls(rows, np.concatenate([root * target, np.full(models.shape[1], pull / models.shape[1])]))
    return np.asarray(shares / shares.sum()) if shares.any() else np.full(models.shape[1], 1 / models.shape[1])
