"""The contract of a predictor: a scikit-learn regressor from encodings to milliseconds (or mJ, MiB, ...).

Any scikit-learn regressor is a predictor; one entry point makes it a plug-in::

    [project.entry-points."latbench.predictors"]
    ridge = "sklearn.linear_model:Ridge"

What a predictor can do beyond that is a small protocol each, tested by ``isinstance``. One that implements any of them
is written for latbench: it gets the labels as they were measured, and its relative predictions must not depend on their
unit (`latbench.testing.PredictorSuite` checks it). Any other learns from standardised labels
(`latbench.prediction.sklearn`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn


class Predictor(Protocol):
    """A scikit-learn regressor (https://scikit-learn.org/stable/developers/develop.html)."""

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


@runtime_checkable
class DifferentiablePredictor(Protocol):
    """A predictor that a search can differentiate."""

    def module(self) -> nn.Module:
        """Return a fitted module: encodings ``(..., columns)``, relaxed ones too, to ``(...)`` in the label's unit."""
        ...


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What a space and a profile know about the columns of an encoding.

    Args:
        groups: for each column the name of its group (`latbench.space.Column.group`).
        costs: for each column the summed measured cost of its operations, in the label's unit; None where the
            profile has no operator table.
    """

    groups: tuple[str, ...]
    costs: tuple[float, ...] | None = None


@runtime_checkable
class UsesColumnFacts(Protocol):
    """A predictor that wants to know what the columns mean; called before `fit`."""

    def set_column_facts(self, facts: ColumnFacts) -> Self:
        """Take the facts over into the constructor's keywords, so that ``sklearn.clone`` keeps them."""
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
