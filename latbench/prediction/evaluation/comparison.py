"""Predictors side by side: the same splits, several seeds and training sizes, beside the noise floor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, UsageError
from latbench.plugins import PREDICTORS, names, status
from latbench.prediction.evaluation.metrics import Accuracy
from latbench.prediction.evaluation.splits import Split, split_by_group
from latbench.prediction.fit import fit_estimator
from latbench.prediction.plugin import create_predictor, what_it_lacks
from latbench.prediction.trained import predict_values
from latbench.predictor import Context
from latbench.records.noise_floor import NoiseFloor, noise_floor
from latbench.records.profile import Profile

CONSTANT = "constant"
"""The first row of every size: the mean of the training labels, so that the other rows mean something."""

SMALL_TEST = 30
"""Test sets below this size get a note: the standard error of a MAPE is then above a tenth of it."""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One predictor at one training size.

    Args:
        predictor: plug-in name, or ``"constant"``.
        train_size: training architectures.
        mean: mean of each metric over the seeds.
        spread: standard deviation of each metric over the seeds; NaN for a single seed.
    """

    predictor: str
    train_size: int
    mean: Accuracy
    spread: Accuracy


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found; rows of one predictor at growing sizes are its learning curve.

    Args:
        rows: by size, then in the order asked for.
        noise_floor: the error that a perfect predictor would show on these labels.
        test_size: the smallest test set of all seeds.
        seeds: how many random splits.
        notes: what a reader should know before trusting the numbers.
    """

    rows: tuple[ComparisonRow, ...]
    noise_floor: NoiseFloor
    test_size: int
    seeds: int
    notes: tuple[str, ...]

    @property
    def predictors(self) -> list[str]:
        """The predictors that were compared, in order."""
        return list(dict.fromkeys(row.predictor for row in self.rows if row.predictor != CONSTANT))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the column heads and the rows as text, each error beside the noise floor."""
        heads = ["predictor", "trained on", "MAPE", "noise floor", "within 5%", "within 10%"]
        heads += ["RMSPE", "Spearman", "Kendall"]
        floor = "?" if self.noise_floor.mape is None else f"{self.noise_floor.mape:.1%}"
        return heads, [_cells(row, floor) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; a metric that is not defined is None."""
        plain: dict[str, Any] = _without_nan(dataclasses.asdict(self))
        return plain


def compare(
    profile: Profile,
    predictors: Sequence[str] | None = None,
    *,
    train_sizes: Sequence[int] = (100,),
    seeds: int = 5,
    sources: Sequence[Profile] = (),
) -> Comparison:
    """Fit predictors to random parts of a profile and test them on the rest.

    Every predictor sees the same split at a seed, isomorphic architectures never straddle it, and smaller training sets
    are parts of larger ones. A ``"constant"`` row comes first.

    Args:
        profile: the measurements; the first value of each architecture is its label.
        predictors: plug-in names or ``module:Class``; None takes all that are available and can learn from this
            profile, and a note names the others.
        train_sizes: numbers of training architectures.
        seeds: how many random splits.
        sources: other devices' profiles, for the predictors that learn from them.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: a predictor is not a regressor, has nothing to learn from, or fails.
        DataError: too few architectures for the sizes, no seed, or a source of another space, quantity or unit.
    """
    if seeds < 1:
        raise DataError(f"{seeds} seeds: give at least one")
    sizes = sorted(set(train_sizes))
    splits = [split_by_group(profile.groups, sizes, seed=seed) for seed in range(seeds)]
    context = profile.context(sources)
    chosen, notes = _chosen(profile, predictors, context)
    rows = []
    for size in sizes:
        for name in (CONSTANT, *chosen):
            results = [_test(profile, name, context, split, size, seed=seed) for seed, split in enumerate(splits)]
            rows.append(ComparisonRow(name, size, Accuracy.mean(results), Accuracy.spread(results)))
    floor, test_size = noise_floor(profile.duplicates), min(len(split.test) for split in splits)
    notes = [*_notes(test_size, floor), *_too_good(rows, floor), *notes]
    if context.costs is None and profile.has_operations:
        notes.append("no operator table: predictors learn without operations' costs (latbench profile --operators)")
    return Comparison(tuple(rows), floor, test_size, seeds, tuple(notes))


def _chosen(profile: Profile, predictors: Sequence[str] | None, context: Context) -> tuple[list[str], list[str]]:
    """Return the predictors to compare, found before any is fitted, and notes on those that are left out."""
    asked = predictors
    if asked is None:
        asked = [name for name in names(PREDICTORS) if status(PREDICTORS, name).available]
    chosen, notes = [], []
    for name in asked:
        lacking = what_it_lacks(create_predictor(name), profile, context)
        if lacking is None:
            chosen.append(name)
        elif predictors is None:
            notes.append(f"{name} is left out: {lacking}")
        else:
            raise UsageError(f"predictor {name!r} cannot be compared: {lacking}")
    return chosen, notes


def _test(profile: Profile, name: str, context: Context, split: Split, size: int, *, seed: int) -> Accuracy:
    X, y, train, test = profile.X, profile.y, split.train[size], split.test
    if name == CONSTANT:
        return Accuracy.of(y[test], np.full(len(test), y[train].mean()))
    estimator = fit_estimator(name, X[train], y[train], context=context, seed=seed)
    return Accuracy.of(y[test], predict_values(estimator, X[test], name))


def held_out(
    profile: Profile,
    predictors: Sequence[str],
    *,
    train_size: int = 100,
    seed: int = 0,
    sources: Sequence[Profile] = (),
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return the measured values ``(n,)`` of one split's test architectures, and what each predictor predicts for them.

    Args:
        profile: as for `compare`.
        predictors: plug-in names or ``module:Class``.
        train_size: number of training architectures.
        seed: of the split.
        sources: as for `compare`.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: a predictor is not a regressor, or fails.
        DataError: too few architectures for the size, or a source as for `compare`.
    """
    split = split_by_group(profile.groups, [train_size], seed=seed)
    train, test = split.train[train_size], split.test
    X, y, context = profile.X, profile.y, profile.context(sources)
    fitted = {name: fit_estimator(name, X[train], y[train], context=context, seed=seed) for name in predictors}
    return y[test], {name: predict_values(estimator, X[test], name) for name, estimator in fitted.items()}


def _notes(test_size: int, floor: NoiseFloor) -> Iterator[str]:
    if test_size < SMALL_TEST:
        yield f"only {test_size} test architectures: profile more, or train on fewer, for numbers that can be trusted"
    if floor.mape is None:
        yield f"the noise floor is unknown: {floor.reason}"


def _too_good(rows: Sequence[ComparisonRow], floor: NoiseFloor) -> Iterator[str]:
    """Yield a note if a predictor errs by less than one that knows the truth would."""
    better = [row for row in rows if floor.mape is not None and row.mean.mape < floor.mape]
    if better:
        best = min(better, key=lambda row: row.mean.mape)
        names = ", ".join(dict.fromkeys(row.predictor for row in better))
        yield (
            f"{names}: {best.mean.mape:.2%} at best is less than the {floor.mape:.2%} of a perfect predictor, so that "
            f"floor is wrong: {floor.pairs} blind duplicates are too few, or are of other devices or conditions"
        )


def _cells(row: ComparisonRow, floor: str) -> list[str]:
    mean, spread = row.mean, row.spread
    error = f"{mean.mape:.1%}" if math.isnan(spread.mape) else f"{mean.mape:.1%} ± {spread.mape:.1%}"
    ranks = ["-" if math.isnan(rank) else f"{rank:.3f}" for rank in (mean.spearman, mean.kendall)]
    shares = [f"{share:.0%}" for share in (mean.within_5, mean.within_10)]
    return [row.predictor, str(row.train_size), error, floor, *shares, f"{mean.rmspe:.1%}", *ranks]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
