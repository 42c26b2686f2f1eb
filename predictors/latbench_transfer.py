"""The predictor ``transfer``: a new device from a few values and other devices' profiles."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, product
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.utils.validation import _check_sample_weight, validate_data

from latbench.prediction.few_samples.expansion import ColumnSet, column_sets
from latbench.prediction.few_samples.line_regressor import LineRegressor
from latbench.prediction.few_samples.regression import Matrix, group_matrix, merge_rows, relative_scale
from latbench.prediction.few_samples.robust_line import fit_robust_line
from latbench.predictor import Context, Source

PENALTIES = np.logspace(-3.5, 0.5, 17)
"""Noise over how far a share may stray: from hardly penalised to all sources alike."""

COUNTS = (0.03, 0.1, 0.3, 1.0)
"""How far the counts of groups may stray, with the sources at 1."""

RESIDUAL_ROWS = 50
"""With fewer rows, what the sources cannot explain is noise."""


class TransferRegressor(LineRegressor):
    """A mixture of other devices and of a cost for each group of columns; no share and no cost is negative.

    A line is fitted to each source (`latbench.prediction.few_samples.robust_line`): its predictions have less noise
    than the measurements. The shares minimise relative errors by non-negative least squares (Lawson and Hanson, 1974)
    and are drawn to equal ones, counts to none. How strongly is averaged over, as likely as the labels make it
    (empirical Bayes): labels that are all noise get the mean of the sources, exact ones their own mixture.

    From 50 rows on, a line that may deviate from the mixture's where the labels say so is fitted to all columns.

    Attributes:
        coef_: what each column of an expanded encoding (`latbench.prediction.few_samples.expansion`) adds.
        intercept_: the prediction for an encoding of zeros.
        expansion_: gives the expanded encoding.
        shares_: how much each source contributes to the mixture, as multiples of its own values.
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
        sets = column_sets(context, X.shape[1])
        if context is not None and not context.sources:
            raise ValueError("transfer learns from other devices' profiles: give one or more as sources")
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weight = merge_rows(X, y, weight)
        whole = sets[-1]
        columns = whole(X)
        lines = [_line(source, sets) for source in (context.sources if context is not None else ())]
        member = np.eye(X.shape[1]) if whole.groups is None else group_matrix(whole.groups[: X.shape[1]])
        member = member[:, _runs_something(context, X.shape[1]) @ member > 0]
        counts = np.vstack([member, np.zeros((columns.shape[1] - len(member), member.shape[1]))])
        # Regressors as lines: their coefficients (columns, regressors), and their intercepts.
        slopes = np.column_stack([*(coef for coef, _ in lines), counts, np.zeros(columns.shape[1])])
        intercepts = np.array([*(intercept for _, intercept in lines), *np.zeros(counts.shape[1]), 1.0])
        root = np.sqrt(weight) / relative_scale(y)
        shares = _shares(columns @ slopes + intercepts, y, root, len(lines))
        coef, self.intercept_ = slopes @ shares, float(intercepts @ shares)
        if lines and len(y) >= RESIDUAL_ROWS:
            unit = float(np.abs(y).mean()) or 1.0
            known = replace(whole, costs=coef / unit)
            line = fit_robust_line([known], X, y / unit, weight)[1]
            coef, self.intercept_ = unit * line.coef, unit * line.intercept
        self.coef_ = whole.unmixed(coef)
        self.expansion_, self.shares_ = whole.expansion, shares[: len(lines)]
        return self


def _runs_something(context: Context | None, width: int) -> NDArray[np.bool_]:
    """Return which columns of an encoding ``(columns,)`` run anything, as far as the space's graphs tell."""
    if context is None or not context.graphs:
        return np.ones(width, dtype=np.bool_)
    outside = {column.name for column in context.columns}
    for graph in context.graphs:
        # An edge without columns for some of its options is not there where those are on.
        outside &= {column.name for column in context.columns} - set(chain(*graph.columns))
    groups = {column.group for column in context.columns if column.name not in outside}
    return np.array([column.group in groups for column in context.columns])


def _line(source: Source, sets: tuple[ColumnSet, ...]) -> tuple[Matrix, float]:
    """Return a source's coefficients on the columns of the last set ``(columns,)``, and its intercept."""
    X, y, weight = merge_rows(source.X.astype(np.float64), source.y.astype(np.float64), np.ones(len(source.y)))
    unit = float(y.mean())
    line = fit_robust_line(sets, X, y / unit, weight)[1]
    width = sets[-1](X[:1]).shape[1]  # the columns of each set begin with those of the set before
    return unit * np.pad(line.coef, (0, width - len(line.coef))), unit * line.intercept


def _shares(regressors: Matrix, y: Matrix, root: Matrix, sources: int) -> Matrix:
    """Return shares ``(regressors,)``, none below 0, the first ones those of sources.

    Args:
        regressors: predictions of sources, then counts and a constant ``(n, regressors)``.
        y: labels ``(n,)``.
        root: what errors are multiplied by to become relative ``(n,)``.
        sources: how many regressors are sources.
    """
    size = np.abs(regressors).mean(axis=0)
    size[size == 0] = 1.0
    rest = regressors.shape[1] - sources
    expected = np.concatenate([np.full(sources, 1 / sources if sources else 0.0), np.zeros(rest)])
    if not sources:
        expected[-1] = 1.0
    level = float(np.median(y / np.maximum(regressors / size @ expected, np.finfo(float).tiny)))
    if level <= 0:  # labels that are not positive have no mixture to be drawn to
        level, expected = float(np.abs(y).mean()) or 1.0, np.zeros(len(expected))
    rows, labels = root[:, None] * level * regressors / size, root * y
    common, missed = rows @ expected, labels - rows @ expected
    found, likely = [], []
    for penalty, counts in product(PENALTIES, COUNTS):
        stray = np.concatenate([np.full(sources, max(sources, 1) ** -0.5), np.full(rest, counts * rest**-0.5)])
        covariance = np.eye(len(y)) + (rows * (stray / penalty) ** 2) @ rows.T
        inverse = np.linalg.inv(covariance)
        # The level is free: the likelihood is that of the labels around any multiple of the common mixture.
        weight = float(common @ inverse @ common) or 1.0
        more = float(common @ inverse @ missed) / weight
        misfit = float(missed @ inverse @ missed) - more**2 * weight
        freedom = max(len(y) - 1, 1)
        likely.append(-(freedom * np.log(max(misfit, 1e-12)) + np.linalg.slogdet(covariance)[1] + np.log(weight)) / 2)
        pull = penalty / stray
        solved, _ = nnls(np.vstack([rows, np.diag(pull)]), np.concatenate([labels, pull * expected * (1 + more)]))
        found.append(solved)
    chances = np.exp(np.array(likely) - max(likely))
    return np.asarray(chances @ np.array(found) / chances.sum() * level / size)
