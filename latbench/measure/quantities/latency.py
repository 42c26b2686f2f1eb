"""Latency: the workloads of a session are visited in random order round by round, and the fit removes their drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from latbench.backend import Compiled, Device, Fact
from latbench.measure.estimate import Z_95, Fit, Visits, fit
from latbench.measure.gates import flags
from latbench.measure.rounds import visit_in_rounds
from latbench.measure.session import Session
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload
from latbench.records.measurement import Conditions, Measurement

SESSION_SIZE = 13
"""Workloads of one session beside its references: enough neighbours in time to tell drift from workload."""

ACCELERATOR_SESSION_SIZE = 29
"""A process takes seconds to start on an accelerator, for a context and the libraries' kernels; more share them."""


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
        """Visit the workloads round by round, and fit."""
        with session.timed("time"):
            visits, repeated = visit_in_rounds(workloads, session.settings, session.rng)
        with session.timed("estimate"):
            fitted = fit(visits, len(workloads))
            environment = {"repeated_rounds": repeated}
            return list(_measurements(workloads, visits, fitted, session.settings, environment))

    def conditions(self, shared: Conditions, compiled: Compiled) -> Conditions:
        """Return the conditions as they are."""
        return shared


LATENCY = LatencyQuantity()


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
        value = float(np.exp(fitted.log_ms[k]))
        yield each.measurement(
            value,
            value * float(np.exp(-half_width)),
            value * float(np.exp(half_width)),
            reference=None if anchor is None else float(np.exp(anchor)),
            blocks=tuple(float(ms) for ms in visits.ms[visits.workload == k]),
            wall=float(np.median(each.wall_ms)),
            flags=raised[k],
            timing_ms=each.timing_ms,
            environment=environment,
        )
