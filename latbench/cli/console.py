"""What the commands print, and how they end: tables for people, one JSON document for machines, exit codes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

# A pipe or a log has no width of its own, and a folded table cannot be read there.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
"""Results."""

err = Console(stderr=True, soft_wrap=True, highlight=False)
"""Progress, notes and errors."""


def print_json(document: Any) -> None:
    """Print the one JSON document of a command; what is not finite becomes null, as JSON has no NaN."""
    print(json.dumps(_finite(document), indent=2))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, numbers: bool = True
) -> None:
    """Print a table: the first column to the left, the others to the right where they are numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index and numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
