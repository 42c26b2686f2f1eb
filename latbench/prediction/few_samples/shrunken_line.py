"""A linear model for few samples: every column is shrunk towards its group, and the groups towards known costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from latbench.prediction.few_samples.regression import Matrix, group_matrix, relative_scale

SPREADS = (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 30.0)
"""How far a column strays from its group, from hardly to as if there were no groups."""


@dataclass(frozen=True, slots=True)
class Line:
    """A linear model of an encoding.

    Args:
        coef: what each column adds ``(columns,)``.
        intercept: the prediction for an encoding of zeros.
        left_out: each label minus what the line would predict had it not seen that row ``(n,)``.
        deviance: minus twice the logarithm of the restricted likelihood, up to a constant of the labels, their scale
            and weights: the lower, the better do the columns and their groups explain the labels.
    """

    coef: Matrix
    intercept: float
    left_out: Matrix
    deviance: float


def fit_shrunken_line(
    X: Matrix,
    y: Matrix,
    weight: Matrix,
    *,
    groups: Sequence[str] | None = None,
    costs: Matrix | Sequence[float] | None = None,
    scale: Matrix | None = None,
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
        scale: what errors are divided by to become relative ``(n,)``; None is `relative_scale`.
    """
    root = np.sqrt(weight) / (relative_scale(y) if scale is None else scale)
    x_mean, y_mean = np.average(X, axis=0, weights=root**2), np.average(y, weights=root**2)
    rows, labels = root[:, None] * (X - x_mean), root * (y - y_mean)
    table = np.zeros(X.shape[1]) if costs is None else np.asarray(costs, dtype=np.float64)
    # An orthonormal basis of what is not penalised: the intercept, and the table's sum where it varies.
    free = root[:, None] / np.linalg.norm(root)
    table_norm = np.linalg.norm(rows @ table)
    if table_norm > 1e-9 * np.linalg.norm(root) * np.linalg.norm(table):
        free = np.column_stack([free, rows @ table / table_norm])
    coef, leverage, deviance = _fit_penalised(
        rows - free @ (free.T @ rows), labels - free @ (free.T @ labels), groups, len(y) - free.shape[1]
    )
    if free.shape[1] == 2:
        coef = coef + free[:, 1] @ (labels - rows @ coef) / table_norm * table
    leverage = leverage + np.sum(free**2, axis=1)
    # The closed form of leaving one out; a row that alone decides its own prediction has no such error.
    left_out = (labels - rows @ coef) / np.maximum(1 - leverage, 0.01) / root
    return Line(coef, float(y_mean - x_mean @ coef), left_out, deviance)


def _fit_penalised(
    rows: Matrix, labels: Matrix, groups: Sequence[str] | None, freedom: int
) -> tuple[Matrix, Matrix, float]:
    """Return the coefficients of the likeliest penalties, the leverage of each row, and the deviance."""
    floor = 1e-12 * (labels @ labels) + np.finfo(float).tiny
    unexplained = max(freedom, 0) * np.log(labels @ labels + floor)
    best = None
    if freedom >= 1:
        basis, small = np.linalg.qr(rows)
        projected_labels = basis.T @ labels
        for prior in _priors(small, groups):
            power, left = np.linalg.eigh(prior.covariance)
            power = np.maximum(power, 0.0)
            if power[-1] <= np.finfo(float).eps * len(rows):
                break
            projected = left.T @ projected_labels
            penalties = power[-1] * np.logspace(-7, 2, 46)
            kept = power / (power + penalties[:, None])
            misfit = labels @ labels - kept @ projected**2 + floor
            deviance = freedom * np.log(misfit) - np.log1p(-kept).sum(axis=1)
            likeliest = int(deviance.argmin())
            if best is None or deviance[likeliest] < best[0]:
                explained = left @ (projected / (power + penalties[likeliest]))
                best = deviance[likeliest], prior, explained, (basis @ left) ** 2 @ kept[likeliest]
    if best is None:
        return np.zeros(rows.shape[1]), np.zeros(len(rows)), float(unexplained)
    deviance, prior, explained, leverage = best
    return prior.coef(explained), leverage, float(deviance)


@dataclass(frozen=True, slots=True)
class _Prior:
    """Independent normal coefficients of groups plus those of columns, which stray from their group by `spread`.

    Args:
        rows: what multiplies the coefficients ``(n, columns)``.
        member: 0/1 of column and group, divided by the root of the group's size; None where there are no groups.
        spread: standard deviation of a column's own part.
        covariance: of ``rows @ coefficients`` ``(n, n)``.
    """

    rows: Matrix
    member: Matrix | None
    spread: float
    covariance: Matrix

    def coef(self, explained: Matrix) -> Matrix:
        """Return the expected coefficients, given the inverse covariance of the labels times the labels."""
        own = self.rows.T @ explained
        shared = 0.0 if self.member is None else self.member @ (self.member.T @ own)
        return np.asarray(shared + self.spread**2 * own)


def _priors(rows: Matrix, groups: Sequence[str] | None) -> Iterator[_Prior]:
    own = rows @ rows.T
    if groups is None:
        yield _Prior(rows, None, 1.0, own)
        return
    member = group_matrix(groups)
    member /= np.sqrt(member.sum(axis=0))
    shared = (rows @ member) @ (rows @ member).T
    for spread in SPREADS:
        yield _Prior(rows, member, spread, shared + spread**2 * own)
