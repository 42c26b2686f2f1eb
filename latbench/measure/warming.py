"""Warm a compiled model up before it is timed, and see what its clock leaves out."""

from __future__ import annotations

import time

from latbench.errors import MeasurementError
from latbench.measure.clocks import THREAD, Seconds
from latbench.measure.workloads import CompiledWorkload

_SLOW_SECONDS = 1.0
"""A model whose first run takes that long is warm after it."""

_RUNS = 2
"""How often any other runs after its first at least."""

_ATTEMPTS = 3
"""What the model did not start may escape the clock in one attempt, and hardly in each of them."""


def warm_up(each: CompiledWorkload, warmup_ms: float) -> None:
    """Run a model for a while, and note its wall time and what escapes its clock.

    Args:
        each: what to run: once if it is slow, else three times or more.
        warmup_ms: how long, on the model's own clock.

    Raises:
        MeasurementError: its clock stands still.
    """
    spent, runs = _watched(each, 1, 0.0)
    slow = spent.wall >= _SLOW_SECONDS
    for attempt in range(_ATTEMPTS):
        if attempt or not slow:
            spent, runs = _watched(each, 1 if slow else _RUNS, warmup_ms)
        each.warm_ms = spent.wall / runs * 1e3
        each.escape = spent.escape() if each.compiled.clock == THREAD else ""
        if not each.escape:
            return


def _watched(each: CompiledWorkload, least: int, warmup_ms: float) -> tuple[Seconds, int]:
    """Run a model for a while; return what that took, and how often it ran."""
    runs, seconds, before = 0, 0.0, Seconds.now()
    deadline = before.wall + _SLOW_SECONDS
    while runs < least or (seconds * 1e3 < warmup_ms and time.perf_counter() < deadline):
        seconds += each.compiled.run()
        runs += 1
        if runs > _RUNS and seconds <= 0:
            clock = each.compiled.clock
            raise MeasurementError(f"runs of {each.workload.subject} take no time on the clock {clock!r}")
    return Seconds.now() - before, runs
