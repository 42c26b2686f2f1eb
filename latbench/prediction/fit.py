"""Profile -> trained predictor: fit a predictor to the measurements of a search space."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from latbench.backend import Fact
from latbench.errors import DataError, UsageError
from latbench.prediction.choose import AUTO, choose
from latbench.prediction.file import check_writable
from latbench.prediction.intervals import unseen_errors
from latbench.prediction.learnable import Learnable
from latbench.prediction.plugin import create_predictor, fit_estimator, names_of, what_it_lacks
from latbench.prediction.trained import TrainedPredictor
from latbench.predictor import Predictor, UsesSources
from latbench.records.profile import Profile


def fit(
    profile: Profile,
    predictor: str = "mlp",
    *,
    samples: int | None = None,
    sources: Sequence[Profile] = (),
    seed: int = 0,
    keep_dead: bool = False,
    **params: Any,
) -> TrainedPredictor:
    """Fit a predictor to a profile.

    Args:
        profile: the measurements.
        predictor: plug-in name, ``module:Class``, or ``"auto"`` (`latbench.prediction.choose`).
        samples: how many architectures to learn from, the first measured ones; None takes all.
        sources: other devices' profiles of the same space, quantity and unit, for a predictor that learns from them.
        seed: the predictor's ``random_state``, where it has one.
        keep_dead: whether to learn from architectures without a live path, too: `latbench.prediction.learnable`.
        params: the predictor's keywords.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: the predictor is not a regressor, has nothing to learn from, does not use sources or does not take a
            keyword, or its own fit failed.
        PredictorFileError: what it learns could not be written to a file.
        DataError: fewer than two architectures, fewer than `samples`, labels that are not positive and finite, or a
            source of another space, quantity or unit.
    """
    learnable = Learnable.of(profile, keep_dead=keep_dead)
    X, y = learnable.X, learnable.y
    if samples is not None and not 2 <= samples <= len(y):
        raise DataError(
            f"cannot learn from {samples} architectures: this profile holds {len(y)}, and at least two are needed"
            + "".join(f" ({note})" for note in learnable.notes)
        )
    X, y, groups, context = X[:samples], y[:samples], learnable.groups[:samples], profile.context(sources)
    choice = None
    if predictor == AUTO:
        if params:
            raise UsageError(f"auto takes no keywords ({', '.join(params)}): name the predictor that takes them")
        choice = choose(X, y, groups=groups, context=context, seed=seed)
        predictor = choice.predictor
    estimator = create_predictor(predictor, params)
    if sources and choice is None and not isinstance(estimator, UsesSources):
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
        "noise_floor": learnable.floor.mape,
        "reference": profile.reference,
        "fastest": float(y.min()),
        "slowest": float(y.max()),
        "keep_dead": keep_dead,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "latbench": version("latbench"),
    }
    if learnable.notes:
        facts["notes"] = "; ".join(learnable.notes)
    if choice is not None:
        facts["chosen"] = str(choice)
    if sources and isinstance(estimator, UsesSources):
        facts["sources"] = ", ".join(source.name for source in context.sources)
    unseen = unseen_errors(estimator, predictor, X, y, groups=groups, context=context, seed=seed, params=params)
    return TrainedPredictor(estimator, predictor, profile.space, profile.conditions, facts, unseen)


def _uses_sources(estimator: Predictor) -> bool:
    return isinstance(estimator, UsesSources)
