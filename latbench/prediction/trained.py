"""A trained predictor: a fitted predictor with its space, conditions and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Fact
from latbench.errors import NotDifferentiableError, ShapeError, UsageError, reason
from latbench.prediction.plugin import gives_std, names_of
from latbench.prediction.structure.networks import are_alive
from latbench.predictor import DifferentiablePredictor, Predictor
from latbench.records.measurement import Conditions
from latbench.space import Architecture, HasEnumerate, HasGraph, SearchSpace

if TYPE_CHECKING:
    from torch import nn

_RANGE = {"fastest": -np.inf, "slowest": np.inf}

ArchitecturesLike = Sequence[Architecture | str] | NDArray[np.floating]
Values = NDArray[np.float64]


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
            ``latbench`` (the version), ``fastest`` and ``slowest`` (the range of the labels, in `unit`) and
            ``keep_dead`` (whether architectures without a live path were among them).
        unseen: errors on rows that it had not seen, relative to the prediction, ascending
            (`latbench.prediction.intervals`); empty where they are not known.
    """

    estimator: Predictor
    plugin: str
    space: SearchSpace
    conditions: Conditions
    facts: Mapping[str, Fact]
    unseen: Values = field(default_factory=lambda: np.empty(0))

    @property
    def unit(self) -> str:
        """The unit of predictions, ``"ms"``."""
        return self.conditions.unit

    @overload
    def predict(self, architectures: ArchitecturesLike) -> Values: ...

    @overload
    def predict(self, architectures: ArchitecturesLike, return_std: Literal[False]) -> Values: ...

    @overload
    def predict(self, architectures: ArchitecturesLike, return_std: Literal[True]) -> tuple[Values, Values]: ...

    def predict(self, architectures: ArchitecturesLike, return_std: bool = False) -> Values | tuple[Values, Values]:
        """Predict values ``(n,)`` in `unit`.

        Args:
            architectures: architectures or their string forms, or encodings ``(n, columns)``, relaxed ones included.
            return_std: return a pair instead: the values and their standard deviations ``(n,)``, both in `unit`.

        Raises:
            ParseError: a text is not an architecture of the space.
            ShapeError: encodings of another shape.
            UsageError: one text in place of several, the predictor itself fails, or it gives no standard deviations.
        """
        if return_std and not gives_std(self.estimator):
            able = [*names_of(gives_std), "sklearn.linear_model:BayesianRidge"]
            raise UsageError(
                f"predictor {self.plugin!r} gives no standard deviations: use {' or '.join(map(repr, able))}"
            )
        if isinstance(architectures, str):
            raise UsageError(f"several architectures are predicted at once: give a list, predict([{architectures!r}])")
        rows = self._encodings(architectures)
        if not len(rows):
            return (np.empty(0), np.empty(0)) if return_std else np.empty(0)
        names = None if isinstance(architectures, np.ndarray) else architectures
        if return_std:
            return predict_with_std(self.estimator, rows, self.plugin, names)
        return predict_values(self.estimator, rows, self.plugin, names)

    def interval(self, architectures: ArchitecturesLike, *, level: float = 0.9) -> tuple[Values, Values]:
        """Return the ends of conformal intervals ``(n,)`` in `unit`.

        They hold a share `level` of the measured values of architectures that are drawn as those of the profile were;
        of what a search found, they may hold less (`extrapolates`).

        Args:
            architectures: as for `predict`.
            level: the share, between 0 and 1.

        Raises:
            UsageError: the predictor was fitted to too few architectures for the level; otherwise as `predict`.
        """
        from latbench.prediction.intervals import half_width

        width, values = half_width(self.unseen, level), self.predict(architectures)
        return values * max(1 - width, 0.0), values * (1 + width)

    def extrapolates(self, architectures: ArchitecturesLike) -> NDArray[np.bool_]:
        """Return whether an architecture is none like those that were learnt from ``(n,)``.

        Its prediction lies outside of their values, or it has no live path, and those without one were left out.
        """
        rows = self._encodings(architectures)
        values = self.predict(rows)
        low, high = (float(self.facts.get(name, default)) for name, default in _RANGE.items())  # type: ignore[arg-type]
        outside = (values < low) | (values > high)
        if isinstance(self.space, HasGraph) and self.facts.get("keep_dead") is False:
            outside |= ~are_alive(tuple(self.space.graphs()), self.space.columns, rows)
        return np.asarray(outside)

    def _encodings(self, architectures: ArchitecturesLike) -> NDArray[np.floating]:
        if not isinstance(architectures, np.ndarray):
            parsed = [self.space.parse(each) if isinstance(each, str) else each for each in architectures]
            architectures = self.space.encode(parsed)
        columns = len(self.space.columns)
        if architectures.ndim != 2 or architectures.shape[1] != columns:
            raise ShapeError(f"encodings of this space have the shape (n, {columns}), not {architectures.shape}")
        return architectures

    def module(self, *, exact: bool = False) -> nn.Module:
        """Return the differentiable form: encodings ``(..., columns)`` to ``(...)`` in `unit`.

        Of a space that can be listed, and whose architectures are all combinations of independent decisions, every
        predictor has one: the exact expectation of its predictions (`latbench.prediction.expectation`).

        Args:
            exact: take that expectation also of a predictor that has a module of its own.

        Raises:
            NotDifferentiableError: the predictor has none, and the space cannot be listed.
        """
        if isinstance(self.estimator, DifferentiablePredictor) and not exact:
            return self.estimator.module()
        found = self._expectation()
        if found is not None:
            return found
        choices = " or ".join(repr(name) for name in names_of(is_differentiable))
        raise NotDifferentiableError(
            f"predictor {self.plugin!r} is not differentiable, and its space is none that can be listed as "
            f"combinations of independent decisions: use {choices or 'one that has a module()'}"
        )

    def _expectation(self) -> nn.Module | None:
        from latbench.prediction.expectation import MOST_LISTED, expectation_module

        if not isinstance(self.space, HasEnumerate):
            return None
        architectures = list(islice(self.space.enumerate(), MOST_LISTED + 1))
        if len(architectures) > MOST_LISTED:
            return None
        X = self.space.encode(architectures)
        return expectation_module(X, predict_values(self.estimator, X, self.plugin))


