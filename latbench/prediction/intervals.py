"""How far a prediction can be trusted: conformal intervals, and what lies outside of what was learnt from.

The relative errors of rows that a predictor has not seen are kept with it. Where new architectures are drawn as those
were, the prediction times one plus or minus their quantile holds as many of them as asked for, whatever the predictor
(Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; cross-conformal, as in Barber et al.,
"Predictive inference with the jackknife+", Annals of Statistics 2021). Libraries for this keep a fitted model for every
fold; a file of numbers has the errors.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, UsageError
from latbench.prediction.plugin import fit_estimator
from latbench.prediction.splits import folds_by_group
from latbench.prediction.trained import predict_values
from latbench.predictor import Context, KnowsItsErrors, Predictor

FOLDS = 5

MOST_ERROR = 1e6
"""Larger relative errors are those of predictions that are not positive."""

MOST_KEPT = 1000
"""So many errors are kept at most: evenly spaced quantiles of more."""


def unseen_errors(
    estimator: Predictor,
    plugin: str,
    X: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    groups: Sequence[Hashable],
    context: Context,
    seed: int,
    params: Mapping[str, Any],
) -> NDArray[np.float64]:
    """Return the absolute errors relative to predictions of rows that were not seen, in ascending order.

    Args:
        estimator: fitted to the rows; one that knows its errors is asked, others are fitted again without each fold.
        plugin: the predictor's name.
        X: encodings ``(n, columns)``.
        y: labels ``(n,)``.
        groups: the group of each row; those of one group (isomorphic architectures) share a fold.
        context: what it was fitted with.
        seed: draws the folds.
        params: the predictor's keywords.
    """
    if isinstance(estimator, KnowsItsErrors):
        errors = np.abs(estimator.left_out_)
    else:
        folds, found = folds_by_group(groups, FOLDS, seed=seed), []
        for fold in np.unique(folds):
            kept = folds != fold
            if kept.sum() < 2:
                continue
            try:
                without = fit_estimator(plugin, X[kept], y[kept], context=context, seed=seed, params=params)
            except (UsageError, DataError):  # it does not learn from so few
                return np.empty(0)
            predicted = predict_values(without, X[~kept], plugin)
            found.append(np.abs(y[~kept] / np.where(predicted > 0, predicted, np.nan) - 1))
        errors = np.concatenate(found) if found else np.empty(0)
    errors = np.sort(np.where(np.isnan(errors), np.inf, errors))
    return errors if len(errors) <= MOST_KEPT else np.quantile(errors, np.linspace(0, 1, MOST_KEPT), method="higher")


def half_width(errors: NDArray[np.float64], level: float) -> float:
    """Return how far a label may be from its prediction, relative to it, in a share `level` of all cases.

    Args:
        errors: of rows that were not seen, in ascending order.
        level: between 0 and 1.

    Raises:
        UsageError: no level between 0 and 1, too few errors for it, or predictions that nothing takes among them.
    """
    if not 0 < level < 1:
        raise UsageError(f"a level of {level} is no share of all cases: give one between 0 and 1, such as 0.9")
    if not len(errors):
        raise UsageError("this predictor does not know how it errs on what it has not seen: fit it again, to more")
    rank = math.ceil((len(errors) + 1) * level)
    if rank > len(errors):
        needed = math.ceil(round(level / (1 - level), 9))
        raise UsageError(
            f"an interval of {level:.0%} needs at least {needed} architectures to learn from, not {len(errors)}: "
            "profile more, or ask for a lower level"
        )
    found = float(errors[rank - 1])
    if found > MOST_ERROR:
        raise UsageError(
            f"an interval of {level:.0%} has no end: this predictor gave more than {1 - level:.0%} of the rows that it "
            "had not seen a value that nothing takes: fit another"
        )
    return found
