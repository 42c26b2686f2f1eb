"""How a Python program hears where a long call stands: a line under a notebook's cell, or the log ``latbench``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def told(log: logging.Logger) -> Iterator[Callable[[str], None]]:
    """Yield a function that takes where a call stands, as a text.

    In a notebook, the text replaces the one before it, and goes when the block ends; it needs no widgets. Elsewhere,
    the log gets it at level INFO.
    """
    if not in_notebook():
        yield log.info
        return
    from IPython.display import Pretty, display

    handle: Any = display(Pretty(""), display_id=True)
    try:
        yield lambda text: handle.update(Pretty(text))
    finally:
        handle.update(Pretty(""))


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this program: no shell of IPython in a terminal has one."""
    # An import would cost everyone else what only a notebook needs, which has it imported already.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
