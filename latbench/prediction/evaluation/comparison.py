"""Predictors side by side: the same splits, several seeds and training sizes, the noise floor beside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError
from latbench.prediction.evaluation.metrics import Accuracy
from latbench.prediction.evaluation.splits import Rows, split_by_group
from latbench.prediction.fit import create_predictor, fit_estimator
from latbench.prediction.trained import predict_values
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
    profile: Profile, predictors: Sequence[str], *, train_sizes: Sequence[int] = (100,), seeds: int = 5
) -> Comparison:
    """Fit predictors to random parts of a profile and test them on the rest.

    Every predictor sees the same split at a seed, isomorphic architectures never straddle it, and smaller training sets
    are parts of larger ones. A ``"constant"`` row comes first.

    Args:
        profile: the measurements; the first value of each architecture is its label.
        predictors: plug-in names or ``module:Class``.
        train_sizes: numbers of training architectures.
        seeds: how many random splits.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: one that is no regressor, or that fails.
        DataError: too few architectures for the sizes, or no seed.
    """
    if seeds < 1:
        raise DataError(f"{seeds} seeds: give at least one")
    sizes = sorted(set(train_sizes))
    splits = [split_by_group(profile.groups, sizes, seed=seed) for seed in range(seeds)]
    for name in predictors:
        create_predictor(name)  # a misspelt one is found before the others are fitted
    rows = []
    for size in sizes:
        for name in (CONSTANT, *predictors):
            results = [_test(profile, name, split.train[size], split.test, seed) for seed, split in enumerate(splits)]
            rows.append(ComparisonRow(name, size, Accuracy.mean(results), Accuracy.spread(results)))
    floor, test_size = noise_floor(profile.duplicates), min(len(split.test) for split in splits)
    has_table = profile.column_facts().costs is not None
    return Comparison(tuple(rows), floor, test_size, seeds, tuple(_notes(test_size, floor, has_table=has_table)))


def _test(profile: Profile, name: str, train: Rows, test: Rows, seed: int) -> Accuracy:
    X, y = profile.X, profile.y
    if name == CONSTANT:
        return Accuracy.of(y[test], np.full(len(test), y[train].mean()))
    estimator = fit_estimator(name, X[train], y[train], facts=profile.column_facts(), seed=seed)
    return Accuracy.of(y[test], predict_values(estimator, X[test], name))


def held_out(
    profile: Profile, predictors: Sequence[str], *, train_size: int = 100, seed: int = 0
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return the measured values ``(n,)`` of one split's test architectures, and what each predictor says of them.

    Args:
        profile: as for `compare`.
        predictors: as for `compare`.
        train_size: number of training architectures.
        seed: of the split.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: one that is no regressor, or that fails.
        DataError: too few architectures for the size.
    """
    split = split_by_group(profile.groups, [train_size], seed=seed)
    train, test = split.train[train_size], split.test
    X, y, facts = profile.X, profile.y, profile.column_facts()
    fitted = {name: fit_estimator(name, X[train], y[train], facts=facts, seed=seed) for name in predictors}
    return y[test], {name: predict_values(estimator, X[test], name) for name, estimator in fitted.items()}


def _notes(test_size: int, floor: NoiseFloor, *, has_table: bool) -> Iterator[str]:
    if test_size < SMALL_TEST:
        yield f"only {test_size} test architectures: profile more, or train on fewer, for numbers that can be trusted"
    if floor.mape is None:
        yield f"the noise floor is unknown: {floor.reason}"
    if not has_table:
        yield "no operator table: predictors that build on operator costs do without (latbench profile --operators)"


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
