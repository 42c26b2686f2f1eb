"""Progress on standard error: drawn on a terminal, a line every half minute in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.text import Text

from latbench.cli.console import err

INTERVAL_S = 30.0
"""Without a terminal, how long a command may be silent: services that see no output for minutes end a job."""


@contextmanager
def heartbeat() -> Iterator[Callable[[str], None]]:
    """Yield a function that takes what is being done as a text, and show it until the block ends."""
    told = ""

    def line(seconds: float) -> str:
        return f"{told}, {seconds:.0f} s"

    if err.is_terminal:
        with err.status(Text("")) as status:
            yield lambda doing: status.update(Text(doing))
        return

    def tell(doing: str) -> None:
        nonlocal told
        told = doing

    start = time.monotonic()
    with every_half_minute(lambda: err.print(line(time.monotonic() - start))):
        yield tell


@contextmanager
def every_half_minute(call: Callable[[], None]) -> Iterator[None]:
    """Call a function every `INTERVAL_S` seconds while the block runs."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(INTERVAL_S):
            call()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
