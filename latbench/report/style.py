"""How all figures look: one palette that colour-blind readers can tell apart, few lines, no global state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.space import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#8C6D31")
"""Okabe and Ito, "Color Universal Design" (2008), without yellow and black, and two darker tones."""

INK = "#222222"
MUTED = "#8A8A8A"
GRID = "#E4E4E4"
ABSENT = "none"
"""What cell spaces call the operation of an edge that is not there."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, independent of pyplot: any thread or notebook may draw it.

    Raises:
        UsageError: matplotlib is missing or does not load.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(f"figures need 'matplotlib' ({error}): pip install 'latbench[report]'") from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def clean(axes: Axes) -> None:
    """Leave only what carries information: two spines, a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def place(column: Column) -> tuple[str, str, str]:
    """Return cell, edge and operation of a column, from its name ``cell/source->node/operation``.

    A space with one type of cell may leave its name out.

    Raises:
        UsageError: the space has no cells.
    """
    *cell, edge, operation = ("", *column.name.split("/"))
    if "->" not in edge:
        raise UsageError(f"column {column.name!r} is no edge of a cell: only cell spaces can be drawn")
    return "/".join(cell).lstrip("/"), edge, operation


def operation_colors(columns: Iterable[Column]) -> dict[str, Any]:
    """Give every operation but ``none`` a colour, the same one in all figures of a space."""
    kinds = dict.fromkeys(place(column)[2] for column in columns)
    kinds.pop(ABSENT, None)
    return {kind: COLORS[index % len(COLORS)] for index, kind in enumerate(kinds)}