def predict_values(
    estimator: Predictor, X: NDArray[np.floating], plugin: str, names: Sequence[object] | None = None
) -> Values:
    """Return the predictions ``(n,)`` of a fitted predictor for encodings ``(n, columns)``.

    Args:
        estimator: the fitted predictor.
        X: the encodings.
        plugin: the predictor's name, for messages.
        names: what messages call the rows; None counts them.

    Raises:
        UsageError: the predictor fails, or returns anything but one number a row.
    """
    try:
        values = np.asarray(estimator.predict(X), dtype=np.float64)
    except Exception as error:  # a foreign estimator raises anything
        raise _failed(plugin, error) from error
    return _checked(values, len(X), plugin, names)


def predict_with_std(
    estimator: Predictor, X: NDArray[np.floating], plugin: str, names: Sequence[object] | None = None
) -> tuple[Values, Values]:
    """Return predictions and their standard deviations; otherwise as `predict_values`."""
    try:
        values, std = estimator.predict(X, return_std=True)  # type: ignore[call-arg]
        values, std = np.asarray(values, dtype=np.float64), np.asarray(std, dtype=np.float64)
    except Exception as error:  # a foreign estimator raises anything
        raise _failed(plugin, error) from error
    return _checked(values, len(X), plugin, names), _checked(std, len(X), plugin, names)


def is_differentiable(estimator: Predictor) -> bool:
    """Return whether a search can differentiate a predictor."""
    return isinstance(estimator, DifferentiablePredictor)


def _failed(plugin: str, error: Exception) -> UsageError:
    return UsageError(f"predictor {plugin!r} cannot predict ({reason(error)}): fit it again, or fit another")


def _checked(values: Values, rows: int, plugin: str, names: Sequence[object] | None) -> Values:
    if values.shape != (rows,):
        raise UsageError(f"predictor {plugin!r} predicts {values.shape} for {rows} rows, not ({rows},): fit another")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = f"row {wrong[0] + 1} of {rows}" if names is None else names[wrong[0]]
        raise UsageError(f"predictor {plugin!r} predicts what is not a number for {row}: fit it again, or fit another")
    return values
