"""Profile -> predictor: fit a registered predictor to the measurements of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Fact
from latbench.errors import DataError
from latbench.evaluation.noise import noise_floor
from latbench.plugins import PREDICTORS, configure
from latbench.predictor import ColumnFacts, Predictor, UsesColumnFacts
from latbench.profile import Profile
from latbench.trained_predictor import TrainedPredictor


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
