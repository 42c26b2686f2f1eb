"""The cells of an architecture, drawn as graphs.

Nodes stand on a line and every edge is an arc whose height is its span. Two different edges then never have the same
apex, so the label that sits there stays legible in any space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latbench.report.style import ABSENT, INK, MUTED, colors_of, edge_of, kinds_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latbench.space import Architecture, Encoder

_RISE = 0.62
"""Height of an arc per node that it spans; the distance of two nodes is 1."""

Edge = tuple[int, int, str]
"""Source, node, operation."""


def draw_cells(space: Encoder[Any], architecture: Architecture, *, title: str = "") -> Figure:
    """Draw the cells of an architecture one above the other.

    Args:
        space: whose columns name cells and edges, ``"normal/0->2/sep_conv_3x3"``.
        architecture: one of its architectures.
        title: shown above the figure.

    Raises:
        UsageError: the space has no cells, or matplotlib is missing.
    """
    cells = _cells(space, architecture)
    colors = colors_of(kinds_of(space.columns))
    nodes = max(int(edge_of(column)[1].split("->")[1]) for column in space.columns) + 1
    heights = [max((node - source for source, node, _ in edges), default=1) * _RISE + 0.6 for edges in cells.values()]
    figure = new_figure(1.3 * nodes, 1.2 * sum(heights) + 0.3 * len(cells))
    panels = figure.subplots(len(cells), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, height, (name, edges) in zip(panels, heights, cells.items(), strict=True):
        _draw(axes, name, edges, nodes, colors)
        axes.set_ylim(-0.3, height - 0.3)
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    return figure


def _cells(space: Encoder[Any], architecture: Architecture) -> dict[str, list[Edge]]:
    """Return the edges of each cell that an architecture keeps."""
    cells: dict[str, list[Edge]] = {edge_of(column)[0]: [] for column in space.columns}
    for index in np.flatnonzero(space.encode([architecture])[0]):
        cell, edge, kind = edge_of(space.columns[index])
        if kind not in ABSENT:
            source, node = edge.split("->")
            cells[cell].append((int(source), int(node), kind))
    return cells


def _draw(axes: Axes, name: str, edges: Sequence[Edge], nodes: int, colors: Mapping[str, str]) -> None:
    for source, node, kind in sorted(edges, key=lambda edge: edge[0] - edge[1]):
        _draw_edge(axes, source, node, kind, colors[kind])
    reached = {node for _, node, _ in edges}
    for node in range(nodes):
        fill, text = (INK, "white") if node in reached else ("white", INK)
        axes.scatter(node, 0, s=300, facecolor=fill, edgecolor=INK, linewidth=1.2, zorder=4)
        axes.text(node, 0, str(node), color=text, fontsize=9, ha="center", va="center_baseline", zorder=5)
    axes.set_title(name, fontsize=10, color=MUTED, loc="left")
    axes.set_xlim(-0.4, nodes - 0.6)
    axes.set_axis_off()


def _draw_edge(axes: Axes, source: int, node: int, kind: str, color: str) -> None:
    """Draw an arc from one node to another, its operation at the apex."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    span = node - source
    apex = span * _RISE
    lift = apex * 4 / 3  # a cubic Bezier curve rises to 3/4 of its control points
    aside = 0.12 / span  # longer arcs leave and arrive closer to the top, so that arcs of one node stay apart
    curve = Path(
        [
            (source + aside, 0.16),
            (source + 0.2 * span + aside, lift),
            (node - 0.2 * span - aside, lift),
            (node - aside, 0.16),
        ],
        [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
    )
    arrow = FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=10, color=color, linewidth=1.8, zorder=2)
    axes.add_patch(arrow)
    label = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": color, "linewidth": 1.2}
    axes.text((source + node) / 2, apex, kind, color=INK, fontsize=7.5, ha="center", va="center", bbox=label, zorder=3)
