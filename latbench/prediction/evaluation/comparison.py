"""Predictors side by side: the same splits, several seeds and training sizes, beside the noise floor."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import DataError, UsageError
from latbench.plugins import PREDICTORS, names, status
from latbench.prediction.choose import AUTO, choose
from latbench.prediction.evaluation.metrics import Accuracy
from latbench.prediction.learnable import Learnable
from latbench.prediction.plugin import create_predictor, fit_estimator, what_it_lacks
from latbench.prediction.splits import Rows, Split, split_by_group
from latbench.prediction.trained import predict_values
from latbench.predictor import Context
from latbench.records.noise_floor import NoiseFloor
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
        train_size: training architectures, each of another structure.
        mean: mean of each metric over the seeds.
        spread: standard deviation of each metric over the seeds; NaN for a single seed.
        fastest: mean MAPE on the fastest tenth of the test architectures, where searches end.
        by_latency: mean MAPE on each fifth of the test architectures, the fastest first.
        behind: mean MAPE minus that of the best predictor of this size.
        is_behind: whether `behind` is beyond what the draw of training sets explains: on the same splits, the 95%
            interval of the difference (Student's t) does not hold 0. None where a single seed cannot tell.
        fit_s: median seconds of a fit.
        predictions_per_s: median rate of predictions for the test architectures at once.
    """

    predictor: str
    train_size: int
    mean: Accuracy
    spread: Accuracy
    fastest: float
    by_latency: tuple[float, ...]
    behind: float = 0.0
    is_behind: bool | None = None
    fit_s: float = math.nan
    predictions_per_s: float = math.nan


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

    def errors(self) -> dict[str, dict[int, tuple[float, float]]]:
        """Return MAPE and its standard deviation by predictor and training size: the learning curves."""
        found: dict[str, dict[int, tuple[float, float]]] = {}
        for row in self.rows:
            found.setdefault(row.predictor, {})[row.train_size] = row.mean.mape, row.spread.mape
        return found

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the column heads and the rows as text, each error beside the noise floor."""
        heads = ["predictor", "trained on", "MAPE", "noise floor", "behind", "fastest 10%", "within 5%", "within 10%"]
        heads += ["Spearman", "Kendall", "fit", "predictions/s"]
        floor = "?" if self.noise_floor.mape is None else f"{self.noise_floor.mape:.1%}"
        return heads, [_cells(row, floor) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; a metric that is not defined is None."""
        plain: dict[str, Any] = _without_nan(dataclasses.asdict(self))
        return plain


@dataclass(frozen=True, slots=True)
class _Result:
    """What one predictor did on one split: its metrics, its errors by latency, and its times."""

    accuracy: Accuracy
    fastest: float
    by_latency: NDArray[np.float64]
    fit_s: float
    predictions_per_s: float
    chosen: str = ""


def compare(
    profile: Profile,
    predictors: Sequence[str] | None = None,
    *,
    train_sizes: Sequence[int] = (100,),
    seeds: int = 5,
    sources: Sequence[Profile] = (),
    keep_dead: bool = False,
) -> Comparison:
    """Fit predictors to random parts of a profile and test them on the rest.

    Every predictor sees the same split at a seed. A training set has as many structures as its size says; isomorphic
    architectures never straddle it, and smaller training sets are parts of larger ones. A ``"constant"`` row comes
    first.

    Args:
        profile: the measurements; the first value of each architecture is its label.
        predictors: plug-in names, ``module:Class``, or ``"auto"`` (`latbench.prediction.choose`); None takes all that
            are available and can learn from this profile, and a note names the others.
        train_sizes: numbers of training architectures.
        seeds: how many random splits.
        sources: other devices' profiles, for the predictors that learn from them.
        keep_dead: whether architectures without a live path are learnt from and tested on, too.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: a predictor is not a regressor, has nothing to learn from, or fails.
        DataError: too few architectures for the sizes, no seed, or a source of another space, quantity or unit.
    """
    if seeds < 1:
        raise DataError(f"{seeds} seeds: give at least one")
    sizes = sorted(set(train_sizes))
    learnable = Learnable.of(profile, keep_dead=keep_dead)
    splits = [split_by_group(learnable.groups, sizes, seed=seed) for seed in range(seeds)]
    context = profile.context(sources)
    chosen, notes = _chosen(profile, predictors, context)
    rows: list[ComparisonRow] = []
    for size in sizes:
        results = {
            name: [_test(learnable, name, context, split, size, seed=seed) for seed, split in enumerate(splits)]
            for name in (CONSTANT, *chosen)
        }
        rows += _rows(size, results)
        notes += _choices(size, results.get(AUTO, []))
    floor, test_size = learnable.floor, min(len(split.test) for split in splits)
    notes = [*_notes(test_size, floor), *learnable.notes, *_too_good(rows, floor), *notes]
    if context.costs is None and profile.has_operations:
        notes.append("no operator table: predictors learn without operations' costs (latbench profile --operators)")
    return Comparison(tuple(rows), floor, test_size, seeds, tuple(notes))


def _rows(size: int, results: Mapping[str, Sequence[_Result]]) -> Iterator[ComparisonRow]:
    errors = {name: np.array([each.accuracy.mape for each in found]) for name, found in results.items()}
    best = min((name for name in errors if name != CONSTANT), key=lambda name: errors[name].mean(), default=CONSTANT)
    for name, found in results.items():
        accuracies = [each.accuracy for each in found]
        yield ComparisonRow(
            name,
            size,
            Accuracy.mean(accuracies),
            Accuracy.spread(accuracies),
            float(np.mean([each.fastest for each in found])),
            tuple(np.mean([each.by_latency for each in found], axis=0).tolist()),
            float(errors[name].mean() - errors[best].mean()),
            _is_beyond_noise(errors[name] - errors[best]),
            float(np.median([each.fit_s for each in found])),
            float(np.median([each.predictions_per_s for each in found])),
        )


