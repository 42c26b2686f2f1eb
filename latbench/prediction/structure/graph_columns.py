"""The columns that a space's graphs offer beside an encoding's own, in steps: masked by liveness, then counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latbench.prediction.structure.graph_polynomials import GraphPolynomials, Named
from latbench.prediction.structure.polynomial import Algebra, Monomial, TooManyPaths
from latbench.space import Column, Graph

_FILL = -1
"""Fills up short rows of indices: the index of a column of ones after the last."""


@dataclass(frozen=True, slots=True, eq=False)
class GraphColumns:
    """Columns made of products of sums of an encoding's columns.

    Args:
        sums: the columns that each sum adds up ``(sums, terms)``, filled up with -1 (an edge that is there is the sum
            of its operations).
        products: the factors of each product ``(products, factors)``, filled up with -1: a column, or the width of an
            encoding plus the index of a sum.
        mix: how much of each product is in each column ``(products, columns)``.
        groups: the group of each column.
    """

    sums: NDArray[np.int64]
    products: NDArray[np.int64]
    mix: NDArray[np.float64]
    groups: tuple[str, ...]


@lru_cache(maxsize=8)
def graph_columns(graphs: tuple[Graph, ...], columns: tuple[Column, ...]) -> tuple[GraphColumns, ...]:
    """Return what each step adds, the columns of the steps before included; none where it adds nothing.

    Groups whose columns are lines in those of an encoding, or equal other ones, are left out. A graph whose paths
    overlap in too many ways has none (`latbench.prediction.structure.polynomial.MOST_PRODUCTS`).
    """
    algebra = Algebra(
        [[_index(columns)[name] for name in names] for graph in graphs for names in graph.columns], len(columns)
    )
    steps: tuple[Callable[[GraphPolynomials], list[Named]], ...] = (GraphPolynomials.masked, GraphPolynomials.counts)
    each, first = [], 0
    for graph in graphs:
        each.append(GraphPolynomials(graph, columns, algebra, first))
        first += len(graph.edges)
    found: list[Named] = []
    sets = []
    for step in steps:
        known = len(found)
        for polynomials in each:
            try:
                found += _new(step(polynomials), found)
            except TooManyPaths:
                continue
        if len(found) > known:
            sets.append(_compiled(found, algebra))
    return tuple(sets)


def _index(columns: Sequence[Column]) -> dict[str, int]:
    return {column.name: index for index, column in enumerate(columns)}


def _new(named: Sequence[Named], before: Sequence[Named]) -> list[Named]:
    """Return the groups that say something new: one of their polynomials is no line, and not there yet.

    A group stays whole, so that one shared cost can stand for the live operations of a kind, wherever they are.
    """
    known = {frozenset(each.polynomial.terms.items()) for each in before}
    new = set()
    for each in named:
        terms = frozenset(each.polynomial.terms.items())
        if each.polynomial.degree > 1 and terms not in known:
            known.add(terms)
            new.add(each.group)
    return [each for each in named if each.group in new]


def _compiled(named: Sequence[Named], algebra: Algebra) -> GraphColumns:
    products: dict[Monomial, int] = {}
    for each in named:
        for product in each.polynomial.terms:
            products.setdefault(product, len(products))
    mix = np.zeros((len(products), len(named)))
    for column, each in enumerate(named):
        for product, value in each.polynomial.terms.items():
            mix[products[product], column] = value
    edges = sorted({factor - algebra.width for product in products for factor in product if factor >= algebra.width})
    number = {algebra.width + edge: algebra.width + place for place, edge in enumerate(edges)}
    factors = [[number.get(factor, factor) for factor in sorted(product)] for product in products]
    sums = [algebra.edges[edge] for edge in edges]
    return GraphColumns(_filled(sums), _filled(factors), mix, tuple(each.group for each in named))


def _filled(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    filled = np.full((len(rows), max(map(len, rows), default=1) or 1), _FILL)
    for row, given in zip(filled, rows, strict=True):
        row[: len(given)] = given
    return filled
