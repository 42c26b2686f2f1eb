"""Whether the CPU time of one thread is all that a run takes: other threads, and waiting, escape it.

The clock leaves out what other processes do to a run, which is why backends use it. What the model itself leaves out
shows when the thread's time is compared, once after compiling, with the process's and the wall's.
"""

from __future__ import annotations

import math
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

THREAD, WALL = "thread_cpu", "wall"
"""Values of `latbench.backend.Compiled.clock`."""

Escape = Literal["", "other-threads", "waits"]
"""What escapes the clock; the flag of a value that was timed on the wall clock instead."""

MEANING = {
    "other-threads": "threads of its own do part of its work",
    "waits": "it waits in the middle of its work",
}

_TOLERANCE = 0.05
"""Share of a run that may escape: the clock's own reading, and what libraries do in the background."""

_QUEUED = Path("/proc/thread-self/schedstat")
"""Where Linux counts how long the thread was ready and waited for a core."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds since some start.

    Args:
        thread: CPU time of the calling thread.
        process: CPU time of all threads of this process.
        wall: time of the wall clock.
        queued: time in which the thread was ready and waited for a core; NaN where the kernel does not tell.
    """

    thread: float
    process: float
    wall: float
    queued: float

    @classmethod
    def now(cls) -> Seconds:
        """Read the clocks."""
        try:
            queued = int(_QUEUED.read_text().split()[1]) * 1e-9
        except OSError:
            queued = math.nan
        return cls(time.thread_time(), time.process_time(), time.perf_counter(), queued)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def escape(self) -> Escape:
        """Return what escapes the CPU time of the thread; a kernel that does not count the queue hides waiting."""
        if self.process - self.thread > _TOLERANCE * self.thread:
            return "other-threads"
        waited = self.wall - self.thread - self.queued
        return "waits" if waited > _TOLERANCE * self.wall else ""
