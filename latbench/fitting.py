"""Profile -> predictor: fit a registered predictor to the measurements of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Fact
from latbench.errors import DataError, NotDifferentiableError, PluginError, ShapeError
from latbench.evaluation.noise import noise_floor
from latbench.measurement import Conditions
from latbench.plugins import PREDICTORS, configure, load, names
from latbench.predictor import ColumnFacts, DifferentiablePredictor, Predictor, UsesColumnFacts
from latbench.profile import Profile
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
        """
        if not isinstance(architectures, np.ndarray):
            parsed = [self.space.parse(each) if isinstance(each, str) else each for each in architectures]
            architectures = self.space.encode(parsed)
        columns = len(self.space.columns)
        if architectures.ndim != 2 or architectures.shape[1] != columns:
            raise ShapeError(f"encodings of this space have the shape (n, {columns}), not {architectures.shape}")
        if not len(architectures):
            return np.empty(0)
        return np.asarray(self.estimator.predict(architectures), dtype=np.float64)

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

    def save(self, path: str | Path) -> None:
        """Write it to a file; see `latbench.predictor_file.save_predictor`."""
        from latbench.predictor_file import save_predictor

        save_predictor(path, self)


def fit(
    profile: Profile, predictor: str = "mlp", *, samples: int | None = None, seed: int = 0, **params: Any
) -> TrainedPredictor:
    """Fit a predictor to a profile.

    Args:
        profile: the measurements.
        predictor: plug-in name or ``module:Class``.
        samples: how many architectures to learn from, the first measured ones; None takes all.
        seed: the predictor's ``random_state``, where it has one.
        params: the predictor's keywords.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: a keyword that it does not take.
        DataError: fewer than two architectures, fewer than `samples`, or labels that are not positive and finite.
    """
    X, y = profile.X, profile.y
    if samples is not None and not 2 <= samples <= len(y):
        raise DataError(
            f"cannot learn from {samples} architectures: this profile holds {len(y)}, and two are the least"
        )
    estimator = fit_estimator(
        predictor, X[:samples], y[:samples], facts=profile.column_facts(), seed=seed, params=params
    )
    facts: dict[str, Fact] = {
        "samples": len(y[:samples]),
        "seed": seed,
        "noise_floor": noise_floor(profile.duplicates).mape,
        "reference": profile.reference,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "latbench": version("latbench"),
    }
    return TrainedPredictor(estimator, predictor, profile.space, profile.conditions, facts)


def fit_estimator(
    plugin: str,
    X: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    facts: ColumnFacts,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
) -> Predictor:
    """Build a predictor, tell it what the columns mean if it wants to know, and fit it.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: a keyword that it does not take.
        DataError: fewer than two rows, or labels that are not positive and finite.
    """
    if len(y) < 2:
        raise DataError(f"{len(y)} measured architectures are too few to learn from: profile more")
    if not (np.isfinite(y) & (y > 0)).all():
        raise DataError(
            "a label is zero, negative or not finite: what is measured is positive, so correct or drop that row"
        )
    estimator: Predictor = configure(PREDICTORS, plugin, params or {})
    if "random_state" in estimator.get_params() and "random_state" not in (params or {}):
        estimator.set_params(random_state=seed)
    if isinstance(estimator, UsesColumnFacts):
        estimator.set_column_facts(facts)
    return estimator.fit(X, y)


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
