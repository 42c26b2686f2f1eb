"""What a session measures: a workload says how its model is built, and becomes a compiled one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from latbench.backend import Compiled, HasFlags
from latbench.measure.clocks import THREAD, WALL, Escape
from latbench.model import Model
from latbench.records.measurement import Measurement, SubjectKind

FALLBACK = "fallback"
"""Flags a model whose ONNX file `torch.onnx.export` wrote, about 100 times slower than the direct writer."""

UNEVEN = "uneven"
"""Flags a model of which few runs take most of the time: its value is the mean, not the fastest."""

_UNEVEN_RATIO, _UNEVEN_RATIO_ELSEWHERE = 10, 100
"""A run that takes so many times the fastest does other work; the latter on a clock that others' work moves, too."""

_UNEVEN_MEAN = 2
"""Such runs matter where the mean run takes so many times the fastest."""

_UNEVEN_VISITS = 3
"""Where there are more visits, fewer that show it may be chance."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One model to measure, and what it is filed under.

    Args:
        kind: what it is.
        subject: its name in the records.
        build: gives the model.
        replicate: 0 for the first measurement of a subject.
        on_wall: whether it is timed on the wall clock, because the backend's own is known to miss some of its work.
    """

    kind: SubjectKind
    subject: str
    build: Callable[[], Model]
    replicate: int = 0
    on_wall: bool = False


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
        warm_ms: the wall time of a run before timing.
        escape: what the backend's clock leaves out; see `latbench.measure.clocks`.
        on_wall: whether its runs are timed on the wall clock instead of the backend's.
        mean_ms: the mean time of a run, visit by visit.
        calm_ms: the time of the fastest, the mean and the longest run of each visit that no other process interrupted
            on its clock.
        interrupted_ms: the same of the other visits.
    """

    index: int
    workload: Workload
    model: Model
    compiled: Compiled
    compile_ms: float
    flags: tuple[str, ...] = ()
    wall_ms: list[float] = field(default_factory=list)
    timing_ms: float = 0.0
    warm_ms: float = 0.0
    escape: Escape = ""
    on_wall: bool = False
    mean_ms: list[float] = field(default_factory=list)
    calm_ms: list[tuple[float, float, float]] = field(default_factory=list)
    interrupted_ms: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def clock(self) -> str:
        """What its runs are timed with."""
        return WALL if self.on_wall else self.compiled.clock

    def is_uneven(self) -> bool:
        """Whether few runs take most of the time, as where every n-th one computes and the others remember."""
        # Where every visit was interrupted, an interruption may look like work: better a flag too many than none.
        visits = self.calm_ms or self.interrupted_ms
        if not visits:
            return False
        fastest, mean, longest = np.array(visits).T
        usual = float(np.median(fastest))
        ratio = _UNEVEN_RATIO if self.clock == THREAD else _UNEVEN_RATIO_ELSEWHERE
        heavy = int((longest >= ratio * usual).sum())
        return heavy >= min(_UNEVEN_VISITS, len(visits)) and float(mean.mean()) >= _UNEVEN_MEAN * usual

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
            flags=(*flags, *self.flags, *((self.escape,) if self.on_wall and self.escape else ()), *told),
            digest=self.model.digest,
            build_ms=self.model.build_ms,
            compile_ms=self.compile_ms,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        )
