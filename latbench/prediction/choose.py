"""The predictor ``auto``: of all that can learn from a profile, the one that errs least on rows it has not seen."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, UsageError
from latbench.plugins import PREDICTORS, names, status
from latbench.prediction.plugin import create_predictor, fit_estimator
from latbench.prediction.splits import folds_by_group
from latbench.prediction.trained import predict_values
from latbench.predictor import Context, NeedsCosts, UsesSources

AUTO = "auto"

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """Which predictor was chosen, and why.

    Args:
        predictor: its name.
        errors: the cross-validated MAPE of each candidate, the best first.
    """

    predictor: str
    errors: Mapping[str, float]

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {error:.2%}" for name, error in self.errors.items())
        return f"{self.predictor}, of cross-validated MAPEs {listed}"


def choose(
    X: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    groups: Sequence[Hashable],
    context: Context,
    seed: int = 0,
    candidates: Sequence[str] | None = None,
) -> Choice:
    """Choose a predictor by cross-validation on the rows that it will learn from.

    Candidates are tried in their order, and one replaces those before it only where it errs less by more than a
    standard error of their paired differences: so a simple one stays where others do not help.

    Args:
        X: encodings ``(n, columns)``.
        y: positive labels ``(n,)``.
        groups: the group of each row; those of one group (isomorphic architectures) share a fold.
        context: what the space and the profile know.
        seed: draws the folds.
        candidates: names, the simplest first; None takes the registered ones that can learn from this context.

    Raises:
        DataError: too few groups for two folds.
        UsageError: no candidate can be fitted.
    """
    distinct = len(set(groups))
    if distinct < 4:
        raise DataError(f"{distinct} architectures are too few to choose a predictor by: name one, or profile more")
    tried = candidates if candidates is not None else able(context)
    folds = folds_by_group(groups, min(FOLDS, distinct // 2), seed=seed)
    errors: dict[str, NDArray[np.float64]] = {}
    failures: list[str] = []
    for name in tried:
        error = np.empty(len(y))
        try:
            for fold in range(folds.max() + 1):
                train, test = folds != fold, folds == fold
                estimator = fit_estimator(name, X[train], y[train], context=context, seed=seed)
                error[test] = np.abs(predict_values(estimator, X[test], name) / y[test] - 1)
        except UsageError as failed:
            failures.append(str(failed))
            continue
        errors[name] = error
    if not errors:
        raise UsageError(f"no predictor can be fitted: {'; '.join(failures) or 'none is installed'}")
    chosen = next(iter(errors))
    for name, error in errors.items():
        better = errors[chosen] - error
        if better.mean() > better.std(ddof=1) / math.sqrt(len(y)):
            chosen = name
    ranked = sorted(errors, key=lambda name: errors[name].mean())
    return Choice(chosen, {name: float(errors[name].mean()) for name in ranked})


def able(context: Context) -> list[str]:
    """Return the registered predictors that can learn from a context, in the order of their names."""
    found = []
    for name in names(PREDICTORS):
        if not status(PREDICTORS, name).available:
            continue
        estimator = create_predictor(name)
        if isinstance(estimator, NeedsCosts) and context.costs is None:
            continue
        if isinstance(estimator, UsesSources) and estimator.needs_sources and not context.sources:
            continue
        found.append(name)
    return found
