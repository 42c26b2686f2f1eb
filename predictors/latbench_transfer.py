"""The predictor ``transfer``: a new device from a few values and other devices' profiles."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import nnls
from sklearn.utils.validation import _check_sample_weight, validate_data

from latbench.prediction.few_samples.expansion import Expansion
from latbench.prediction.few_samples.line_regressor import LineRegressor
from latbench.prediction.few_samples.regression import Matrix, group_matrix, merge_rows, relative_scale
from latbench.prediction.few_samples.shrunken_line import Line, fit_shrunken_line
from latbench.predictor import Context, Source


class TransferRegressor(LineRegressor):
    """A mixture of other devices and of a cost for each group of columns; no share and no cost is negative.

    A line is fitted to each source (`latbench.prediction.few_samples.shrunken_line`): its predictions have less noise
    than the measurements. Non-negative least squares (Lawson and Hanson, 1974) of the relative errors on these
    predictions and on the counts of the groups learn from ten values on, where a regression that may subtract devices
    from each other would fit the noise. A constant is among the regressors, for what every network takes.

    Attributes:
        coef_: what each column of an expanded encoding (`latbench.prediction.few_samples.expansion`) adds.
        intercept_: the prediction for an encoding of zeros.
        expansion_: gives the expanded encoding.
        shares_: how much each source contributes.
    """

    needs_sources = True
    more_arrays: ClassVar[tuple[str, ...]] = ("shares",)

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, context: Context | None = None) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``.

        Without a context there are no sources, and every column is a group of its own.

        Raises:
            ValueError: the context has other columns or no sources.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        expand = Expansion.of(context, X.shape[1])
        if context is not None and not context.sources:
            raise ValueError("transfer learns from other devices' profiles: give one or more as sources")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        lines = [_line(source, expand) for source in (context.sources if context is not None else ())]
        coef = np.column_stack([np.empty((expand.expanded_width, 0)), *(line.coef for line in lines)])
        counts = np.eye(X.shape[1]) if expand.groups is None else group_matrix(expand.groups)
        # Regressors as lines: their coefficients (expanded columns, regressors), and their intercepts.
        slopes = np.column_stack([coef, counts, np.zeros(expand.expanded_width)])
        intercepts = np.array([*(line.intercept for line in lines), *np.zeros(counts.shape[1]), 1.0])
        shares = _non_negative(expand(X) @ slopes + intercepts, y, np.sqrt(weight) / relative_scale(y))
        self.coef_, self.intercept_ = slopes @ shares, float(intercepts @ shares)
        self.expansion_, self.shares_ = expand, shares[: len(lines)]
        return self


def _line(source: Source, expand: Expansion) -> Line:
    X, y, weight = merge_rows(source.X.astype(np.float64), source.y.astype(np.float64), np.ones(len(source.y)))
    unit = float(y.mean())
    line = fit_shrunken_line(expand(X), y / unit, weight, groups=expand.groups)
    return Line(unit * line.coef, unit * line.intercept, unit * line.left_out, line.deviance)


def _non_negative(regressors: Matrix, y: Matrix, root: Matrix) -> Matrix:
    """Return the shares that minimise ``root * (regressors @ shares - y)`` in squares, none below 0."""
    rows = root[:, None] * regressors
    size = np.linalg.norm(rows, axis=0)
    size[size == 0] = 1.0
    shares, _ = nnls(rows / size, root * y)
    return np.asarray(shares / size)
