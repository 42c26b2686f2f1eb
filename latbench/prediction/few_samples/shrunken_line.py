"""A linear model for few samples: every column is shrunk towards its group, and the groups towards known costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from latbench.prediction.few_samples.regression import Matrix, group_matrix, relative_scale


@dataclass(frozen=True, slots=True)
class Line:
    """A linear model of an encoding.

    Args:
        coef: what each column adds ``(columns,)``.
        intercept: the prediction for an encoding of zeros.
        left_out: each label minus what the line would predict had it not seen that row ``(n,)``.
    """

    coef: Matrix
    intercept: float
    left_out: Matrix


def fit_shrunken_line(
    X: Matrix,
    y: Matrix,
    weight: Matrix,
    *,
    groups: Sequence[str] | None = None,
    costs: Matrix | Sequence[float] | None = None,
) -> Line:
    """Fit a ridge regression with three levels to relative errors.

    The intercept and a slope on `costs` are free, each group may deviate from that, and each column from its group.
    The two penalties maximise the restricted likelihood (MacKay, "Bayesian Interpolation", Neural Computation 1992,
    section 3), which chooses well from ten rows on, where leave-one-out errors still mislead.

    Args:
        X: encodings ``(n, columns)``, distinct rows.
        y: labels ``(n,)``.
        weight: positive weights ``(n,)`` on top of the relative weighting.
        groups: the group of each column; None leaves one penalty for all columns.
        costs: the known cost of each column up to a common factor; None where it is not known.
    """
    root = np.sqrt(weight) / relative_scale(y)
    x_mean, y_mean = np.average(X, axis=0, weights=root**2), np.average(y, weights=root**2)
    rows, labels = root[:, None] * (X - x_mean), root * (y - y_mean)
    table = np.zeros(X.shape[1]) if costs is None else np.asarray(costs, dtype=np.float64)
    # An orthonormal basis of what is not penalised: the intercept, and the table's sum where it varies.
    free = root[:, None] / np.linalg.norm(root)
    table_norm = np.linalg.norm(rows @ table)
    if table_norm > 1e-9 * np.linalg.norm(root) * np.linalg.norm(table):
        free = np.column_stack([free, rows @ table / table_norm])
    coef, leverage = _fit_penalised(
        rows - free @ (free.T @ rows), labels - free @ (free.T @ labels), groups, len(y) - free.shape[1]
    )
    if free.shape[1] == 2:
        coef = coef + free[:, 1] @ (labels - rows @ coef) / table_norm * table
    leverage = leverage + np.sum(free**2, axis=1)
    # The closed form of leaving one out; a row that alone decides its own prediction has no such error.
    left_out = (labels - rows @ coef) / np.maximum(1 - leverage, 0.01) / root
    return Line(coef, float(y_mean - x_mean @ coef), left_out)


def _fit_penalised(rows: Matrix, labels: Matrix, groups: Sequence[str] | None, freedom: int) -> tuple[Matrix, Matrix]:
    """Return the coefficients of the likeliest penalties, and the leverage of each row."""
    best_deviance, coef, leverage = np.inf, np.zeros(rows.shape[1]), np.zeros(len(rows))
    if freedom < 1:
        return coef, leverage
    basis, small = np.linalg.qr(rows)
    floor = 1e-12 * (labels @ labels) + np.finfo(float).tiny
    for prior in _priors(groups, rows.shape[1]):
        left, singular, right = np.linalg.svd(small @ prior, full_matrices=False)
        power = singular**2
        if power[0] <= np.finfo(float).eps * len(rows):
            break
        projected = left.T @ (basis.T @ labels)
        for penalty in power[0] * np.logspace(-7, 2, 46):
            kept = power / (power + penalty)
            misfit = labels @ labels - kept @ projected**2 + floor
            deviance = freedom * np.log(misfit) - np.sum(np.log1p(-kept))
            if deviance < best_deviance:
                best_deviance = deviance
                coef = prior @ (right.T @ (kept * projected / np.maximum(singular, 1e-300)))
                leverage = (basis @ left) ** 2 @ kept
    return coef, leverage


def _priors(groups: Sequence[str] | None, columns: int) -> Iterator[Matrix]:
    """Yield matrices that turn independent standard normal numbers into coefficients ``(columns, ...)``.

    They differ in how far a column strays from its group, from hardly to as if there were no groups.
    """
    own = np.eye(columns)
    if groups is None:
        yield own
        return
    member = group_matrix(groups)
    for spread in (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 30.0):
        yield np.hstack([member / np.sqrt(member.sum(axis=0)), spread * own])
