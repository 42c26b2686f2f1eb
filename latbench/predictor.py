"""The contract of a predictor: a scikit-learn regressor from encodings to milliseconds (or mJ, MiB, ...).

Any scikit-learn regressor is a predictor; one entry point makes it a plug-in::

    [project.entry-points."latbench.predictors"]
    ridge = "sklearn.linear_model:Ridge"

What it may know beyond X and y comes as a fit parameter, a `Context`, to every predictor whose ``fit`` takes a keyword
``context`` (`sklearn.utils.validation.has_fit_parameter`). What else it can do is a small protocol each, tested by
``isinstance``. One that takes a context or implements a protocol is written for latbench: it gets the labels as they
were measured, and its relative predictions must not depend on their unit (`latbench.testing.PredictorSuite` checks it).
Any other learns from standardised labels (`latbench.prediction.sklearn`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from latbench.space import Column, Graph


class Predictor(Protocol):
    """A scikit-learn regressor (https://scikit-learn.org/stable/developers/develop.html).

    ``fit`` may also take ``sample_weight`` and a `Context` as ``context``; ``predict`` may also take ``return_std``,
    and then returns predictions and their standard deviations.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to encodings ``(n, columns)`` and labels ``(n,)``."""
        ...

    def predict(self, X: Any) -> NDArray[np.floating]:
        """Return predictions ``(n,)`` in the unit of the labels."""
        ...

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's keywords."""
        ...

    def set_params(self, **params: Any) -> Self:
        """Set the constructor's keywords."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of operations that run in proportion to a column of an encoding, or to a product of several.

    Args:
        columns: indices of the columns; one in most spaces, two where both decide what runs (the
            width before a layer and the width after it).
        value: their measured cost, in the label's unit.
    """

    columns: tuple[int, ...]
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What architectures of the same space take on another device.

    Args:
        name: what messages call it.
        X: encodings ``(n, columns)``.
        y: measured values ``(n,)``, in the quantity and unit of the labels.
    """

    name: str
    X: NDArray[np.floating]
    y: NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a space and a profile know beyond X and y.

    Args:
        columns: what each column of an encoding stands for.
        costs: the operator table by columns, each combination of them once; None where there is none.
        sources: other devices' profiles of the same space.
        graphs: the graphs that the networks of the space are made of; none where it does not tell.

    Raises:
        ValueError: a cost or a graph of columns that do not exist, a cost that is not finite, or a source of another
            width.
    """

    columns: tuple[Column, ...]
    costs: tuple[Cost, ...] | None = None
    sources: tuple[Source, ...] = ()
    graphs: tuple[Graph, ...] = ()

    def __post_init__(self) -> None:
        width = len(self.columns)
        names = {column.name for column in self.columns}
        for graph in self.graphs:
            if unknown := [name for columns in graph.columns for name in columns if name not in names]:
                raise ValueError(f"graph {graph.name!r} has no column {unknown[0]!r} to run: name existing ones")
        for cost in self.costs or ():
            if not cost.columns or not all(0 <= column < width for column in cost.columns):
                raise ValueError(f"a cost belongs to columns {cost.columns}, of {width} columns: name existing ones")
            if not math.isfinite(cost.value):
                raise ValueError(f"the cost of columns {cost.columns} is {cost.value}: give a finite one, or no costs")
        for source in self.sources:
            if source.X.shape != (len(source.y), width):
                raise ValueError(
                    f"source {source.name!r} has encodings {source.X.shape} for {len(source.y)} values, not "
                    f"({len(source.y)}, {width}): encode it in the same space"
                )


@runtime_checkable
class NeedsCosts(Protocol):
    """A predictor that builds on the costs of its context: where there are none, `fit` refuses it."""

    needs_costs: bool
    """True."""


@runtime_checkable
class UsesSources(Protocol):
    """A predictor that learns from the sources of its context; others get none."""

    needs_sources: bool
    """Whether it needs them: without any, `fit` refuses it."""


@runtime_checkable
class KnowsItsErrors(Protocol):
    """A fitted predictor that knows how it errs on rows that it has not seen; `fit` cross-validates others."""

    left_out_: NDArray[np.floating]
    """``label / prediction - 1`` of each distinct row, predicted by what has not seen it."""


@runtime_checkable
class DifferentiablePredictor(Protocol):
    """A predictor that a search can differentiate."""

    def module(self) -> nn.Module:
        """Return a fitted module: encodings ``(..., columns)``, relaxed ones too, to ``(...)`` in the label's unit."""
        ...


@runtime_checkable
class HasArrays(Protocol):
    """A predictor that writes its fitted state as arrays; others are written by `latbench.prediction.sklearn`."""

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return the fitted state."""
        ...

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore the fitted state into an estimator that was built with the same keywords.

        Raises:
            ValueError: the arrays are not such a state.
        """
        ...
