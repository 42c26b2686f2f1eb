"""Progress on standard error: drawn on a terminal, a line every half minute in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.progress import Progress
from rich.text import Text

from latbench.cli.console import err

INTERVAL_S = 30.0
"""Without a terminal, how long a command may be silent: services that see no output for minutes end a job."""


class Bars(Progress):
    """Bars on a terminal; elsewhere, a line now and then for each one that is not full. A task may have a ``note``."""

    _telling: ExitStack | None = None

    def start(self) -> None:
        """Start to draw, or to tell."""
        super().start()
        if not self.disable and not self.console.is_terminal:
            self._telling = ExitStack()
            self._telling.enter_context(_every_half_minute(self._tell))

    def stop(self) -> None:
        """Draw once more, and no more."""
        if self._telling is not None:
            self._telling.close()
        super().stop()

    def _tell(self) -> None:
        for task in self.tasks:
            if not task.finished:
                of = "" if task.total is None else f" {task.completed:g}/{task.total:g}"
                note = f", {task.fields['note']}" if task.fields.get("note") else ""
                self.console.print(f"{task.description}{of}, {task.elapsed or 0.0:.0f} s{note}")


@contextmanager
def heartbeat() -> Iterator[Callable[[str], None]]:
    """Yield a function that takes what is being done as a text, and show it until the block ends."""
    if err.is_terminal:
        with err.status(Text("")) as status:
            yield lambda doing: status.update(Text(doing))
        return
    told, start = [""], time.monotonic()
    with _every_half_minute(lambda: err.print(f"{told[-1]}, {time.monotonic() - start:.0f} s")):
        yield told.append


@contextmanager
def _every_half_minute(call: Callable[[], None]) -> Iterator[None]:
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
