"""What a compiled model shows besides its latency: percentiles of its calls, its size, memory and operators' times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Backend, Compiled, CompileOptions, HasMemory, HasOperatorTimes, OperatorTime, device_of
from latbench.measure.process_memory import PeakMemory, process_mib
from latbench.measure.work import work_of
from latbench.model import Model

CALLS = 1000
SECONDS = 3.0
"""A series of calls ends at whichever of the two comes first."""

SLOW_MS = 1e3
"""A model whose runs take longer needs no run before its calls."""

_WARM_UP_RUNS = 3

ENOUGH_CALLS = {50: 1, 90: 64, 99: 662}
"""How many calls a percentile needs: one of so many almost surely exceeds it, since 0.9**64 = 0.99**662 = 0.0012."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a compiled model shows besides its latency.

    Args:
        percentiles: of back-to-back calls, in ms on the device's own clock, by name: ``"p50"``, ``"p90"``, ``"p99"``.
            One that needs more calls is left out.
        calls: how many calls they are from.
        memory_mib: see `memory_of`; None where nothing measures it.
        memory_of: ``"model"``: what the runtime says that the model holds (`latbench.backend.HasMemory`);
            ``"process"``: what this process grew by, from before compiling to after the calls. Empty for None.
        operators: the time of each operator; empty where the runtime does not tell, or was not asked.
        wall_percentiles: of the same calls on the wall clock: what a user waits for, with what the device's own clock
            leaves out.
        peak_memory_mib: the most that this process grew by at any one time, compiling included; None where the kernel
            does not tell, and on a device whose memory lies elsewhere.
        parameters: elements of the model's weights; None where they cannot be counted.
        weights_mib: their MiB, constants and buffers included; None likewise.
        macs: multiply-accumulates of the convolutions and matrix products of one inference; None likewise.
    """

    percentiles: Mapping[str, float]
    calls: int
    memory_mib: float | None = None
    memory_of: str = ""
    operators: tuple[OperatorTime, ...] = ()
    wall_percentiles: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    parameters: int | None = None
    weights_mib: float | None = None
    macs: int | None = None


def inspect_model(
    model: Model,
    backend: Backend,
    options: CompileOptions,
    *,
    with_operators: bool = False,
    on_wall: bool = False,
    run_ms: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> Inspection:
    """Compile a model once more and inspect it.

    Args:
        model: one that the backend has compiled before, so that what a process loads once is already loaded.
        backend: compiles it.
        options: how it is compiled.
        with_operators: whether to profile its operators.
        on_wall: whether the backend's own clock misses some of the model's work, so that the wall's takes its place.
        run_ms: what a run is known to take; a slow model runs once.
        progress: called between the steps, each of which runs the model.

    Raises:
        LatbenchError: the backend cannot compile the model.
    """
    before = process_mib()
    on_cpu = device_of(backend, options).kind == "cpu"
    with PeakMemory() as peak, backend.compile(model, options) as compiled:
        for _ in range(0 if run_ms > SLOW_MS else _WARM_UP_RUNS):
            compiled.run()
        progress()
        ms, wall_ms = _call_ms(compiled)
        progress()
        grown = process_mib() - before
        highest = peak.mib()
        memory: tuple[float | None, str] = (None, "")
        if isinstance(compiled, HasMemory):
            memory = compiled.memory_mib(), "model"
        elif on_cpu and grown > 0:
            memory = grown, "process"
        progress()
        operators = compiled.operator_times() if with_operators and isinstance(compiled, HasOperatorTimes) else ()
    work = work_of(model)
    return Inspection(
        percentiles(wall_ms if on_wall else ms),
        len(ms),
        *memory,
        operators=tuple(operators),
        wall_percentiles=percentiles(wall_ms),
        peak_memory_mib=highest - before if on_cpu and highest is not None else None,
        parameters=work.parameters,
        weights_mib=work.weights_mib,
        macs=work.macs,
    )


def percentiles(ms: NDArray[np.float64]) -> dict[str, float]:
    """Return the percentiles for which there are enough calls."""
    return {f"p{p}": float(np.percentile(ms, p)) for p, enough in ENOUGH_CALLS.items() if len(ms) >= enough}


def _call_ms(compiled: Compiled) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ms of back-to-back calls, on the device's own clock and on the wall's."""
    ms: list[float] = []
    walls: list[float] = []
    now = time.perf_counter
    deadline = now() + SECONDS
    while len(ms) < CALLS and (not ms or now() < deadline):
        start = now()
        ms.append(compiled.run() * 1e3)
        walls.append((now() - start) * 1e3)
    return np.array(ms), np.array(walls)
