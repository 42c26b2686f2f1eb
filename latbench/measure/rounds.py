"""The timed part of a session: random order, round by round, a short block a visit; nothing else happens meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from latbench.backend import HasCache
from latbench.errors import MeasurementError
from latbench.measure.clocks import THREAD
from latbench.measure.estimate import Visits, fit
from latbench.measure.gates import disturbed_rounds
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

PROGRESS_SECONDS = 5.0
"""How long the rounds are silent at most, but for a visit that takes longer."""

MOST_REPEATS = 3
"""A session with disturbed rounds may take up to this many times `Settings.max_rounds`."""


def visit_in_rounds(
    workloads: Sequence[CompiledWorkload],
    settings: Settings,
    rng: np.random.Generator,
    *,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Visits, int]:
    """Visit every workload once a round until all are precise; return the visits, and how many rounds do not count.

    Rounds in which the references were slow are repeated, up to `MOST_REPEATS` times the rounds and within the time
    that the settings allow. Where hardly any round is undisturbed, all of them count.

    Args:
        workloads: compiled and warm.
        settings: how many rounds, of how many runs; see `runs_of_a_visit`.
        rng: draws the order.
        progress: called every `PROGRESS_SECONDS` or so where a visit takes seconds.
    """
    references = [k for k, c in enumerate(workloads) if c.workload.kind == "reference"]
    least, most = min(settings.min_rounds, settings.max_rounds), settings.max_rounds
    orders: list[NDArray[np.int64]] = []
    ms: list[list[float]] = []
    told = time.monotonic()
    deadline = told + settings.max_seconds
    runs = runs_of_a_visit(workloads, settings)
    # A model that is alone and slow has been warmed by its own last run, and its other sessions show its spread.
    slow = len(workloads) == 1 and runs < settings.runs
    with _undisturbed():
        while True:
            orders.append(rng.permutation(len(workloads)))
            ms.append([])
            for index in orders[-1]:
                ms[-1].append(_visit(workloads[index], settings, runs, is_warm=slow))
                if time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    progress()
            late = (len(ms) > 1 or slow) and time.monotonic() > deadline
            if not late and (len(ms) < least or (len(ms) % 4 and len(ms) < most)):
                continue
            order, value = np.array(orders), np.array(ms)
            counting = ~disturbed_rounds(np.take_along_axis(value, np.argsort(order, axis=1), axis=1)[:, references])
            undisturbed = int(counting.sum())
            if undisturbed < least:
                counting[:] = True
            visits = Visits(order[counting].ravel(), value[counting].ravel())
            exhausted = late or undisturbed >= most or len(ms) >= MOST_REPEATS * most
            if exhausted or (undisturbed >= least and _precise(visits, len(workloads), settings)):
                return visits, int((~counting).sum())


def runs_of_a_visit(workloads: Sequence[CompiledWorkload], settings: Settings) -> int:
    """Return how many runs of a visit are timed: one of each where two rounds would not fit in the time otherwise."""
    round_ms = (settings.runs + 1) * sum(each.warm_ms for each in workloads)
    return settings.runs if 2 * round_ms <= settings.max_seconds * 1e3 else 1


def _visit(each: CompiledWorkload, settings: Settings, runs: int, *, is_warm: bool) -> float:
    run = each.compiled.run
    begin, interruptions = time.perf_counter(), _interruptions()
    if settings.cache == "warm" and not is_warm:
        run()
    seconds, walls = [], []
    for _ in range(runs):
        if settings.cache == "cold" and isinstance(each.compiled, HasCache):
            each.compiled.flush_cache()
        start = time.perf_counter()
        seconds.append(run())
        walls.append(time.perf_counter() - start)
    each.wall_ms.append(sum(walls) / runs * 1e3)
    each.timing_ms += (time.perf_counter() - begin) * 1e3
    # A clock that counts a thread's time may show none for a short run; that is no time that a run takes.
    counted = [took for took in (walls if each.on_wall else seconds) if took > 0]
    if not counted:
        raise MeasurementError(
            f"{runs} runs of {each.workload.subject} take no time on the clock {each.clock!r}: it is too coarse for it"
        )
    fastest, mean = min(counted) * 1e3, sum(counted) / len(counted) * 1e3
    each.mean_ms.append(mean)
    spread = fastest, mean, max(counted) * 1e3
    calm = each.clock == THREAD or _interruptions() == interruptions
    (each.calm_ms if calm else each.interrupted_ms).append(spread)
    return fastest


def _interruptions() -> int:
    """Return how often other processes have taken a core from this one; 0 where the system does not tell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def _precise(visits: Visits, workloads: int, settings: Settings) -> bool:
    return bool((fit(visits, workloads).half_width() <= settings.half_width).all())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the garbage collector out of the timed runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
