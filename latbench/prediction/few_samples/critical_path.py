"""A device that runs branches side by side: what all live operations cost, plus the longest live path.

Its few parameters are costs, none negative, so that ten to twenty architectures are enough::

    value = base + sum over live operations of c[group] + soft maximum over live paths of the sum of k[group]
            + a * (number of sums)

The soft maximum of several graphs is the sum of theirs. Log-normal priors keep a group that is hardly seen small, and
a soft L1 loss of relative errors keeps outliers from ruling the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from latbench.prediction.few_samples.regression import Matrix
from latbench.prediction.structure.paths import PathReader, Runs, path_reader
from latbench.predictor import Context

TEMPERATURE = 0.02
"""Of the soft maximum, as a share of the mean label."""

OUTLIER = 0.05
"""Relative errors above this count in proportion, and no longer in squares."""

PRIOR = 0.02
"""Weight of the priors: a factor of e on one parameter costs as much as this many rows that are off by `OUTLIER`."""

_DEAD = -1e3


@dataclass(frozen=True, slots=True, eq=False)
class CriticalPath:
    """A fitted model.

    Args:
        reader: reads what runs from encodings.
        costs: ``base``, then ``c`` and ``k`` of each group, then ``a`` of each graph, as shares of `unit`.
        unit: the mean label.
    """

    reader: PathReader
    costs: Matrix
    unit: float

    @classmethod
    def fit(cls, context: Context | None, X: Matrix, y: Matrix, weight: Matrix) -> Self | None:
        """Fit to encodings ``(n, columns)`` and positive labels ``(n,)`` with weights; None without branches."""
        reader = None if context is None else path_reader(context.graphs, context.columns)
        if reader is None or y.min() <= 0:
            return None
        runs, unit = reader(X), float(np.average(y, weights=weight))
        fitted = [
            minimize(_loss, start, (runs, y / unit, weight, prior), "L-BFGS-B", jac=True, options={"maxiter": 200})
            for prior in [_prior(runs)]
            for start in _starts(prior, reader.groups)
        ]
        return cls(reader, np.exp(min(fitted, key=lambda result: float(result.fun)).x), unit)

    def __call__(self, X: NDArray[np.floating]) -> Matrix:
        """Return predictions ``(n,)`` for encodings of architectures ``(n, columns)``."""
        return self.unit * _predict(self.costs, self.reader(X))[0]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays."""
        reader = self.reader
        return {
            "path_edges": reader.edges,
            "path_columns": reader.columns,
            "path_ends": reader.ends,
            "path_certain": reader.certain,
            "path_costs": np.append(self.costs, self.unit),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], width: int) -> Self:
        """Return the model of `to_arrays`, from arrays that may come from a file, for encodings of `width` columns.

        Raises:
            ValueError: they are not such a state.
        """
        edges, columns, ends, certain = (arrays[f"path_{name}"] for name in ("edges", "columns", "ends", "certain"))
        shapes = [(len(edges), 3), (len(columns), 3), (len(ends), 3), (len(edges),)]
        for array, shape in zip((edges, columns, ends, certain), shapes, strict=True):
            if array.dtype != np.int64 or array.shape != shape or (array < 0).any():
                raise ValueError("the paths of this predictor are not indices")
        limits = np.array([max(len(edges), 1), width, len(columns)])
        if np.any(columns >= limits) or not np.all(np.diff(edges[:, 1:], axis=1) > 0):
            raise ValueError("the paths of this predictor have an index out of range")
        reader, costs = PathReader(edges, columns, ends, certain), arrays["path_costs"]
        graphs = int(edges[:, 0].max(initial=-1)) + 1
        if costs.shape != (2 + 2 * reader.groups + graphs,) or costs.dtype != np.float64 or not reader.has_branches():
            raise ValueError("the paths of this predictor do not fit their costs")
        return cls(reader, costs[:-1], float(costs[-1]))


def _predict(costs: Matrix, runs: Runs) -> tuple[Matrix, Matrix]:
    """Return predictions ``(n,)`` and their derivatives by the logarithms of the costs ``(n, costs)``."""
    groups = runs.counts.shape[1]
    base, each, along, joined = np.split(costs, [1, 1 + groups, 1 + 2 * groups])
    value = base + runs.counts @ each + runs.sums @ joined
    on_longest = np.zeros_like(runs.counts)
    for paths, live in zip(runs.paths, runs.live, strict=True):
        length = np.where(live, paths @ along, _DEAD)
        longest = length.max(axis=1, keepdims=True)
        share = np.exp((length - longest) / TEMPERATURE)
        total = share.sum(axis=1, keepdims=True)
        some = np.asarray(live.any(axis=1))
        value += np.where(some, longest[:, 0] + TEMPERATURE * np.log(total[:, 0]), 0.0)
        on_longest += some[:, None] * np.einsum("np,npg->ng", share / total, paths)
    slopes = [np.full((len(value), 1), base[0]), runs.counts * each, on_longest * along, runs.sums * joined]
    return value, np.hstack(slopes)


def _loss(logs: Matrix, runs: Runs, y: Matrix, weight: Matrix, prior: Matrix) -> tuple[float, Matrix]:
    value, slopes = _predict(np.exp(logs), runs)
    error = (value / y - 1) / OUTLIER
    root = np.sqrt(1 + error**2)
    away = logs - prior
    loss = weight @ (root - 1) + PRIOR * away @ away
    return float(loss), (weight * error / root / OUTLIER / y) @ slopes + 2 * PRIOR * away


def _prior(runs: Runs) -> Matrix:
    """Return the logarithms of costs that explain a mean label: a third each of it alone, in counts, on the path."""
    groups, graphs = runs.counts.shape[1], runs.sums.shape[1]
    operations = max(float(runs.counts.sum(axis=1).mean()), 1.0)
    costs = [0.3], np.full(groups, 0.2 / operations), np.full(groups, 0.2 / operations), np.full(graphs, 0.02 / graphs)
    return np.log(np.concatenate(costs))


def _starts(prior: Matrix, groups: int) -> tuple[Matrix, Matrix]:
    """Return two places to start from: mostly a sum, and mostly a path."""
    each, along = np.zeros(len(prior)), np.zeros(len(prior))
    each[1 : 1 + groups] = along[1 + groups : 1 + 2 * groups] = np.log(2.0)
    return prior + each - along, prior - each + along
