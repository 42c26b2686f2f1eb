"""What a session measures: a workload says how its model is built, and becomes a compiled one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from latbench.backend import Compiled, HasFlags
from latbench.model import Model
from latbench.records.measurement import Measurement, SubjectKind

FALLBACK = "fallback"
"""Flags a model whose ONNX file `torch.onnx.export` wrote, about 100 times slower than the direct writer."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One model to measure, and what it is filed under."""

    kind: SubjectKind
    subject: str
    build: Callable[[], Model]
    replicate: int = 0


@dataclass(slots=True)
class CompiledWorkload:
    """A compiled workload, and what its runs have shown so far.

    Args:
        index: its position in the session's list of workloads.
        workload: what was compiled.
        model: what its `build` returned.
        compiled: what the backend made of it.
        compile_ms: how long that took.
        flags: what building it showed and a reader should know.
        wall_ms: the mean wall time of a run, visit by visit.
        timing_ms: time spent in runs that were measured.
    """

    index: int
    workload: Workload
    model: Model
    compiled: Compiled
    compile_ms: float
    flags: tuple[str, ...] = ()
    wall_ms: list[float] = field(default_factory=list)
    timing_ms: float = 0.0

    def measurement(
        self, value: float, low: float, high: float, *, flags: tuple[str, ...] = (), **more: Any
    ) -> Measurement:
        """Return the record of a value with its interval; `more` are further fields of `Measurement`."""
        told = self.compiled.flags() if isinstance(self.compiled, HasFlags) else ()
        return Measurement(
            subject=self.workload.subject,
            kind=self.workload.kind,
            value=value,
            low=low,
            high=high,
            replicate=self.workload.replicate,
            flags=(*flags, *self.flags, *told),
            digest=self.model.digest,
            build_ms=self.model.build_ms,
            compile_ms=self.compile_ms,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        )
