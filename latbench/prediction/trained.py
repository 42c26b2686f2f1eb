"""A fitted predictor together with what it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Fact
from latbench.errors import NotDifferentiableError, PluginError, ShapeError, UsageError, reason
from latbench.plugins import PREDICTORS, load, names
from latbench.predictor import DifferentiablePredictor, Predictor
from latbench.records.measurement import Conditions
from latbench.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class TrainedPredictor:
    """A fitted predictor that knows what it predicts.

    Args:
        estimator: the fitted scikit-learn regressor.
        plugin: its plug-in's name, or ``module:Class``.
        space: the search space whose encodings it takes.
        conditions: what was measured: quantity, unit, backend, device, ...
        facts: how it was fitted: ``samples``, ``seed``, ``noise_floor`` (the MAPE of a perfect predictor, or None),
            ``reference`` (what the profile's references took, in `unit`, or None), ``created_at`` (ISO 8601, UTC) and
            ``latbench`` (the version).
    """

    estimator: Predictor
    plugin: str
    space: SearchSpace
    conditions: Conditions
    facts: Mapping[str, Fact]

    @property
    def unit(self) -> str:
        """The unit of predictions, ``"ms"``."""
        return self.conditions.unit

    def predict(self, architectures: Sequence[Architecture | str] | NDArray[np.floating]) -> NDArray[np.float64]:
        """Predict values ``(n,)`` in `unit`.

        Args:
            architectures: architectures or their string forms, or encodings ``(n, columns)``, relaxed ones included.

        Raises:
            ParseError: a text that is no architecture of the space.
            ShapeError: encodings of another shape.
            UsageError: the predictor itself fails.
        """
        if not isinstance(architectures, np.ndarray):
            parsed = [self.space.parse(each) if isinstance(each, str) else each for each in architectures]
            architectures = self.space.encode(parsed)
        columns = len(self.space.columns)
        if architectures.ndim != 2 or architectures.shape[1] != columns:
            raise ShapeError(f"encodings of this space have the shape (n, {columns}), not {architectures.shape}")
        if not len(architectures):
            return np.empty(0)
        return predict_values(self.estimator, architectures, self.plugin)

    def module(self) -> nn.Module:
        """Return the differentiable form: encodings ``(..., columns)`` to ``(...)`` in `unit`.

        Raises:
            NotDifferentiableError: the predictor has none.
        """
        if isinstance(self.estimator, DifferentiablePredictor):
            return self.estimator.module()
        choices = " or ".join(repr(name) for name in differentiable_predictors())
        raise NotDifferentiableError(
            f"predictor {self.plugin!r} is not differentiable: use {choices or 'one that has a module()'}"
        )


def predict_values(estimator: Predictor, X: NDArray[np.floating], plugin: str) -> NDArray[np.float64]:
    """Return what a fitted predictor says of encodings ``(n, columns)``: ``(n,)``.

    Args:
        estimator: the fitted predictor.
        X: the encodings.
        plugin: the predictor's name, for messages.

    Raises:
        UsageError: the predictor fails, or returns something else than a number for each row.
    """
    try:
        values = np.asarray(estimator.predict(X), dtype=np.float64)
    except Exception as error:  # a foreign estimator raises anything
        raise UsageError(f"predictor {plugin!r} cannot predict ({reason(error)}): fit it again, or another") from error
    if values.shape != (len(X),):
        raise UsageError(
            f"predictor {plugin!r} predicts {values.shape} for {len(X)} rows, not ({len(X)},): fit another"
        )
    if not np.isfinite(values).all():
        raise UsageError(f"predictor {plugin!r} predicts what is no number: fit it again, or another")
    return values


def differentiable_predictors() -> list[str]:
    """Return the names of the registered predictors that a search can differentiate and that load here."""
    found = []
    for name in names(PREDICTORS):
        try:
            plugin = load(PREDICTORS, name)
        except PluginError:
            continue
        if isinstance(plugin, type) and issubclass(plugin, DifferentiablePredictor):
            found.append(name)
    return found
