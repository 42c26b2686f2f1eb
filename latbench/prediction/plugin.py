"""Predictors by name: built and fitted, asked what they can do, and refused where they have nothing to learn from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, UsageError, reason
from latbench.plugins import PREDICTORS, configure, names
from latbench.prediction.few_samples.expansion import Expansion
from latbench.predictor import Context, DifferentiablePredictor, HasArrays, NeedsCosts, Predictor, UsesSources
from latbench.records.profile import Profile


def create_predictor(plugin: str, params: Mapping[str, Any] | None = None) -> Predictor:
    """Build a predictor with keywords, not fitted.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: it is not a scikit-learn regressor, or does not take a keyword.
    """
    from sklearn.base import BaseEstimator, is_regressor

    estimator = configure(PREDICTORS, plugin, params or {})
    if not (isinstance(estimator, BaseEstimator) and is_regressor(estimator)):
        raise UsageError(
            f"predictor {plugin!r} is {type(estimator).__name__!r}, which is not a scikit-learn regressor: name a "
            "class with fit and predict that derives from sklearn.base.RegressorMixin and BaseEstimator, such as "
            "sklearn.ensemble:RandomForestRegressor"
        )
    created: Predictor = estimator
    return created


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


def takes_context(estimator: Predictor) -> bool:
    """Return whether `fit` takes a `latbench.predictor.Context`."""
    from sklearn.utils.validation import has_fit_parameter

    return bool(has_fit_parameter(estimator, "context"))


def is_written_for_latbench(estimator: Predictor) -> bool:
    """Return whether a predictor takes labels as they were measured; others learn from standardised ones."""
    return takes_context(estimator) or isinstance(estimator, DifferentiablePredictor | HasArrays)


def gives_std(estimator: Predictor) -> bool:
    """Return whether a predictor, or the regressor that it wraps, knows the standard deviations of its predictions."""
    from sklearn.pipeline import Pipeline

    from latbench.prediction.sklearn.standardised_labels import StandardisedLabels

    if isinstance(estimator, StandardisedLabels):
        return gives_std(estimator.regressor)
    if isinstance(estimator, Pipeline):
        return gives_std(estimator.steps[-1][1])
    return "return_std" in inspect.signature(estimator.predict).parameters


def names_of(can: Callable[[Predictor], bool]) -> list[str]:
    """Return the names of the registered predictors that load here and for which `can` is true."""
    found = []
    for name in names(PREDICTORS):
        try:
            estimator = create_predictor(name)
        except UsageError:
            continue
        if can(estimator):
            found.append(name)
    return found


def what_it_lacks(estimator: Predictor, profile: Profile, context: Context) -> str | None:
    """Return why a predictor has nothing to learn from, and the remedy; None where it has."""
    if isinstance(estimator, UsesSources) and estimator.needs_sources and not context.sources:
        return "it learns from other devices' profiles: give one or more (latbench fit --sources other.db)"
    if not isinstance(estimator, NeedsCosts):
        return None
    if not profile.has_operations:
        return "it builds on measured operations, and this space has none: use mlp"
    expand = Expansion.of(context, len(context.columns))
    if expand.costs is None:
        return "it builds on measured operations, and not all are measured: latbench profile --operators"
    totals = expand(profile.X) @ expand.costs
    if np.ptp(totals) <= 1e-9 * np.abs(totals).max():
        return "it builds on measured operations, whose sum is the same for all architectures: use mlp"
    return None
