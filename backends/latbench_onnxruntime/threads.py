"""The threads of sessions that stand side by side."""

from __future__ import annotations

import time
from typing import ClassVar

import onnxruntime

SPINNING = ("yes", "no")
_STEP_S = 1e-3
_AWAKE = 0.1
"""Share of a step's time that a process computes for, from which on one of its threads still spins."""
_MOST_STEPS = 100


class Threads:
    """The threads of one session.

    After a run they spin for some 10 ms, as they do where a network is deployed, so that the next run finds them awake:
    its median is up to a third below that of threads that sleep at once. Meanwhile they would disturb whatever else is
    timed, so a session of the same process that runs next waits until they sleep.

    Args:
        count: threads of one inference, the caller's among them.
        spinning: ``"yes"``, or ``"no"`` where they are deployed that way, too.
    """

    _awake: ClassVar[Threads | None] = None

    def __init__(self, count: int, spinning: str) -> None:
        self._count, self._spin = count, spinning == "yes"

    def configure(self, settings: onnxruntime.SessionOptions) -> None:
        """Give a session these threads."""
        settings.intra_op_num_threads = self._count
        settings.inter_op_num_threads = 1
        if not self._spin:
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def take_turn(self) -> None:
        """Wait until another session's threads sleep. Called before each run, never while timing."""
        if Threads._awake is not self:
            if Threads._awake is not None:
                _wait_until_asleep()
            Threads._awake = self if self._count > 1 and self._spin else None


def _wait_until_asleep() -> None:
    for _ in range(_MOST_STEPS):
        before, start = time.process_time(), time.perf_counter()
        time.sleep(_STEP_S)
        if time.process_time() - before < _AWAKE * (time.perf_counter() - start):
            return
