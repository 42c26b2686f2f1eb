"""What the commands print: text as it is, tables for people, one JSON document for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latbench.errors import without_colours

_UNBOUNDED = 1_000_000
"""Columns of a pipe or a file: it has no width, and its reader expects one item a line."""

_LEAST = 12
"""Columns below which a text that is cut or folded cannot be read."""

# A path or a message may hold [brackets] or :colons:, so nothing is read as markup: styles are given beside the text.
out = Console(
    markup=False,
    emoji=False,
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout and sys.stdout.isatty() else _UNBOUNDED,
)
"""Results."""

err = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
"""Progress, notes and errors."""


def print_error(message: object) -> None:
    """Print on standard error what went wrong."""
    err.print(f"error: {message}", style="red")


def print_json(document: Any) -> None:
    """Print the one JSON document of a command: null for what is not finite, and no text with a terminal's colours."""
    print(json.dumps(_plain(document), indent=2))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    numbers: bool = True,
    spare: Sequence[str] = (),
) -> None:
    """Print a table, one row a line; where a terminal is too narrow even for folded heads, one cell a line.

    In a table of numbers, the first column is cut to the room that they leave; otherwise, the last one is folded.

    Args:
        columns: their heads.
        rows: a text for each column.
        title: above it.
        numbers: whether all but the first column are numbers.
        spare: columns that a narrow terminal may leave out, the first ones first.
    """
    if title is not None:
        out.print(title, style="italic")
    rows = [[" ".join(cell.splitlines()) for cell in row] for row in rows]
    there = [column for column in spare if column in columns]
    for count in range(len(there) + 1):
        kept = [index for index, column in enumerate(columns) if column not in there[:count]]
        heads, cells = [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]
        if fitting := _fitting(heads, cells, numbers=numbers):
            _print_lines(heads, cells, *fitting, numbers=numbers)
            if count:
                out.print(f"left out on this terminal: {', '.join(there[:count])}")
            return
    _print_blocks(columns, rows, numbers=numbers)


def _fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool
) -> tuple[Sequence[int], int] | None:
    """Return the widths of columns and the gap between them that fit the terminal; None where it is too narrow."""
    flexible = 0 if numbers else len(columns) - 1
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    for heads, gap in (([[column] for column in columns], 2), ([column.split() for column in columns], 1)):
        widths = [max(map(cell_len, (*head, *column))) for head, column in zip(heads, cells, strict=True)]
        room = out.width - sum(widths) - gap * (len(columns) - 1) + widths[flexible]
        if room >= min(widths[flexible], _LEAST):
            widths[flexible] = min(widths[flexible], room)
            return widths, gap
    return None


def _print_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], gap: int, *, numbers: bool
) -> None:
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(column, width=width, justify="right" if index and numbers else "left", overflow="fold")
    for first, *rest in rows:
        table.add_row(_cut(first, widths[0]) if numbers else first, *rest)
    with out.capture() as drawn:
        out.print(table, soft_wrap=False)
    for line in drawn.get().splitlines():
        print(line.rstrip(), file=out.file)


def _print_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool) -> None:
    width = max(map(len, columns)) + 2
    for number, (first, *rest) in enumerate(rows):
        if number:
            out.print()
        shown = _cut(first, max(out.width - width, _LEAST)) if numbers else first
        for column, cell in zip(columns, (shown, *rest), strict=True):
            out.print(f"{column:<{width}}{cell}".rstrip())


def _cut(text: str, width: int) -> Text:
    cut = Text(text)
    cut.truncate(width, overflow="ellipsis")
    return cut


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return without_colours(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
