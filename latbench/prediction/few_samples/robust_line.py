"""A shrunken line that outliers and cheap architectures do not rule, on the columns that explain the labels best.

Errors divided by labels let the architectures that turned out fast rule the fit: their label is the divisor, noise
included. The prediction of a line that has not seen them is the better divisor. What is left are outliers, of which the
tails of Student's t take account (Lange, Little and Taylor, "Robust Statistical Modeling Using the t Distribution",
JASA 1989): each row weighs the less, the less its error fits a normal one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latbench.prediction.few_samples.expansion import ColumnSet
from latbench.prediction.few_samples.regression import Matrix, relative_scale
from latbench.prediction.few_samples.shrunken_line import Line, fit_shrunken_line

ROUNDS = 3
"""How often the weights are found anew; more change nothing."""

FREEDOM = 4
"""Degrees of freedom of Student's t: tails that are heavy, with a variance."""


def fit_robust_line(sets: Sequence[ColumnSet], X: Matrix, y: Matrix, weight: Matrix) -> tuple[ColumnSet, Line]:
    """Fit a line to each set of columns, and return the likeliest with its set.

    The restricted likelihood that chooses the penalties chooses the columns, too: it asks what the labels would have
    been without them, so more columns are not by themselves likelier.

    Args:
        sets: what the line may be fitted to.
        X: encodings ``(n, width)``, distinct rows.
        y: labels ``(n,)``.
        weight: positive weights ``(n,)``.
    """
    columns = [each(X) for each in sets]
    scale, tails = relative_scale(y), np.ones(len(y))
    for _ in range(ROUNDS + 1):
        lines = [
            fit_shrunken_line(rows, y, weight * tails, groups=each.groups, costs=each.costs, scale=scale)
            for each, rows in zip(sets, columns, strict=True)
        ]
        likeliest = int(np.argmin([line.deviance for line in lines]))
        missed = lines[likeliest].left_out
        scale = left_out_scale(y, missed)
        tails = student_weights(missed / scale, weight)
    return sets[likeliest], lines[likeliest]


def left_out_scale(y: Matrix, missed: Matrix) -> Matrix:
    """Return what errors are divided by to become relative ``(n,)``: predictions for rows that were left out.

    Args:
        y: labels ``(n,)``.
        missed: labels minus these predictions ``(n,)``.
    """
    if y.min() <= 0:
        return relative_scale(y)
    return np.maximum(y - missed, np.median(y) / 10)


def student_weights(errors: Matrix, weight: Matrix) -> Matrix:
    """Return the weights of errors ``(n,)`` under Student's t with `FREEDOM` degrees: at most 1.25, less in its tails.

    Args:
        errors: around 0.
        weight: how often each is counted ``(n,)``.
    """
    square = float(np.average(errors**2, weights=weight))
    tails = np.ones(len(errors))
    for _ in range(20):
        if square <= np.finfo(float).tiny:
            break
        tails = (FREEDOM + 1) / (FREEDOM + errors**2 / square)
        square = float(np.average(tails * errors**2, weights=weight))
    return tails
