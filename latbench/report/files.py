"""Figures on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from latbench.errors import UsageError
from latbench.report.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS = (".eps", ".jpg", ".pdf", ".png", ".svg")


def check_figure(path: Path) -> None:
    """Check that a figure can be written, before the hours of work that it is to show.

    Raises:
        UsageError: the format is not one of figures, the folder does not exist, or matplotlib is missing.
    """
    new_figure(1, 1)
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"cannot draw {path}: name a file that ends in one of {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"cannot draw {path}: there is no folder {path.parent}, so make it first")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file, in the format that its suffix names.

    Raises:
        UsageError: the file cannot be written.
    """
    drawn = io.BytesIO()  # where nothing fails: matplotlib's writers do not all survive a full disk
    figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=150)
    try:
        path.write_bytes(drawn.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}: draw into another folder") from error
