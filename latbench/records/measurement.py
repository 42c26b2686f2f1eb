"""The record of a measurement: what was run, on what, every block value, the statistic and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from latbench.backend import Device, Fact
from latbench.errors import DataError

SubjectKind = Literal["architecture", "operation", "part", "reference", "model"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must be equal for two measurements to be comparable.

    Args:
        quantity: ``"latency"``, ``"energy"``, ``"memory"``, ...
        unit: ``"ms"``, ``"mJ"``, ``"MiB"``, ...
        clock: what one run was timed with (`latbench.backend.Compiled.clock`); the meter, if it is energy; who told
            it, ``"runtime"`` or ``"process"``, if it is memory.
        cache: ``"warm"`` or ``"cold"``: whether a throw-away run precedes the timed ones of a visit.
        backend: the plug-in's name.
        device: the device with its facts, library versions among them.
        precision: what the compiled model computes in.
        threads: threads of one inference.
        batch: inputs of one inference; None where nobody says which dimension of its samples is the batch.
        options: the backend's own options.
        protocol: version of the measuring protocol; 2: the fastest of six runs a visit (of four in 1).
    """

    quantity: str
    unit: str
    clock: str
    cache: str
    backend: str
    device: Device
    precision: str
    threads: int
    batch: int | None
    options: Mapping[str, str] = field(default_factory=dict)
    protocol: int = 2

    def differences(self, other: Conditions) -> tuple[str, ...]:
        """Return the names of the fields that differ, a device's facts one by one: ``("threads", "device.driver")``."""
        names = [f.name for f in fields(self) if f.name != "device" and getattr(self, f.name) != getattr(other, f.name)]
        names += [f"device.{key}" for key in self.device.differences(other.device)]
        return tuple(names)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Conditions:
        """Read what `to_json` wrote."""
        device = Device(**values["device"])
        # Older records have the unit of a GPU among its facts.
        facts = {name: fact for name, fact in device.facts.items() if name != "uuid"}
        unit = device.unit or str(device.facts.get("uuid") or "")
        return cls(**{**values, "device": replace(device, facts=facts, unit=unit)})


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value. Immutable; validates itself.

    Args:
        subject: what was measured: an architecture's string form, an operation's key, a model's name.
        kind: what `subject` is; a reference is a fixed workload that is measured in every session.
        value: the estimate, in the conditions' unit.
        low: lower end of its 95% confidence interval.
        high: upper end.
        reference: the geometric mean of the session's references, in the unit; dividing by it makes sessions
            comparable (`latbench.records.profile.Profile.y`). None where none was measured.
        replicate: 0 for the first measurement of a subject, 1 for its blind duplicate in another process.
        blocks: the value of each visit, in visiting order, before drift is removed; of each window, if it is energy.
        wall: the median wall time of a run around the device's own clock, in ms; None where it is the same clock.
        mean_power_w: what the device drew while the model ran, idle power included, in W; None without a meter.
        flags: ``"unstable"``, ``"drift"``, ...: what a reader should know before trusting the value.
        digest: SHA-256 of the measured ONNX file; empty where the backend ran the module.
        session: names the process that measured; values of one session share its drift and its memory layout.
        order: position in the session.
        seed: what the visiting order and the weights were drawn with.
        build_ms: time to build the module and write its ONNX file.
        compile_ms: time that the backend took to compile.
        timing_ms: time spent in timed and throw-away runs.
        environment: the state of machine and device around the session: load, clocks, temperatures.
        created_at: ISO 8601, UTC.
    """

    subject: str
    kind: SubjectKind
    value: float
    low: float
    high: float
    reference: float | None = None
    replicate: int = 0
    blocks: tuple[float, ...] = ()
    wall: float | None = None
    mean_power_w: float | None = None
    flags: tuple[str, ...] = ()
    digest: str = ""
    session: str = ""
    order: int = 0
    seed: int = 0
    build_ms: float = 0.0
    compile_ms: float = 0.0
    timing_ms: float = 0.0
    environment: Mapping[str, Fact] = field(default_factory=dict)
    created_at: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if not math.isfinite(number) or number < 0:
                raise DataError(f"{name} of {self.subject!r} is {number}: a measured value is finite and not negative")
        if not self.low <= self.value <= self.high:
            raise DataError(
                f"the interval of {self.subject!r} does not contain its value: {self.low} {self.value} {self.high}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measurement:
        """Read what `to_json` wrote.

        Raises:
            TypeError: a field does not exist, or has another type.
            DataError: values that cannot have been measured.
        """
        for name in ("value", "low", "high"):
            if not isinstance(values[name], int | float):
                raise TypeError(f"measurement.{name} is {values[name]!r}, not a number")
        return cls(**{**values, "blocks": tuple(values["blocks"]), "flags": tuple(values["flags"])})

    def scaled_to(self, reference: Fact) -> Measurement:
        """Return the measurement as a session whose references took `reference` would have given it.

        Without a reference on either side it stays as it is.
        """
        if not self.reference or not isinstance(reference, int | float):
            return self
        factor = reference / self.reference
        scaled = {name: getattr(self, name) * factor for name in ("value", "low", "high", "reference")}
        return replace(self, **scaled)

    @property
    def half_width(self) -> float:
        """Half of the confidence interval, relative to the value."""
        return (self.high - self.low) / 2 / self.value if self.value else 0.0
