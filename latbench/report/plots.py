"""Predictions against measurements, and a search from its first epoch to its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.report.style import COLORS, GRID, INK, MUTED, clean, new_figure, operation_colors, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latbench.search.strategies.result import Epoch
    from latbench.space import SearchSpace


def predicted_against_measured(
    measured: NDArray[Any],
    predictions: Mapping[str, NDArray[Any]],
    *,
    unit: str = "ms",
    noise_floor: float | None = None,
) -> Figure:
    """Draw what each predictor says of test architectures over what was measured.

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


def search_history(
    runs: Mapping[str, Sequence[Epoch]], space: SearchSpace, *, target: float | None = None, unit: str = "ms"
) -> Figure:
    """Draw searches side by side: which operations the alphas favour, latency, entropy and accuracy, epoch by epoch.

    Args:
        runs: histories by the name of the search.
        space: that was searched.
        target: what was asked for, in `unit`.
        unit: of the latency loss.

    Raises:
        UsageError: the space has no cells, or matplotlib is missing.
    """
    figure = new_figure(4.2 * len(runs) + 1.6, 7.2)
    panels = figure.subplots(3, len(runs), squeeze=False, sharex="col", sharey="row", height_ratios=(3, 2, 2))
    for column, (name, history) in zip(panels.T, runs.items(), strict=True):
        for axes in column:
            clean(axes)
        column[0].set_title(name, fontsize=11, color=INK, loc="left")
        _draw_operations(column[0], history, space)
        _draw_quantity(column[1], history, target, unit)
        _draw_shares(column[2], history)
        column[2].set_xlabel("epoch", fontsize=9, color=INK)
        column[2].xaxis.get_major_locator().set_params(integer=True)
    for axes, label in zip(panels[:, 0], ("expected number of edges", unit, "share"), strict=True):
        axes.set_ylabel(label, fontsize=9, color=INK)
    for axes in panels[:, -1]:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8
        )
    return figure


def _draw_operations(axes: Axes, history: Sequence[Epoch], space: SearchSpace) -> None:
    """Stack how many edges of each operation the relaxed encodings hold."""
    kinds = np.array([place(column)[2] for column in space.columns])
    encodings = np.array([epoch.encoding for epoch in history])
    colors = operation_colors(space.columns)
    counts = [encodings[:, kinds == kind].sum(axis=1) for kind in colors]
    axes.stackplot(_epochs(history), counts, labels=list(colors), colors=colors.values(), alpha=0.9, linewidth=0)
    axes.margins(x=0, y=0)


def _draw_quantity(axes: Axes, history: Sequence[Epoch], target: float | None, unit: str) -> None:
    if target is not None:
        axes.axhline(target, color=INK, linewidth=1, linestyle=":", label=f"asked: {target:.3g} {unit}")
    lines = {
        "derived architecture": (COLORS[1], [epoch.predicted for epoch in history]),
        "expected of the alphas": (COLORS[0], [epoch.expected for epoch in history]),
    }
    for label, (color, values) in lines.items():
        if None not in values:  # a search without a predictor knows neither
            axes.plot(_epochs(history), np.array(values), color=color, linewidth=1.6, label=label)


def _draw_shares(axes: Axes, history: Sequence[Epoch]) -> None:
    entropy, accuracy = [epoch.entropy for epoch in history], [epoch.accuracy for epoch in history]
    axes.plot(_epochs(history), entropy, color=MUTED, linewidth=1.6, label="entropy of the alphas")
    axes.plot(_epochs(history), accuracy, color=COLORS[2], linewidth=1.6, label="supernet accuracy")
    axes.set_ylim(0, 1.02)


def _epochs(history: Sequence[Epoch]) -> list[int]:
    return [epoch.number + 1 for epoch in history]