def _is_beyond_noise(differences: NDArray[np.float64]) -> bool | None:
    """Return whether the 95% interval of a mean of paired differences does not hold 0; None for a single one."""
    from scipy import stats

    if len(differences) < 2:
        return None
    half_width = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences))
    return bool(abs(differences.mean()) > half_width)


def _choices(size: int, results: Sequence[_Result]) -> Iterator[str]:
    """Yield a note on which predictors were chosen."""
    if results:
        counts = Counter(each.chosen for each in results)
        listed = ", ".join(f"{name} ({count} of {len(results)} times)" for name, count in counts.most_common())
        yield f"auto chose at {size}: {listed}"


def _chosen(profile: Profile, predictors: Sequence[str] | None, context: Context) -> tuple[list[str], list[str]]:
    """Return the predictors to compare, found before any is fitted, and notes on those that are left out."""
    asked = predictors
    if asked is None:
        asked = [name for name in names(PREDICTORS) if status(PREDICTORS, name).available]
    chosen: list[str] = []
    notes: list[str] = []
    for name in asked:
        lacking = None if name == AUTO else what_it_lacks(create_predictor(name), profile, context)
        if lacking is None:
            chosen.append(name)
        elif predictors is None:
            notes.append(f"{name} is left out: {lacking}")
        else:
            raise UsageError(f"predictor {name!r} cannot be compared: {lacking}")
    return chosen, notes


def _test(learnable: Learnable, name: str, context: Context, split: Split, size: int, *, seed: int) -> _Result:
    X, y, train, test = learnable.X, learnable.y, split.train[size], split.test
    start = time.perf_counter()
    if name == CONSTANT:
        predicted = np.full(len(test), y[train].mean())
        return _Result(Accuracy.of(y[test], predicted), *_by_latency(y[test], predicted), math.nan, math.nan)
    plugin = _plugin(name, learnable, train, context, seed=seed)
    estimator = fit_estimator(plugin, X[train], y[train], context=context, seed=seed)
    fitted = time.perf_counter()
    predicted = predict_values(estimator, X[test], plugin)
    seconds = time.perf_counter() - fitted
    return _Result(
        Accuracy.of(y[test], predicted),
        *_by_latency(y[test], predicted),
        fitted - start,
        len(test) / seconds,
        plugin,
    )


def _plugin(name: str, learnable: Learnable, train: Rows, context: Context, *, seed: int) -> str:
    """Return the name of a predictor; that of ``auto`` is chosen from the rows that it will learn from."""
    if name != AUTO:
        return name
    groups = [learnable.groups[row] for row in train]
    return choose(learnable.X[train], learnable.y[train], groups=groups, context=context, seed=seed).predictor


def _by_latency(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the MAPE on the fastest tenth, and on each fifth from the fastest to the slowest."""
    order = np.argsort(measured, kind="stable")
    error = np.abs(predicted / measured - 1)[order]
    fastest = float(error[: max(1, round(len(error) / 10))].mean())
    return fastest, np.array([part.mean() if len(part) else math.nan for part in np.array_split(error, 5)])


def held_out(
    profile: Profile,
    predictors: Sequence[str],
    *,
    train_size: int = 100,
    seed: int = 0,
    sources: Sequence[Profile] = (),
    keep_dead: bool = False,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return the measured values ``(n,)`` of one split's test architectures, and what each predictor predicts for them.

    Args:
        profile: as for `compare`.
        predictors: plug-in names or ``module:Class``.
        train_size: number of training architectures.
        seed: of the split.
        sources: as for `compare`.
        keep_dead: as for `compare`.

    Raises:
        PluginError: no such predictor, or its library is missing.
        UsageError: a predictor is not a regressor, or fails.
        DataError: too few architectures for the size, or a source as for `compare`.
    """
    learnable = Learnable.of(profile, keep_dead=keep_dead)
    split = split_by_group(learnable.groups, [train_size], seed=seed)
    train, test = split.train[train_size], split.test
    X, y, context = learnable.X, learnable.y, profile.context(sources)
    predicted = {}
    for name in predictors:
        plugin = _plugin(name, learnable, train, context, seed=seed)
        estimator = fit_estimator(plugin, X[train], y[train], context=context, seed=seed)
        predicted[name] = predict_values(estimator, X[test], plugin)
    return y[test], predicted


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
            f"floor is wrong: {floor.pairs} {floor.of} are too few, or are of other devices or conditions"
        )


def _cells(row: ComparisonRow, floor: str) -> list[str]:
    mean, spread = row.mean, row.spread
    error = f"{mean.mape:.1%}" if math.isnan(spread.mape) else f"{mean.mape:.1%} ± {spread.mape:.1%}"
    behind = "best" if not row.behind else f"{row.behind:+.2%}" + ("" if row.is_behind else " (noise)")
    if row.is_behind is None and row.behind:
        behind = f"{row.behind:+.2%}"
    shares = [f"{share:.0%}" for share in (mean.within_5, mean.within_10)]
    ranks = ["-" if math.isnan(rank) else f"{rank:.3f}" for rank in (mean.spearman, mean.kendall)]
    fit = "-" if math.isnan(row.fit_s) else f"{row.fit_s:.2g} s"
    rate = "-" if math.isnan(row.predictions_per_s) else f"{row.predictions_per_s:,.0f}"
    return [row.predictor, str(row.train_size), error, floor, behind, f"{row.fastest:.1%}", *shares, *ranks, fit, rate]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
