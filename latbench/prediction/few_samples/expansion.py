"""An encoding followed by the products of columns that decide together: the input of lines on measured operations.

A predictor that keeps its `Expansion` needs nothing else of a context to predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latbench.prediction.few_samples.regression import Matrix
from latbench.predictor import Context

_ONE = -1
"""Fills up short products: the index of a column of ones after the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """How an encoding is expanded, and what is known of the expanded columns.

    Args:
        width: columns of an encoding.
        products: the columns of each product ``(products, factors)``, filled up with -1.
        groups: the group of each expanded column, a product's joined from its columns'; None where they are not known.
        costs: the measured cost of each expanded column, 0 where nothing runs; None where they are not known.
    """

    width: int
    products: NDArray[np.int64]
    groups: tuple[str, ...] | None = None
    costs: Matrix | None = None

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
        padded = np.hstack([columns, np.ones((len(X), 1))])
        return np.hstack([columns, padded[:, self.products].prod(axis=-1)])


def checked_products(array: NDArray[Any], width: int) -> NDArray[np.int64]:
    """Return products that may come from a file.

    Raises:
        ValueError: they are not ``(products, factors)`` of columns below `width`, or -1.
    """
    if array.ndim != 2 or array.dtype != np.int64 or not array.shape[1]:
        raise ValueError("products are integers (products, factors)")
    if not ((array >= _ONE) & (array < width)).all():
        raise ValueError(f"a product has a factor outside the {width} columns")
    return array
