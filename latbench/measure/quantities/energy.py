"""Energy: the workloads of a session run back to back for seconds each, between windows in which the device is idle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from latbench import plugins
from latbench.backend import Compiled, Device
from latbench.errors import LatbenchError, PluginError, UsageError, reason
from latbench.measure.energy.windows import EnergySettings, measure_energies
from latbench.measure.session import Session
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload
from latbench.meter import Meter
from latbench.records.measurement import Conditions, Measurement

SESSION_SIZE = 8
"""Workloads of one session: they share its idle windows, and a kill loses at most so many."""


@dataclass(frozen=True, slots=True)
class EnergyQuantity:
    """Millijoules of one inference above idle. See `latbench.measure.quantity.Quantity`.

    Args:
        settings: the meter, and its windows.
    """

    settings: EnergySettings

    name: ClassVar[str] = "energy"
    unit: ClassVar[str] = "mJ"
    with_references: ClassVar[bool] = False
    compiles_ahead: ClassVar[bool] = False  # the counter would count the compiler

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EnergyQuantity:
        """Read the fields."""
        return cls(EnergySettings(**values["settings"]))

    def check(self, device: Device, settings: Settings) -> None:
        """Check that the meter counts the device.

        Raises:
            UsageError: a cold cache.
            NoCounterError: the meter cannot count that device.
            PluginError: the meter fails.
        """
        if settings.cache == "cold":
            raise UsageError(
                "a metered model runs back to back, so its cache is warm: meter it in a store with --cache warm"
            )
        meter = self._meter()
        try:
            meter.counter(device)
        except LatbenchError:
            raise
        except Exception as error:
            raise PluginError(
                f"meter {self.settings.meter!r} fails ({reason(error)}): correct it, or choose another"
            ) from error

    def session_size(self, device: Device) -> int:
        """Return how many workloads share a session."""
        return SESSION_SIZE

    def max_seconds(self, settings: Settings, workloads: int) -> float:
        """Return the longest that the windows may take."""
        return self.settings.max_seconds(workloads)

    def measure(self, workloads: Sequence[CompiledWorkload], session: Session) -> list[Measurement]:
        """Meter the workloads in turns.

        Raises:
            NoCounterError: the meter cannot count the energy of the backend's device.
            CounterError: the counter fails.
        """
        counter = self._meter().counter(session.device)
        with session.timed("time"):
            energies = measure_energies([c.compiled for c in workloads], counter, self.settings, rng=session.rng)
        measurements = []
        for each, energy in zip(workloads, energies, strict=True):
            if energy.mj is None or energy.low is None or energy.high is None:
                session.fail(each.workload, energy.reason)
                continue
            measurements.append(
                each.measurement(
                    energy.mj,
                    energy.low,
                    energy.high,
                    blocks=energy.trials,
                    wall=energy.run_ms,
                    mean_power_w=energy.mean_power_w,
                    timing_ms=(energy.run_ms or 0.0) * sum(energy.runs),
                    environment={"meter": self.settings.meter, "idle_power_w": energy.idle_power_w},
                )
            )
        return measurements

    def conditions(self, shared: Conditions, compiled: Compiled) -> Conditions:
        """Return the conditions: the meter in place of a clock, and a model that runs back to back is warm."""
        return replace(shared, clock=self.settings.meter, cache="warm")

    def _meter(self) -> Meter:
        meter: Meter = plugins.configure(plugins.METERS, self.settings.meter, {})
        return meter
