"""How all figures look: one palette that colour-blind readers can tell apart, few lines, no global state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

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
ABSENT = ("none", "absent")
"""What cell spaces call the operation of an edge that is not there, and spaces of decisions an inactive decision."""

_CELL_COLUMN = re.compile(r"((?P<cell>.+)/)?(?P<edge>\d+->\d+)/(?P<operation>[^/]+)")


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


def has_cells(columns: Iterable[Column]) -> bool:
    """Whether columns name edges of cells, so that an architecture can be drawn as graphs."""
    return all(_CELL_COLUMN.fullmatch(column.name) for column in columns)


def edge_of(column: Column) -> tuple[str, str, str]:
    """Return cell, edge and operation of a column, from its name ``cell/source->node/operation``.

    A space with one type of cell may leave its name out.

    Raises:
        UsageError: the space has no cells.
    """
    match = _CELL_COLUMN.fullmatch(column.name)
    if match is None:
        raise UsageError(f"column {column.name!r} is not an edge of a cell: only cell spaces can be drawn")
    return match["cell"] or "", match["edge"], match["operation"]


def kinds_of(columns: Sequence[Column]) -> list[str]:
    """Return the kind of work of each column, by which figures sum: its operation in a cell space, or its group."""
    return [edge_of(column)[2] if has_cells(columns) else column.group for column in columns]


def colors_of(kinds: Iterable[str]) -> dict[str, str]:
    """Give every kind of work a colour, the same one in all figures of a space; what is absent has none."""
    shown = [kind for kind in dict.fromkeys(kinds) if kind.rpartition("/")[2] not in ABSENT]
    return {kind: COLORS[index % len(COLORS)] for index, kind in enumerate(shown)}
