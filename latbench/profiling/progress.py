"""Where a pass stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from latbench.measure.session import SessionResult
from latbench.measure.workloads import FALLBACK
from latbench.records.noise_floor import NoiseFloor


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a pass stands, for a progress display.

    Args:
        done: subjects measured or failed, those of earlier runs included.
        total: subjects planned.
        quantity: what is being measured, ``"latency"``, ``"energy"``, ``"memory"``.
        measured: subjects measured in this run.
        seconds: seconds since this run began.
        failures: subjects failed in this run.
        flags: how many measurements of this run carry each flag.
        phases: seconds of this run by phase: where the time goes.
        fallback_seconds: seconds for which `torch.onnx.export` wrote files that the direct writer cannot write.
        notes: what libraries warned of in this run, each once.
        noise_floor: from the blind duplicates so far; None before the first one of this run.
    """

    done: int
    total: int
    quantity: str = "latency"
    measured: int = 0
    seconds: float = 0.0
    failures: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    fallback_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    noise_floor: NoiseFloor | None = None

    @property
    def per_hour(self) -> float:
        """Subjects an hour in this run."""
        return self.measured / self.seconds * 3600 if self.seconds else 0.0

    @property
    def fallbacks(self) -> str:
        """How many files `torch.onnx.export` wrote, and how long each took: ``"12 by torch.onnx.export: ..."``."""
        count = self.flags[FALLBACK]
        return f"{count} by torch.onnx.export: {self.fallback_seconds / count:.2g} s a network" if count else ""

    @property
    def note(self) -> str:
        """What is worth knowing of this run so far: ``"43,411/h, 9 drift, floor 0.31%"``."""
        parts = [f"{self.per_hour:,.0f}/h"] if self.measured else []
        parts += [f"{count} {flag}" for flag, count in sorted(self.flags.items()) if flag != FALLBACK]
        parts += [self.fallbacks] if self.fallbacks else []
        parts += [f"{self.failures} failed"] if self.failures else []
        floor = self.noise_floor
        parts += [f"floor {floor.mape:.2%}"] if floor is not None and floor.mape is not None else []
        return ", ".join(parts)

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"measuring {self.quantity} {self.done}/{self.total}", self.note)))

    def after(self, result: SessionResult, seconds: float) -> Progress:
        """Return the progress after a session, `seconds` after the pass began."""
        new = [m for m in result.measurements if m.kind != "reference"]
        return replace(
            self,
            done=self.done + len(new) + len(result.failures),
            measured=self.measured + len(new),
            seconds=seconds,
            failures=self.failures + len(result.failures),
            flags=self.flags + Counter(flag for m in new for flag in m.flags),
            phases=self.phases + Counter(result.seconds),
            fallback_seconds=self.fallback_seconds + sum(m.build_ms for m in new if FALLBACK in m.flags) * 1e-3,
            notes=_once((*self.notes, *result.notes)),
        )


def _once(notes: Iterable[str]) -> tuple[str, ...]:
    """Leave out notes that differ from an earlier one in names in quotes and numbers alone: the place, the shape."""
    first: dict[str, str] = {}
    for note in notes:
        first.setdefault(re.sub(r"'[^']*'|\d+", "", note), note)
    return tuple(first.values())
