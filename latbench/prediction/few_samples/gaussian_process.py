"""A Gaussian process on what a network is made of: a shrunken line, and smooth functions of counts and of columns.

The covariance of two architectures is that of a line whose columns share a cost with their group, and of products of
such columns with counts, plus two squared exponentials: one of how often each group runs, one of which columns are on.
Noise is in proportion to the prediction.
Everything is relative: labels are divided by predictions that have not seen them.
(Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006: section 2.7 on the free mean, 5.4.2 on
leaving one out.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from torch import Tensor

from latbench.prediction.few_samples.regression import Matrix, group_matrix
from latbench.prediction.few_samples.threads import one_thread

MOST_ROWS = 500
"""The covariance's parameters are fitted to at most so many rows; more change little, and cost their cube."""

JITTER = 1e-9

_SHARED, _OWN, _GIVEN, _PAIRS, _COUNTS, _COUNTS_LENGTH, _ON, _ON_LENGTH, _NOISE = range(9)


class _Views(NamedTuple):
    """What the covariances look at: rows are architectures."""

    shared: Matrix
    own: Matrix
    given: Matrix
    counts: Matrix
    on: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class GaussianProcess:
    """A fitted process, as arrays.

    Args:
        groups: 0/1 of column and group ``(columns, groups)``.
        columns: the columns that it was fitted to ``(n, columns)``.
        given: a prediction of another model for each of them ``(n,)``, as shares of the unit.
        inverse_scale: unit over the prediction that each label was divided by ``(n,)``.
        logs: the logarithms of the covariance's parameters ``(9,)``.
        weights: the inverse covariance times the labels ``(n,)``.
        mean: of the process, as a share of the unit.
        unit: the mean label.
        left_out: each label's prediction by the process without that row ``(n,)``; empty where it came from a file.
    """

    groups: Matrix
    columns: Matrix
    given: Matrix
    inverse_scale: Matrix
    logs: Matrix
    weights: Matrix
    mean: float
    unit: float
    left_out: Matrix

    def __call__(self, columns: Matrix, given: Matrix, scale: Matrix) -> Matrix:
        """Return predictions ``(n,)``, given another model's, and positive ones ``(n,)`` to be relative to."""
        old = _views(self.columns, self.given, self.groups, self.columns, self.given)
        new = _views(columns, given / self.unit, self.groups, self.columns, self.given)
        inverse = self.unit / scale
        smooth, sums = _smooth(new, old, self.logs), _sums(new, old, self.logs)
        covariance = smooth + sums * np.outer(inverse, self.inverse_scale)
        return np.asarray(scale * (self.mean * inverse + covariance @ self.weights))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what predicting needs, apart from the columns."""
        return {
            "process_groups": self.groups,
            "process_rows": np.column_stack([self.given, self.inverse_scale, self.weights]),
            "process_numbers": np.array([*self.logs, self.mean, self.unit]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], columns: Matrix) -> Self:
        """Return the process of `to_arrays`, from arrays that may come from a file.

        Args:
            arrays: the state.
            columns: the columns that it was fitted to ``(n, columns)``.

        Raises:
            ValueError: they are not such a state.
        """
        groups, rows, numbers = (arrays[f"process_{name}"] for name in ("groups", "rows", "numbers"))
        if rows.shape != (len(columns), 3) or numbers.shape != (11,) or len(groups) != columns.shape[1]:
            raise ValueError("the rows of this process do not fit its columns")
        if groups.ndim != 2 or not (np.isin(groups, [0, 1]).all() and (groups.sum(axis=0) > 0).all()):
            raise ValueError("the groups of this process are not zeros and ones")
        given, inverse_scale, weights = rows.T
        mean, unit = map(float, numbers[9:])
        return cls(groups, columns, given, inverse_scale, numbers[:9], weights, mean, unit, np.empty(0))


def fit_gaussian_process(
    columns: Matrix,
    groups: Sequence[str] | None,
    y: Matrix,
    *,
    given: Matrix,
    scale: Matrix,
    weight: Matrix,
    seed: int = 0,
) -> GaussianProcess:
    """Fit a process by its restricted likelihood, with weak priors.

    Args:
        columns: of a line ``(n, columns)``, distinct rows.
        groups: the group of each column; None makes each a group of its own.
        y: labels ``(n,)``.
        given: predictions of another model ``(n,)``, one more column; constant where there is none.
        scale: positive predictions that have not seen their label ``(n,)``.
        weight: of the rows ``(n,)``.
        seed: draws the rows that the parameters are fitted to, where there are many.
    """
    member = np.eye(columns.shape[1]) if groups is None else group_matrix(groups)
    unit = float(np.abs(y).mean())
    given, relative, inverse = given / unit, y / scale, unit / scale
    centre = np.average(relative, weights=weight)
    spread = float(np.log(np.average((relative - centre) ** 2, weights=weight) + 1e-8))
    rows = np.random.default_rng(seed).permutation(len(y))[:MOST_ROWS]
    views = _views(columns, given, member, columns, given)
    with one_thread():
        logs = _likeliest(_Views(*(view[rows] for view in views)), relative[rows], inverse[rows], weight[rows], spread)
    covariance = _smooth(views, views, logs) + _sums(views, views, logs) * np.outer(inverse, inverse)
    covariance[np.diag_indices_from(covariance)] += np.exp(logs[_NOISE]) / weight + JITTER
    whole = cho_solve(cho_factor(covariance, lower=True), np.eye(len(y)))
    free = whole @ inverse
    mean = float(free @ relative / (free @ inverse))
    projected = whole - np.outer(free, free) / (inverse @ free)
    left_out = y - scale * (projected @ relative) / np.diag(projected)
    weights = whole @ (relative - mean * inverse)
    return GaussianProcess(member, columns, given, inverse, logs, weights, mean, unit, left_out)


def _views(columns: Matrix, given: Matrix, member: Matrix, fitted: Matrix, fitted_given: Matrix) -> _Views:
    """Return what the covariances look at, scaled by the rows that the process is fitted to."""
    own, counts, fitted_counts = columns - fitted.mean(axis=0), columns @ member, fitted @ member
    shared = own @ (member / np.sqrt(member.sum(axis=0)))
    fitted_own = fitted - fitted.mean(axis=0)
    fitted_shared = fitted_own @ (member / np.sqrt(member.sum(axis=0)))
    spread = fitted_counts.std(axis=0)
    used = spread > 1e-9
    counts = (counts - fitted_counts.mean(axis=0))[:, used] / spread[used] / np.sqrt(max(used.sum(), 1))
    return _Views(
        shared / (np.sqrt((fitted_shared**2).sum(axis=1).mean()) or 1.0),
        own / (np.sqrt((fitted_own**2).sum(axis=1).mean()) or 1.0),
        (given - fitted_given.mean())[:, None],
        counts,
        columns / (np.sqrt((fitted_own**2).sum(axis=1).mean()) or 1.0),
    )


def _distance(one: Matrix, other: Matrix) -> Matrix:
    square = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.maximum(square, 0.0))


def _sums(one: _Views, other: _Views, logs: Matrix) -> Matrix:
    shared, own, given = (getattr(one, name) @ getattr(other, name).T for name in ("shared", "own", "given"))
    powers = np.exp(logs)
    return np.asarray(
        powers[_SHARED] * shared + powers[_OWN] * own + powers[_GIVEN] * given + powers[_PAIRS] * shared * own
    )


def _smooth(one: _Views, other: _Views, logs: Matrix) -> Matrix:
    counts = np.exp(logs[_COUNTS] - 0.5 * np.exp(-2 * logs[_COUNTS_LENGTH]) * _distance(one.counts, other.counts))
    on = np.exp(logs[_ON] - 0.5 * np.exp(-2 * logs[_ON_LENGTH]) * _distance(one.on, other.on))
    return np.asarray(counts + on)


def _likeliest(views: _Views, y: Matrix, inverse: Matrix, weight: Matrix, spread: float) -> Matrix:
    """Return the logarithms of the likeliest parameters; `spread` is that of the labels' relative variance."""
    start = np.array([-2.0, -4.0, -2.0, -6.0, spread - 1, 0.0, spread - 1, 0.0, spread - 0.5])
    strength = torch.tensor([0.02, 0.02, 0.02, 0.02, 0.05, 0.5, 0.05, 0.5, 0.02], dtype=torch.float64)
    low, high = start - 10, start + 6
    low[[_COUNTS_LENGTH, _ON_LENGTH]], high[[_COUNTS_LENGTH, _ON_LENGTH]] = -2.0, 2.5
    low[_NOISE], high[_NOISE] = start[_NOISE] - 5, start[_NOISE] + 2
    high[[_COUNTS, _ON]] = spread + 2
    outer = np.outer(inverse, inverse)
    shared, own, given = (view @ view.T for view in (views.shared, views.own, views.given))
    sums = [torch.tensor(part * outer) for part in (shared, own, given, shared * own)]
    distances = [torch.tensor(_distance(view, view)) for view in (views.counts, views.on)]
    labels, free, noise = (torch.tensor(x)[:, None] for x in (y, inverse, 1 / weight))
    prior, jitter = torch.tensor(start), JITTER * torch.eye(len(y), dtype=torch.float64)

    def deviance(logs: Tensor) -> Tensor:
        covariance = sum((torch.exp(logs[kind]) * part for kind, part in enumerate(sums)), jitter)
        for power, length, square in zip((_COUNTS, _ON), (_COUNTS_LENGTH, _ON_LENGTH), distances, strict=True):
            covariance = covariance + torch.exp(logs[power] - 0.5 * torch.exp(-2 * logs[length]) * square)
        root = torch.linalg.cholesky(covariance + torch.diag(torch.exp(logs[_NOISE]) * noise[:, 0]))
        solved, solved_free = torch.cholesky_solve(labels, root), torch.cholesky_solve(free, root)
        size = (free * solved_free).sum()
        misfit = (labels * solved).sum() - (free * solved).sum() ** 2 / size
        likelihood = misfit / 2 + torch.log(torch.diagonal(root)).sum() + torch.log(size) / 2
        return likelihood + (strength * (logs - prior) ** 2).sum()

    def value(logs: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        given = torch.tensor(logs, requires_grad=True)
        try:
            found = deviance(given)
        except RuntimeError:  # parameters that are no covariance to working precision
            return 1e12, np.zeros(len(logs))
        (slope,) = torch.autograd.grad(found, given)
        return float(found.detach()), slope.numpy()

    bounds = list(zip(low, high, strict=True))
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    return np.asarray(found.x)
