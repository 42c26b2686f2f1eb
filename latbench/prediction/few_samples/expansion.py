"""An encoding followed by the products of columns that decide together: the input of lines.

A predictor that keeps its `Expansion` needs nothing else of a context to predict. To fit a line, a predictor takes a
`ColumnSet`: an expansion with what is known of its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from latbench.prediction.few_samples.regression import Matrix
from latbench.prediction.structure.graph_columns import GraphColumns, graph_columns
from latbench.predictor import Context

_ONE = -1
"""Fills up short products: the index of a column of ones after the last."""


def no_sums() -> NDArray[np.int64]:
    """Return the sums of an expansion that has none."""
    return np.empty((0, 1), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """How an encoding is expanded, and what is known of the expanded columns.

    Args:
        width: columns of an encoding.
        products: the factors of each product ``(products, factors)``, filled up with -1: a column, or `width` plus the
            index of a sum.
        groups: the group of each expanded column, a product's joined from its columns'; None where they are not known.
        costs: the measured cost of each expanded column, 0 where nothing runs; None where they are not known.
        sums: the columns that each sum adds up ``(sums, terms)``, filled up with -1; only products use them.
    """

    width: int
    products: NDArray[np.int64]
    groups: tuple[str, ...] | None = None
    costs: Matrix | None = None
    sums: NDArray[np.int64] = field(default_factory=no_sums)

    @classmethod
    def of(cls, context: Context | None, width: int) -> Self:
        """Return the expansion of encodings with `width` columns.

        Raises:
            ValueError: the context has another number of columns.
        """
        if context is None:
            return cls(width, np.empty((0, 1), dtype=np.int64))
        if len(context.columns) != width:
            raise ValueError(f"a context of {len(context.columns)} columns for {width} columns: give the profile's own")
        several = [cost for cost in context.costs or () if len(cost.columns) > 1]
        products = np.full((len(several), max((len(cost.columns) for cost in several), default=1)), _ONE)
        for row, cost in zip(products, several, strict=True):
            row[: len(cost.columns)] = cost.columns
        groups = [column.group for column in context.columns]
        groups += [" x ".join(groups[column] for column in cost.columns) for cost in several]
        if context.costs is None:
            return cls(width, products, tuple(groups))
        costs = np.zeros(width + len(several))
        for cost in context.costs:
            if len(cost.columns) == 1:
                costs[cost.columns[0]] += cost.value
        costs[width:] = [cost.value for cost in several]
        return cls(width, products, tuple(groups), costs)

    @property
    def expanded_width(self) -> int:
        """How many columns an expanded encoding has."""
        return self.width + len(self.products)

    def __call__(self, X: NDArray[np.floating]) -> Matrix:
        """Return encodings ``(n, width)`` expanded ``(n, expanded_width)``."""
        columns = np.asarray(X, dtype=np.float64)
        if not len(self.products):
            return columns
        padded = np.hstack([columns, columns @ self.sum_matrix(), np.ones((len(X), 1))])
        return np.hstack([columns, padded[:, self.products].prod(axis=-1)])

    def sum_matrix(self) -> Matrix:
        """Return the 0/1 matrix ``(width, sums)`` that adds up the columns of each sum."""
        matrix = np.zeros((self.width + 1, len(self.sums)))
        matrix[self.sums.T, np.arange(len(self.sums))] = 1.0  # the last row takes what fills up short sums
        return matrix[:-1]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what predicting needs of it, apart from the width."""
        return {"products": self.products, "sums": self.sums}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], width: int) -> Self:
        """Return the expansion of `to_arrays`, from arrays that may come from a file.

        Raises:
            ValueError: they are not integers, or name columns that do not exist.
        """
        sums = _checked("sum", arrays["sums"], width)
        return cls(width, _checked("product", arrays["products"], width + len(sums)), sums=sums)


@dataclass(frozen=True, slots=True, eq=False)
class ColumnSet:
    """What a line is fitted to: mixtures of an expansion's columns.

    Args:
        expansion: the expansion.
        mix: how much of each expanded column is in each column ``(expanded_width, columns)``; None is the identity.
        groups: the group of each column; None where they are not known.
        costs: the measured cost of each column; None where they are not known.
    """

    expansion: Expansion
    mix: Matrix | None
    groups: tuple[str, ...] | None
    costs: Matrix | None

    def __call__(self, X: NDArray[np.floating]) -> Matrix:
        """Return the columns ``(n, columns)`` of encodings ``(n, width)``."""
        expanded = self.expansion(X)
        return expanded if self.mix is None else expanded @ self.mix

    def unmixed(self, coef: Matrix) -> Matrix:
        """Return the coefficients of the expanded columns from those of the columns."""
        return coef if self.mix is None else self.mix @ coef


def column_sets(context: Context | None, width: int) -> tuple[ColumnSet, ...]:
    """Return what lines may be fitted to, each with more columns than the one before: `Expansion.of`, then graphs'.

    Raises:
        ValueError: the context has another number of columns.
    """
    plain = Expansion.of(context, width)
    first = ColumnSet(plain, None, plain.groups, plain.costs)
    if context is None or not context.graphs:
        return (first,)
    return (first, *(_with_graphs(plain, more) for more in graph_columns(context.graphs, context.columns)))


def _with_graphs(plain: Expansion, more: GraphColumns) -> ColumnSet:
    factors = max(plain.products.shape[1], more.products.shape[1])
    products = np.vstack([_widened(plain.products, factors), _widened(more.products, factors)])
    mix = block_diag(np.eye(plain.expanded_width), more.mix)
    costs = None if plain.costs is None else np.concatenate([plain.costs, np.zeros(len(more.groups))])
    groups = None if plain.groups is None else (*plain.groups, *more.groups)
    return ColumnSet(Expansion(plain.width, products, sums=more.sums), mix, groups, costs)


def _widened(products: NDArray[np.int64], factors: int) -> NDArray[np.int64]:
    return np.pad(products, ((0, 0), (0, factors - products.shape[1])), constant_values=_ONE)


def _checked(kind: str, array: NDArray[Any], width: int) -> NDArray[np.int64]:
    if array.ndim != 2 or array.dtype != np.int64 or not array.shape[1]:
        raise ValueError(f"{kind}s are integers ({kind}s, factors)")
    if not ((array >= _ONE) & (array < width)).all():
        raise ValueError(f"a {kind} has a factor outside the {width} columns")
    return array
