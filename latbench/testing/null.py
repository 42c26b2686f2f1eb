"""The ``null`` backend: it runs nothing, and its latencies are known.

What `httpx.MockTransport` is for HTTP: the whole pipeline runs without hardware, against a truth. Time is virtual: a
run advances a clock that all models of one backend share, and on which drift, noise and preemption are scripted.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from latbench.backend import CompileOptions, Device, check_options
from latbench.errors import CompileError, MeasurementError, UsageError
from latbench.model import Model

OPERATOR_MS = 0.01
"""What every operator of an ONNX file costs."""
KERNEL_ELEMENT_MS = 0.002
"""What every element of its kernel costs in addition."""
FAILURES = ("compile", "crash", "hang", "memory", "outputs", "run")
UNITS, UNIT = "LATBENCH_NULL_UNITS", "LATBENCH_NULL_UNIT"
"""Environment variables: the units of the backend's device, separated by blanks, and the one a process measures."""
LAST_RUNS = 10
"""How often a model runs that is to fail while it is timed."""


@dataclass(frozen=True, slots=True)
class Script:
    """What disturbs the known latency, and what fails; the fields are the backend's options.

    Args:
        seed: everything random derives from it and from the models compiled before: a model that is measured again
            beside other models gets noise of its own.
        noise: standard deviation of the logarithm of a run's time.
        session: standard deviation, likewise, of a factor that all runs of one compiled model share (memory layout).
        drift: standard deviation, likewise, of a factor that all models share: where it starts, and what it has
            walked after one virtual second.
        trend: relative change of that factor in a virtual second.
        preempted: share of the runs that another process interrupts, for 1 to 10 ms.
        fail: what happens to the models that `failing` names: ``compile`` raises CompileError, ``crash`` aborts the
            process, ``hang`` never returns, ``memory`` needs more than there is, ``outputs`` computes something else,
            ``run`` raises MeasurementError after `LAST_RUNS` runs.
        failing: a text that the names of failing models contain; all models fail where it is empty.
    """

    seed: int = 0
    noise: float = 0.0
    session: float = 0.0
    drift: float = 0.0
    trend: float = 0.0
    preempted: float = 0.0
    fail: str = ""
    failing: str = ""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Script:
        """Read the options.

        Raises:
            UsageError: an option is unknown, or is not a number and must be.
        """
        script = asdict(cls())
        check_options(NullBackend.name, options, {key: FAILURES if key == "fail" else () for key in script})
        for key, value in options.items():
            kind = type(script[key])
            try:
                script[key] = kind(value)
            except ValueError as error:
                raise UsageError(f"option {key}={value} of backend {NullBackend.name!r}: give a number") from error
        return cls(**script)


@dataclass
class NullBackend:
    """A backend whose latencies are known. Not registered: name it ``latbench.testing:NullBackend``.

    It has as many equal devices as `UNITS` names.

    Args:
        cost_ms: gives the undisturbed latency of a model; None counts the operators of its ONNX file.
    """

    cost_ms: Callable[[Model], float] | None = None

    name: ClassVar[str] = "null"

    def __post_init__(self) -> None:
        self.known_ms = self.cost_ms or operator_cost_ms
        """The undisturbed latency of a model."""
        self.clock = VirtualClock()

    def device(self) -> Device:
        """Return a device without facts."""
        return Device("null", "cpu", unit=os.environ.get(UNIT, ""))

    def units(self) -> list[tuple[str, Mapping[str, str]]]:
        """Return the units that the environment names, or the one that it has chosen among them."""
        chosen = os.environ.get(UNIT)
        names = [chosen] if chosen else os.environ.get(UNITS, "").split()
        return [(name, {UNIT: name}) for name in names]

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        """Compile the model, or fail as the script says.

        Raises:
            UsageError: an option is unknown, or the precision is not fp32.
            CompileError: the script says so.
        """
        script = Script.parse(options.options)
        if options.precision != "fp32":
            raise UsageError(f"backend {self.name!r} runs fp32, not {options.precision}: leave --precision out")
        fail = script.fail if script.failing in model.name else ""
        if fail == "compile":
            raise CompileError(f"{self.name} refuses {model.name}, as scripted")
        if fail == "crash":
            os.abort()
        while fail == "hang":
            time.sleep(60)
        if fail == "memory":
            np.empty(2**60, np.uint8)
        entropy = self.clock.join(script.seed, model.name)
        return CompiledNull(model, self.known_ms(model), script, self.clock, entropy, fail=fail)


class VirtualClock:
    """The seconds that all models of one backend share, and a random walk along them."""

    total_seconds: ClassVar[float] = 0.0
    """Of all clocks of this process: what `latbench.testing.NullMeter` bills."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._company: list[int] = []
        self._walk: float | None = None

    def join(self, seed: int, name: str) -> list[int]:
        """Note that a model is compiled, and return what its random numbers derive from."""
        self._company = [seed, zlib.crc32(repr((self._company, name)).encode())]
        return self._company

    @property
    def walk(self) -> float:
        """Where the walk is; it starts at a standard normal number, and its variance grows by one each second."""
        if self._walk is None:
            self._rng = np.random.default_rng(self._company)
            self._walk = float(self._rng.standard_normal())
        return self._walk

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        VirtualClock.total_seconds += seconds
        self._walk = self.walk + math.sqrt(seconds) * float(self._rng.standard_normal())


class CompiledNull:
    """A model whose runs take what the script says, on the virtual clock."""

    clock = "null"

    def __init__(
        self, model: Model, known_ms: float, script: Script, clock: VirtualClock, entropy: list[int], *, fail: str
    ) -> None:
        self._model, self._script, self._virtual, self._fail = model, script, clock, fail
        self._runs = 0
        self._rng = np.random.default_rng(entropy)
        self._seconds = known_ms * 1e-3 * math.exp(script.session * self._rng.standard_normal())

    def run(self) -> float:
        """Let one inference pass on the virtual clock and return its seconds."""
        script, clock, rng = self._script, self._virtual, self._rng
        self._runs += 1
        if self._fail == "run" and self._runs > LAST_RUNS:
            raise MeasurementError(f"{self._model.name} fails while it runs, as scripted")
        shared = math.exp(script.drift * clock.walk) * (1 + script.trend * clock.seconds)
        seconds = self._seconds * shared * math.exp(script.noise * rng.standard_normal())
        if rng.random() < script.preempted:
            seconds += rng.uniform(1e-3, 10e-3)
        clock.advance(seconds)
        return seconds

    def memory_mib(self) -> float:
        """Return the size of the model's ONNX file, with the scripted noise."""
        return len(self._model.onnx) / 2**20 * math.exp(self._script.noise * self._rng.standard_normal())

    def outputs(self) -> list[NDArray[Any]]:
        """Return what the module, or the ONNX file, computes; or wrong outputs, if the script says so."""
        outputs = self._model.reference_outputs() if self._model.has_module else _evaluate(self._model)
        return [output + 1 for output in outputs] if self._fail == "outputs" else outputs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free nothing."""


def operator_cost_ms(model: Model) -> float:
    """Return what the operators of a model's ONNX file cost: it adds up, and tells architectures apart."""
    import onnx

    operators = onnx.load_model_from_string(model.onnx).graph.node
    kernels = (a.ints for operator in operators for a in operator.attribute if a.name == "kernel_shape")
    return OPERATOR_MS * len(operators) + KERNEL_ELEMENT_MS * sum(map(math.prod, kernels))


def _evaluate(model: Model) -> list[NDArray[Any]]:
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(output) for output in ReferenceEvaluator(model.onnx).run(None, model.inputs)]
