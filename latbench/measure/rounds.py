"""The timed part of a session: random order, round by round, a short block a visit; nothing else happens meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from latbench.backend import HasCache
from latbench.measure.estimate import Visits, fit
from latbench.measure.gates import disturbed_rounds
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload

MOST_REPEATS = 3
"""A session with disturbed rounds may take up to this many times `Settings.max_rounds`."""


def visit_in_rounds(
    workloads: Sequence[CompiledWorkload], settings: Settings, rng: np.random.Generator
) -> tuple[Visits, int]:
    """Visit every workload once a round until all are precise; return the visits, and how many rounds do not count.

    Rounds in which the references were slow are repeated, up to `MOST_REPEATS` times the rounds and within the time
    that the settings allow. Where hardly any round is undisturbed, all of them count.
    """
    references = [k for k, c in enumerate(workloads) if c.workload.kind == "reference"]
    least, most = min(settings.min_rounds, settings.max_rounds), settings.max_rounds
    orders: list[NDArray[np.int64]] = []
    ms: list[list[float]] = []
    deadline = time.monotonic() + settings.max_seconds
    with _undisturbed():
        while True:
            orders.append(rng.permutation(len(workloads)))
            ms.append([_visit(workloads[index], settings) for index in orders[-1]])
            late = len(ms) > 1 and time.monotonic() > deadline
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


def _visit(each: CompiledWorkload, settings: Settings) -> float:
    run = each.compiled.run
    begin = time.perf_counter()
    if settings.cache == "warm":
        run()
    seconds, walls = [], []
    for _ in range(settings.runs):
        if settings.cache == "cold" and isinstance(each.compiled, HasCache):
            each.compiled.flush_cache()
        start = time.perf_counter()
        seconds.append(run())
        walls.append(time.perf_counter() - start)
    each.wall_ms.append(sum(walls) / settings.runs * 1e3)
    each.timing_ms += (time.perf_counter() - begin) * 1e3
    return min(seconds) * 1e3


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
