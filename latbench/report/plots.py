"""Predictions against measurements, and a search from its first step to its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.report.style import COLORS, GRID, INK, MUTED, clean, colors_of, has_cells, kinds_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latbench.space import Column, Encoder
    from latbench.strategy import Record


def predicted_against_measured(
    measured: NDArray[Any],
    predictions: Mapping[str, NDArray[Any]],
    *,
    unit: str = "ms",
    noise_floor: float | None = None,
) -> Figure:
    """Draw each predictor's values of test architectures over the measured ones.

    Args:
        measured: measured values ``(n,)``.
        predictions: by predictor, values ``(n,)`` of the same architectures.
        unit: of all values.
        noise_floor: relative disagreement of blind duplicates; no predictor can be seen to do better.

    Raises:
        UsageError: matplotlib is missing.
    """
    figure = new_figure(3.1 * len(predictions) + 0.5, 3.9)
    panels = figure.subplots(1, len(predictions), squeeze=False, sharex=True, sharey=True)[0]
    values = np.concatenate([measured, *predictions.values()])
    margin = 0.05 * np.ptp(values)
    ends = np.array([values.min() - margin, values.max() + margin])
    for axes, color, (name, predicted) in zip(panels, COLORS, predictions.items(), strict=False):
        clean(axes)
        axes.fill_between(ends, 0.95 * ends, 1.05 * ends, color=GRID, linewidth=0)
        axes.plot(ends, ends, color=MUTED, linewidth=1)
        axes.scatter(measured, predicted, s=14, color=color, alpha=0.7, linewidths=0)
        error = np.mean(np.abs(predicted / measured - 1))
        axes.set_title(f"{name}   MAPE {error:.1%}", fontsize=10, color=INK, loc="left")
        axes.set_xlabel(f"measured [{unit}]", fontsize=9, color=INK)
        axes.set(xlim=ends, ylim=ends, box_aspect=1)
    panels[0].set_ylabel(f"predicted [{unit}]", fontsize=9, color=INK)
    floor = "" if noise_floor is None else f"; noise floor of the measurements {noise_floor:.1%}"
    figure.supxlabel(f"{len(measured)} architectures; grey band: within 5%{floor}", fontsize=8, color=MUTED)
    return figure


def learning_curves(
    errors: Mapping[str, Mapping[int, tuple[float, float]]], *, noise_floor: float | None = None
) -> Figure:
    """Draw the error of predictors over the number of training architectures, both on a logarithmic scale.

    Args:
        errors: by predictor and training size, the MAPE and its standard deviation over seeds (NaN for a single seed).
        noise_floor: relative disagreement of blind duplicates; no predictor can be seen to do better.

    Raises:
        UsageError: matplotlib is missing.
    """
    figure = new_figure(4.6, 3.6)
    axes = figure.subplots()
    clean(axes)
    for color, (name, by_size) in zip(COLORS, errors.items(), strict=False):
        sizes = sorted(by_size)
        mean, spread = np.array([by_size[size] for size in sizes]).T
        axes.errorbar(sizes, 100 * mean, 100 * np.nan_to_num(spread), color=color, marker="o", capsize=2, label=name)
    if noise_floor is not None:
        axes.axhline(100 * noise_floor, color=MUTED, linestyle="--", linewidth=1, label="noise floor")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("training architectures", fontsize=9, color=INK)
    axes.set_ylabel("MAPE [%]", fontsize=9, color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure


def search_history(
    runs: Mapping[str, Sequence[Record]], space: Encoder[Any], *, target: float | None = None, unit: str = "ms"
) -> Figure:
    """Draw searches of one space side by side: expected encoding, predicted quantity and score, where recorded.

    The alphas of a cell space are summed by operation and those of others by group of columns. A strategy without
    alphas leaves that panel out.

    Args:
        runs: by name, the records of each search.
        space: the space.
        target: what was asked of the searches, in `unit`.
        unit: of the predictors.

    Raises:
        UsageError: matplotlib is missing.
    """
    records = [record for history in runs.values() for record in history]
    rows: dict[str, Callable[[Axes, Sequence[Record]], None]] = {}
    if any(record.encoding for record in records):
        what = "expected number of edges" if has_cells(space.columns) else "expected share"
        rows[what] = partial(_draw_columns, columns=space.columns)
    if any(record.predicted is not None for record in records):
        rows[unit] = partial(_draw_quantity, target=target, unit=unit)
    if not rows or any(record.score is not None or record.entropy is not None for record in records):
        rows["share" if any(record.entropy is not None for record in records) else "score"] = _draw_scores
    figure = new_figure(4.2 * len(runs) + 2.4, 0.6 + 2.6 * len(rows))
    panels = figure.subplots(len(rows), len(runs), squeeze=False, sharex="col", sharey="row")
    for column, (name, history) in zip(panels.T, runs.items(), strict=True):
        column[0].set_title(name, fontsize=11, color=INK, loc="left")
        for axes, draw in zip(column, rows.values(), strict=True):
            clean(axes)
            draw(axes, history)
        column[-1].set_xlabel("step of the search", fontsize=9, color=INK)
        column[-1].xaxis.get_major_locator().set_params(integer=True)
    for axes, label in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(label, fontsize=9, color=INK)
    for axes in panels[:, -1]:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8
        )
    return figure


def _draw_columns(axes: Axes, history: Sequence[Record], *, columns: Sequence[Column]) -> None:
    """Stack how much of each kind of work the expected encodings hold."""
    held = [record for record in history if record.encoding]
    if not held:
        return
    kinds = np.array(kinds_of(columns))
    colors = colors_of(kinds)
    encodings = np.array([record.encoding for record in held])
    counts = {kind: encodings[:, kinds == kind].sum(axis=1) for kind in colors}
    # There are more groups than colours in some spaces: the smallest are drawn as one.
    shown = sorted(colors, key=lambda kind: -float(counts[kind].mean()))[: len(COLORS)]
    layers = {kind: counts[kind] for kind in colors if kind in shown}
    shades = {kind: COLORS[index] for index, kind in enumerate(layers)}
    if len(shown) < len(colors):
        layers["others"] = np.sum([counts[kind] for kind in colors if kind not in shown], axis=0)
        shades["others"] = MUTED
    axes.stackplot(
        _steps(held), list(layers.values()), labels=list(layers), colors=shades.values(), alpha=0.9, linewidth=0
    )
    axes.margins(x=0, y=0)


def _draw_quantity(axes: Axes, history: Sequence[Record], *, target: float | None, unit: str) -> None:
    if target is not None:
        axes.axhline(target, color=INK, linewidth=1, linestyle=":", label=f"asked: {target:.3g} {unit}")
    _draw_line(axes, history, "predicted", "architecture", COLORS[1])
    _draw_line(axes, history, "expected", "expected of the alphas", COLORS[0])


def _draw_scores(axes: Axes, history: Sequence[Record]) -> None:
    _draw_line(axes, history, "entropy", "entropy of the alphas", MUTED)
    _draw_line(axes, history, "score", "score", COLORS[2])
    shares = [value for record in history for value in (record.score, record.entropy) if value is not None]
    if all(0 <= value <= 1 for value in shares):
        axes.set_ylim(0, 1.02)


def _draw_line(axes: Axes, history: Sequence[Record], field: str, label: str, color: str) -> None:
    """Draw a field of the records that hold it; a search without alphas or predictor has none."""
    held = [record for record in history if getattr(record, field) is not None]
    if held:
        axes.plot(
            _steps(held), np.array([getattr(record, field) for record in held]), color=color, linewidth=1.6, label=label
        )


def _steps(history: Sequence[Record]) -> list[int]:
    return [record.number + 1 for record in history]
