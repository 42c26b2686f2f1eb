"""Profile -> predictor: fit a registered predictor to the measurements of a search space."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Fact
from latbench.errors import DataError, UsageError, reason
from latbench.plugins import PREDICTORS, configure
from latbench.prediction.file import check_writable
from latbench.prediction.trained import TrainedPredictor
from latbench.predictor import ColumnFacts, DifferentiablePredictor, HasArrays, Predictor, UsesColumnFacts
from latbench.records.noise_floor import noise_floor
from latbench.records.profile import Profile

_TRIAL_ROWS = 16
"""A predictor is fitted to so many rows to see whether it can be written: enough for any kind of state to appear."""


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
        UsageError: it is no regressor, a keyword that it does not take, or its own fit failed.
        PredictorFileError: what it learns could not be written to a file; found before it is fitted to all rows.
        DataError: fewer than two architectures, fewer than `samples`, or labels that are not positive and finite.
    """
    X, y = profile.X, profile.y
    if samples is not None and not 2 <= samples <= len(y):
        raise DataError(
            f"cannot learn from {samples} architectures: this profile holds {len(y)}, and two are the least"
        )
    X, y, columns = X[:samples], y[:samples], profile.column_facts()
    _check_result_can_be_written(predictor, X, y, facts=columns, seed=seed, params=params)
    estimator = fit_estimator(predictor, X, y, facts=columns, seed=seed, params=params)
    facts: dict[str, Fact] = {
        "samples": len(y),
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

    Returns:
        The fitted predictor, in the unit of `y`. One that implements none of the protocols of `latbench.predictor`
        comes inside a `sklearn.compose.TransformedTargetRegressor` (`latbench.prediction.sklearn`).

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: it is no regressor, a keyword that it does not take, or its own fit failed.
        DataError: fewer than two rows, or labels that are not positive and finite.
    """
    if len(y) < 2:
        raise DataError(f"{len(y)} measured architectures are too few to learn from: profile more")
    if not (np.isfinite(y) & (y > 0)).all():
        raise DataError(
            "a label is zero, negative or not finite: what is measured is positive, so correct or drop that row"
        )
    estimator = create_predictor(plugin, params)
    if "random_state" in estimator.get_params() and "random_state" not in (params or {}):
        estimator.set_params(random_state=seed)
    if isinstance(estimator, UsesColumnFacts):
        estimator.set_column_facts(facts)
    if not isinstance(estimator, UsesColumnFacts | DifferentiablePredictor | HasArrays):
        from latbench.prediction.sklearn.standardised_labels import with_standardised_labels

        estimator = with_standardised_labels(estimator)
    try:
        return estimator.fit(X, y)
    except Exception as error:  # a foreign estimator raises anything
        given = f" with {dict(params)}" if params else ""
        raise UsageError(
            f"predictor {plugin!r} cannot be fitted{given} ({reason(error)}): correct its keywords, or choose another"
        ) from error


def create_predictor(plugin: str, params: Mapping[str, Any] | None = None) -> Predictor:
    """Build a predictor with keywords, not fitted.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: it is no scikit-learn regressor, or a keyword that it does not take.
    """
    from sklearn.base import BaseEstimator, is_regressor

    estimator = configure(PREDICTORS, plugin, params or {})
    if not (isinstance(estimator, BaseEstimator) and is_regressor(estimator)):
        raise UsageError(
            f"predictor {plugin!r} is {type(estimator).__name__!r}, which is no scikit-learn regressor: name a class "
            "with fit and predict that derives from sklearn.base.RegressorMixin and BaseEstimator, such as "
            "sklearn.ensemble:RandomForestRegressor"
        )
    created: Predictor = estimator
    return created


def _check_result_can_be_written(
    plugin: str, X: NDArray[np.floating], y: NDArray[np.floating], *, params: Mapping[str, Any], **settings: Any
) -> None:
    """Fit to a few rows, unless the keywords tell enough, and refuse what could not be written afterwards."""
    estimator = create_predictor(plugin, params)
    if not isinstance(estimator, HasArrays):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                estimator = fit_estimator(plugin, X[:_TRIAL_ROWS], y[:_TRIAL_ROWS], params=params, **settings)
            except UsageError:
                return  # so few rows may be the reason; if they are not, the fit says the same
    check_writable(estimator)
