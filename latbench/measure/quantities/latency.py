"""Latency: the workloads of a session are visited in random order round by round, and the fit removes their drift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from latbench.backend import Compiled, Device, Fact
from latbench.devices.host import usable_cores
from latbench.measure.clocks import MEANING, WALL
from latbench.measure.estimate import Z_95, Fit, Visits, fit
from latbench.measure.gates import flags
from latbench.measure.rounds import runs_of_a_visit, visit_in_rounds
from latbench.measure.session import Session
from latbench.measure.settings import Settings
from latbench.measure.work.plausibility import why_implausible
from latbench.measure.workloads import UNEVEN, CompiledWorkload
from latbench.records.measurement import Conditions, Measurement

SESSION_SIZE = 13
"""Workloads of one session beside its references: enough neighbours in time to tell drift from workload."""

ACCELERATOR_SESSION_SIZE = 29
"""A process takes seconds to start on an accelerator, for a context and the libraries' kernels; more share them."""


_SIMULATED = 1.5
"""A clock that runs so much ahead of the wall's is simulated: what it tells is none of this machine's time."""

_ONE_VISIT = 10.0
"""The factor that the interval of a single visit spans, up and down."""


@dataclass(frozen=True, slots=True)
class LatencyQuantity:
    """Milliseconds of one inference, on the device's own clock. See `latbench.measure.quantity.Quantity`."""

    name: ClassVar[str] = "latency"
    unit: ClassVar[str] = "ms"
    with_references: ClassVar[bool] = True
    compiles_ahead: ClassVar[bool] = True

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LatencyQuantity:
        """Return the quantity: it has no fields."""
        return cls(**values)

    def check(self, device: Device, settings: Settings) -> None:
        """Accept every device: each backend times its runs."""

    def session_size(self, device: Device) -> int:
        """Return how many workloads share a session, references left out."""
        return SESSION_SIZE if device.kind == "cpu" else ACCELERATOR_SESSION_SIZE

    def max_seconds(self, settings: Settings, workloads: int) -> float:
        """Return the longest that the rounds may take."""
        return settings.max_seconds

    def measure(self, workloads: Sequence[CompiledWorkload], session: Session) -> list[Measurement]:
        """Visit the workloads round by round, and fit; leave out what the clock does not see, and what has not run."""
        workloads = [each for each in workloads if _on_its_clock(each, session, alone=len(workloads) == 1)]
        if not workloads:
            return []
        with session.timed("time"):
            visits, repeated = visit_in_rounds(workloads, session.settings, session.rng, progress=session.still_timing)
        with session.timed("estimate"):
            fitted = fit(visits, len(workloads))
            environment = {"repeated_rounds": repeated, "runs": runs_of_a_visit(workloads, session.settings)}
            measurements = list(_measurements(workloads, visits, fitted, session.settings, environment))
        with session.timed("check"):
            return _plausible(list(zip(workloads, measurements, strict=True)), session)

    def conditions(self, shared: Conditions, compiled: Compiled) -> Conditions:
        """Return the conditions as they are."""
        return shared


LATENCY = LatencyQuantity()


def _on_its_clock(each: CompiledWorkload, session: Session, *, alone: bool) -> bool:
    """Whether a model can be timed; what escapes its clock is timed on the wall's where no other shares the session."""
    if not each.escape:
        return True
    each.on_wall = alone
    if not alone:
        session.fail(
            each.workload,
            f"{MEANING[each.escape]}, which the clock {each.compiled.clock!r} does not see: "
            "measure it with two threads or more, where the wall clock counts",
        )
    return alone


def _plausible(measured: list[tuple[CompiledWorkload, Measurement]], session: Session) -> list[Measurement]:
    """Leave out what cannot have run in so short a time: the slowest is looked at, and all the others if it fails.

    A backend that does not wait for its device does so for every model, and most for the one with most work.
    """

    def why(pair: tuple[CompiledWorkload, Measurement]) -> str:
        each, value = pair[0], pair[1].value
        if value > _SIMULATED * float(np.median(each.wall_ms)):
            return ""
        threads = len(usable_cores()) if each.clock == WALL else session.options.threads
        precision = session.options.precision
        return why_implausible(each.model, value, session.device, precision=precision, threads=threads)

    if not why(max(measured, key=lambda pair: pair[1].value)):
        return [measurement for _, measurement in measured]
    reasons = [why(pair) for pair in measured]
    for (each, _), reason in zip(measured, reasons, strict=True):
        if reason:
            session.fail(each.workload, reason)
    return [measurement for (_, measurement), reason in zip(measured, reasons, strict=True) if not reason]


def _measurements(
    workloads: Sequence[CompiledWorkload],
    visits: Visits,
    fitted: Fit,
    settings: Settings,
    environment: Mapping[str, Fact],
) -> Iterator[Measurement]:
    references = [k for k, c in enumerate(workloads) if c.workload.kind == "reference"]
    anchor = float(np.mean(fitted.log_ms[references])) if references else None
    anchor_variance = float(np.mean(fitted.standard_error[references] ** 2)) / len(references) if references else 0.0
    rounds_half_width = fitted.half_width()
    raised = flags(fitted, settings.half_width)
    for k, each in enumerate(workloads):
        half_width = float(
            np.hypot(rounds_half_width[k], Z_95 * np.sqrt(anchor_variance + settings.between_sessions**2))
        )
        value, blocks = float(np.exp(fitted.log_ms[k])), visits.ms[visits.workload == k]
        uneven = each.is_uneven()
        if uneven:
            value, blocks = float(np.mean(each.mean_ms)), np.array(each.mean_ms)
            half_width = Z_95 * float(blocks.std(ddof=1)) / (value * math.sqrt(len(blocks)))
        # One visit has no spread, and its interval says no more than the order of magnitude.
        half_width = min(half_width, math.log(_ONE_VISIT))
        yield each.measurement(
            value,
            value * math.exp(-half_width),
            value * math.exp(half_width),
            reference=None if anchor is None else float(np.exp(anchor)),
            blocks=tuple(map(float, blocks)),
            wall=float(np.median(each.wall_ms)),
            flags=(*raised[k], *((UNEVEN,) if uneven else ())),
            timing_ms=each.timing_ms,
            environment=environment,
        )
