"""Profile -> trained predictor: fit a predictor to the measurements of a search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Fact
from latbench.errors import DataError, UsageError, reason
from latbench.prediction.file import check_writable
from latbench.prediction.plugin import (
    create_predictor,
    is_written_for_latbench,
    names_of,
    takes_context,
    what_it_lacks,
)
from latbench.prediction.trained import TrainedPredictor
from latbench.predictor import Context, Predictor, UsesSources
from latbench.records.noise_floor import noise_floor
from latbench.records.profile import Profile


def fit(
    profile: Profile,
    predictor: str = "mlp",
    *,
    samples: int | None = None,
    sources: Sequence[Profile] = (),
    seed: int = 0,
    **params: Any,
) -> TrainedPredictor:
    """Fit a predictor to a profile.

    Args:
        profile: the measurements.
        predictor: plug-in name or ``module:Class``.
        samples: how many architectures to learn from, the first measured ones; None takes all.
        sources: other devices' profiles of the same space, quantity and unit, for a predictor that learns from them.
        seed: the predictor's ``random_state``, where it has one.
        params: the predictor's keywords.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: the predictor is not a regressor, has nothing to learn from, does not use sources or does not take a
            keyword, or its own fit failed.
        PredictorFileError: what it learns could not be written to a file.
        DataError: fewer than two architectures, fewer than `samples`, labels that are not positive and finite, or a
            source of another space, quantity or unit.
    """
    X, y = profile.X, profile.y
    if samples is not None and not 2 <= samples <= len(y):
        raise DataError(
            f"cannot learn from {samples} architectures: this profile holds {len(y)}, and at least two are needed"
        )
    X, y = X[:samples], y[:samples]
    estimator, context = create_predictor(predictor, params), profile.context(sources)
    if sources and not isinstance(estimator, UsesSources):
        able = " or ".join(repr(name) for name in names_of(_uses_sources)) or "one that does"
        raise UsageError(f"predictor {predictor!r} does not learn from other devices' profiles: use {able}")
    lacking = what_it_lacks(estimator, profile, context)
    if lacking is not None:
        raise UsageError(f"predictor {predictor!r} cannot be fitted: {lacking}")
    check_writable(estimator)
    estimator = fit_estimator(predictor, X, y, context=context, seed=seed, params=params)
    facts: dict[str, Fact] = {
        "samples": len(y),
        "seed": seed,
        "noise_floor": noise_floor(profile.duplicates).mape,
        "reference": profile.reference,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "latbench": version("latbench"),
    }
    if sources:
        facts["sources"] = ", ".join(source.name for source in context.sources)
    return TrainedPredictor(estimator, predictor, profile.space, profile.conditions, facts)


def fit_estimator(
    plugin: str,
    X: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    context: Context,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
) -> Predictor:
    """Build a predictor and fit it, with the context if it takes one.

    Returns:
        The fitted predictor, in the unit of `y`. One that is not written for latbench (`latbench.predictor`) is
        wrapped in a `latbench.prediction.sklearn.standardised_labels.StandardisedLabels`.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: it is not a regressor, does not take a keyword, or its own fit failed.
        DataError: fewer than two rows, or labels that are not positive and finite.
    """
    if len(y) < 2:
        raise DataError(f"{len(y)} measured architectures are too few to learn from: profile more")
    if not (np.isfinite(y) & (y > 0)).all():
        raise DataError(
            "a label is zero, negative or not finite: every measured value is positive: correct or drop that row"
        )
    estimator = create_predictor(plugin, params)
    if "random_state" in estimator.get_params() and "random_state" not in (params or {}):
        estimator.set_params(random_state=seed)
    try:
        if takes_context(estimator):
            return estimator.fit(X, y, context=context)  # type: ignore[call-arg]
        if is_written_for_latbench(estimator):
            return estimator.fit(X, y)
        from latbench.prediction.sklearn.standardised_labels import StandardisedLabels

        standardised: Predictor = StandardisedLabels(estimator).fit(X, y)
        return standardised
    except Exception as error:  # a foreign estimator raises anything
        given = f" with {dict(params)}" if params else ""
        raise UsageError(
            f"predictor {plugin!r} cannot be fitted{given} ({reason(error)}): correct its keywords, or choose another"
        ) from error


def _uses_sources(estimator: Predictor) -> bool:
    return isinstance(estimator, UsesSources)
