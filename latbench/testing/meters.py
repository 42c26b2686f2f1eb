"""Meters of known energy: one on virtual time for the protocol, one that bills the null backend for whole profiles."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Device
from latbench.errors import NoCounterError
from latbench.testing.null import NullBackend, VirtualClock

IDLE_W = 50.0
"""What the device of a `NullMeter` draws at any moment, in W, in real time."""

RUN_W = 200.0
"""What a run of the null backend draws in addition, in virtual time: 200 mJ for each of its milliseconds."""


class NullMeter:
    """A meter of the null backend's device. Not registered: name it ``latbench.testing:NullMeter``."""

    name: ClassVar[str] = "null"

    def counter(self, device: Device) -> NullMeter:
        """Return the counter of the null backend's device.

        Raises:
            NoCounterError: any other device.
        """
        if device.name != NullBackend.name:
            raise NoCounterError(f"{device.name} is not the device of the null backend: use another --meter")
        return self

    def energy_mj(self) -> float:
        """Return what real time and virtual runs have taken."""
        return (IDLE_W * time.perf_counter() + RUN_W * VirtualClock.total_seconds) * 1e3


class ScriptedMeter:
    """A meter, its clock and the device in one: nothing takes real time, and what is counted is known.

    Give `now` and `sleep` to `latbench.measure.energy.windows.measure_energy`, and run a `model`.

    Args:
        idle_w: what the device draws at any moment.
        update_s: how often the register is written; 0 is always.
        wraps_at_mj: where the register starts again at 0.
        no_counter: why the device has no counter; empty where it has one.
    """

    name: ClassVar[str] = "scripted"

    def __init__(
        self, idle_w: float = 50.0, *, update_s: float = 0.0, wraps_at_mj: float = math.inf, no_counter: str = ""
    ) -> None:
        self.idle_w, self.update_s, self.wraps_at_mj, self.no_counter = idle_w, update_s, wraps_at_mj, no_counter
        self.seconds = self.mj = 0.0
        self._register = 0.0
        self._updated = 0.0

    def counter(self, device: Device) -> ScriptedMeter:
        """Return the counter, whatever the device.

        Raises:
            NoCounterError: the script says so.
        """
        if self.no_counter:
            raise NoCounterError(self.no_counter)
        return self

    def energy_mj(self) -> float:
        """Return the register."""
        return self._register % self.wraps_at_mj

    def now(self) -> float:
        """Return the virtual seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let idle time pass."""
        self.advance(seconds, 0.0)

    def advance(self, seconds: float, mj: float) -> None:
        """Let time pass in which the device takes `mj` above its idle power, evenly."""
        start, before, power_mw = self.seconds, self.mj, self.idle_w * 1e3 + (mj / seconds if seconds else 0.0)
        self.seconds, self.mj = start + seconds, before + power_mw * seconds
        if not self.update_s:
            self._register = self.mj
        elif (latest := math.floor(self.seconds / self.update_s) * self.update_s) > self._updated:
            self._updated, self._register = latest, before + power_mw * (latest - start)

    def model(self, run_ms: float, mj: float, *, noise: float = 0.0, seed: int = 0) -> ScriptedModel:
        """Return a compiled model whose runs take so long, and so much energy above idle.

        Args:
            run_ms: milliseconds.
            mj: millijoules above the idle power.
            noise: standard deviation of the logarithm of a run's energy.
            seed: draws the noise.
        """
        return ScriptedModel(self, run_ms * 1e-3, mj, noise, seed)


class ScriptedModel:
    """A compiled model of known energy."""

    clock = "scripted"

    def __init__(self, meter: ScriptedMeter, seconds: float, mj: float, noise: float, seed: int) -> None:
        self._meter, self._seconds, self._mj, self._noise = meter, seconds, mj, noise
        self._rng = np.random.default_rng(seed)

    def run(self) -> float:
        """Let one inference pass."""
        self._meter.advance(self._seconds, self._mj * math.exp(self._noise * self._rng.standard_normal()))
        return self._seconds

    def outputs(self) -> list[NDArray[Any]]:
        """Return nothing: it computes nothing."""
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free nothing."""
