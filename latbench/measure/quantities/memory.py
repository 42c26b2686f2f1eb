"""Memory: what a runtime says that a model holds, or what this process grows by while it compiles and first runs it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from latbench.backend import Compiled, Device, HasMemory
from latbench.errors import MeasurementError, UsageError
from latbench.measure.process_memory import process_mib
from latbench.measure.session import Session
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload
from latbench.records.measurement import Conditions, Measurement

READINGS = 5
_T_95 = 2.776
"""Two-sided 95% quantile of Student's t with four degrees of freedom: of five readings."""

_FIRST_RUNS = 3
"""Runs after which a runtime has allocated what an inference needs."""

SESSION_SIZE = 8
"""Workloads of one session where the runtime tells the memory of each."""


@dataclass(frozen=True, slots=True)
class MemoryQuantity:
    """MiB of one model with its inputs and activations. See `latbench.measure.quantity.Quantity`.

    A runtime that implements `latbench.backend.HasMemory` tells it: clock ``"runtime"``. On a CPU the growth of the
    process stands in for it: clock ``"process"``. The two count different things, so they are never compared.
    """

    name: ClassVar[str] = "memory"
    unit: ClassVar[str] = "MiB"
    with_references: ClassVar[bool] = False  # no drift to divide out
    compiles_ahead: ClassVar[bool] = True

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> MemoryQuantity:
        """Return the quantity: it has no fields."""
        return cls(**values)

    def check(self, device: Device, settings: Settings) -> None:
        """Accept every device for now: only a compiled model knows whether its runtime tells its memory."""

    def session_size(self, device: Device) -> int:
        """Return how many workloads share a session: one on a CPU, so that the process holds no other."""
        return 1 if device.kind == "cpu" else SESSION_SIZE

    def max_seconds(self, settings: Settings, workloads: int) -> float:
        """Return the longest that the readings may take; each one may compile."""
        return settings.max_seconds * workloads

    def measure(self, workloads: Sequence[CompiledWorkload], session: Session) -> list[Measurement]:
        """Read the memory of each workload several times.

        Raises:
            UsageError: the runtime does not tell it, and the device is not a CPU.
        """
        measurements = []
        with session.timed("read"):
            for each in workloads:
                with session.recorded(each.workload):
                    measurements.append(_measurement(each, session))
        return measurements

    def conditions(self, shared: Conditions, compiled: Compiled) -> Conditions:
        """Return the conditions: who tells the memory in place of a clock."""
        return replace(shared, clock=_teller(compiled))


def _measurement(each: CompiledWorkload, session: Session) -> Measurement:
    compiled = each.compiled
    if isinstance(compiled, HasMemory):
        readings = np.array([compiled.memory_mib() for _ in range(READINGS)])
    elif session.device.kind == "cpu":
        _growth_mib(each, session)  # the second time, too, a process loads something for good
        readings = np.array([_growth_mib(each, session) for _ in range(READINGS)])
    else:
        raise UsageError(
            f"backend {session.backend.name!r} does not tell the memory of a model, and that of {session.device.name} "
            "lies outside the process: choose another --backend, or leave memory out of --quantity"
        )
    value = float(np.median(readings))
    if value <= 0:
        raise MeasurementError(
            f"the process did not grow when it compiled and ran {each.workload.subject}: give a larger --batch"
        )
    half_width = _T_95 * float(readings.std(ddof=1)) / math.sqrt(READINGS)
    return each.measurement(
        value,
        max(0.0, value - half_width),
        value + half_width,
        blocks=tuple(readings.tolist()),
        flags=("unstable",) if half_width > session.settings.half_width * value else (),
    )


def _growth_mib(each: CompiledWorkload, session: Session) -> float:
    """Compile a model once more, as what the process loads for it once is there by now, and return the growth."""
    before = process_mib()
    with session.backend.compile(each.model, session.options) as compiled:
        for _ in range(_FIRST_RUNS):
            compiled.run()
        return process_mib() - before


def _teller(compiled: Compiled) -> Literal["runtime", "process"]:
    return "runtime" if isinstance(compiled, HasMemory) else "process"
