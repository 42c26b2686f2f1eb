"""One session: compile a batch of models, check their outputs, warm them up, and ask a quantity to measure them.

It runs in the calling process; `latbench.measure.workers` puts it into one of its own.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from latbench.backend import Backend, CompileOptions, Device, Fact, HasPrecision, HasState, device_of
from latbench.devices.host import check_threads, host_facts, host_state
from latbench.errors import CounterError, OutOfMemoryError, UsageError, reason
from latbench.executor import Notify
from latbench.measure.compiling import Compile, compiled_from_either, verified
from latbench.measure.quantity import Quantity
from latbench.measure.settings import Settings
from latbench.measure.warming import warm_up
from latbench.measure.workloads import FALLBACK, CompiledWorkload, Workload
from latbench.model.inputs import SampleNote
from latbench.records.measurement import Conditions, Measurement
from latbench.records.subjects import Failure


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What a session measured.

    Args:
        conditions: what its measurements share; None where every model failed.
        measurements: in the order of the session's workloads.
        failures: what could not be measured.
        seconds: what each phase took.
        notes: what libraries warned of, each once.
    """

    conditions: Conditions | None
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "conditions": None if self.conditions is None else self.conditions.to_json(),
            "measurements": [m.to_json() for m in self.measurements],
            "failures": [asdict(f) for f in self.failures],
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SessionResult:
        """Read what `to_json` wrote."""
        conditions = values["conditions"]
        return cls(
            conditions=None if conditions is None else Conditions.from_json(conditions),
            measurements=tuple(map(Measurement.from_json, values["measurements"])),
            failures=tuple(Failure(**failure) for failure in values["failures"]),
            seconds=values["seconds"],
            notes=tuple(values["notes"]),
        )


def run_session(
    backend: Backend,
    workloads: Sequence[Workload],
    quantity: Quantity,
    options: CompileOptions,
    settings: Settings,
    *,
    seed: int = 0,
    session: str = "",
    notify: Notify = lambda phase, index: None,
) -> SessionResult:
    """Measure the workloads together; those of kind ``"reference"`` anchor the others.

    Args:
        backend: compiles and runs them.
        workloads: what to measure.
        quantity: what to measure of them.
        options: how they are compiled.
        settings: how they are measured.
        seed: draws the visiting order.
        session: its name in the records.
        notify: called with the phases.

    Raises:
        UsageError: the backend refuses the options or the quantity, or more threads are asked for than there are.
        CounterError: what counts the quantity fails.
    """
    running = Session(backend, options, settings, seed=seed, notify=notify)
    with running.prepared(workloads) as compiled:
        if not compiled:
            return SessionResult(None, (), tuple(running.failures), running.seconds)
        notify("timing", -1)
        environment = {**host_state(), **_device_state(backend)}
        measured = quantity.measure(compiled, running)
        after = {f"{key}_after": value for key, value in _device_state(backend).items()}
        conditions = quantity.conditions(_conditions(running, quantity, compiled[0]), compiled[0].compiled)
    environment |= {"unit": conditions.device.unit} if conditions.device.unit else {}
    measurements = (
        replace(m, session=session, order=order, seed=seed, environment={**environment, **m.environment, **after})
        for order, m in enumerate(measured)
    )
    return SessionResult(conditions, tuple(measurements), tuple(running.failures), running.seconds)


class Session:
    """What the phases of a session share.

    Args:
        backend: compiles and runs the workloads.
        options: how they are compiled.
        settings: how they are measured.
        seed: draws what is random.
        notify: called with the phases.

    Attributes:
        rng: what is random is drawn from it.
        failures: what could not be measured so far.
        seconds: what each phase has taken so far.
    """

    def __init__(
        self, backend: Backend, options: CompileOptions, settings: Settings, *, seed: int, notify: Notify
    ) -> None:
        self.backend, self.options, self.settings, self._notify = backend, options, settings, notify
        self.rng = np.random.default_rng(seed)
        self.failures: list[Failure] = []
        self.seconds: dict[str, float] = {}

    @cached_property
    def device(self) -> Device:
        """The device that the options choose."""
        return device_of(self.backend, self.options)

    @contextmanager
    def prepared(self, workloads: Sequence[Workload]) -> Iterator[list[CompiledWorkload]]:
        """Compile the workloads, check their outputs, wait for the session's turn, and warm up; yield those that work.

        Leaving the context frees them all. The others are added to `failures`.

        Raises:
            UsageError: the backend refuses the options, or they ask for more threads than the machine gives.
        """
        check_threads(self.options.threads)
        with ExitStack() as stack:
            compiled = []
            with self.timed("build and compile"):
                for index, workload in enumerate(workloads):
                    self._notify("compiling", index)
                    with self.recorded(workload):
                        compiled.append(self._compile(index, workload, stack))
            with self.timed("verify"):
                compiled = self._verified(compiled, stack)
            self._notify("compiled", -1)
            with self.timed("warm up"):
                compiled = [c for c in compiled if self._warmed_up(c)]
            yield compiled

    def still_timing(self) -> None:
        """Say that the runs go on, so that nobody takes a slow model for one that hangs."""
        self._notify("running", -1)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time of the block to a phase's seconds."""
        with timed(self.seconds, phase):
            yield

    @contextmanager
    def recorded(self, workload: Workload) -> Iterator[None]:
        """Record whatever a native library throws as the workload's failure.

        Raises:
            UsageError: the user's mistake.
            CounterError: what counts energy fails, and the workload is not to blame.
        """
        try:
            yield
        except (UsageError, CounterError):
            raise
        except Exception as error:  # noqa: BLE001
            self.fail(workload, reason(error), crowded=isinstance(error, OutOfMemoryError | MemoryError))

    def fail(self, workload: Workload, why: str, *, crowded: bool = False) -> None:
        """Record that a workload cannot be measured."""
        self.failures.append(Failure(workload.kind, workload.subject, why, workload.replicate, crowded))

    def _compile(self, index: int, workload: Workload, stack: ExitStack) -> CompiledWorkload:
        start = time.perf_counter()
        with _overheard() as warned:
            model = workload.build()
            compiled = compiled_from_either(model, self._compiler(stack))
        compile_ms = (time.perf_counter() - start) * 1e3 - model.build_ms
        flags = _flags(warned)
        return CompiledWorkload(index, workload, model, compiled, compile_ms, flags=flags, on_wall=workload.on_wall)

    def _compiler(self, stack: ExitStack) -> Compile:
        """Return what compiles a model and frees it at the end of the session."""
        return lambda model: stack.enter_context(self.backend.compile(model, self.options))

    def _verified(self, compiled: list[CompiledWorkload], stack: ExitStack) -> list[CompiledWorkload]:
        """Drop models that compute something else; where one of a sample does, all are checked."""

        def correct(each: CompiledWorkload) -> bool:
            self._notify("verifying", each.index)
            with self.recorded(each.workload):
                precision = _precision(self.options, each)
                notes = verified(each, self._compiler(stack), precision)
                if self.options.precision == CompileOptions().precision and precision != each.model.precision:
                    notes += (f"{each.model.name} is {each.model.precision}, and {self.backend.name} runs {precision}",)
                for note in notes:
                    warnings.warn(note, SampleNote, stacklevel=2)
                return True
            return False

        checkable = [c for c in compiled if c.model.has_module or self.settings.verify == "all"]
        if self.settings.verify == "none" or not checkable:
            return compiled
        if self.settings.verify == "sample":
            drawn = checkable.pop(int(self.rng.integers(len(checkable))))
            if correct(drawn):
                return compiled
            compiled = [c for c in compiled if c is not drawn]
        wrong = {id(c) for c in checkable if not correct(c)}
        return [c for c in compiled if id(c) not in wrong]

    def _warmed_up(self, each: CompiledWorkload) -> bool:
        """Run for a while, and check that the clock moves."""
        self._notify("warming", each.index)
        with self.recorded(each.workload):
            warm_up(each, self.settings.warmup_ms)
            return True
        return False


@contextmanager
def _overheard() -> Iterator[set[type[Warning]]]:
    """Note which warnings are issued in the block, and issue them again after it."""
    categories: set[type[Warning]] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield categories
    for warning in caught:
        categories.add(warning.category)
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _flags(warned: set[type[Warning]]) -> tuple[str, ...]:
    if "latbench.onnx_export" not in sys.modules:  # which imports torch, and a file needs neither
        return ()
    from latbench.onnx_export import FallbackWarning

    return (FALLBACK,) if FallbackWarning in warned else ()


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add the time of the block to a phase's seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def _conditions(session: Session, quantity: Quantity, each: CompiledWorkload) -> Conditions:
    """Return the conditions that the measurements of a session share, as for a latency."""
    device, options = session.device, session.options
    return Conditions(
        quantity=quantity.name,
        unit=quantity.unit,
        clock=each.clock,
        cache=session.settings.cache,
        backend=session.backend.name,
        device=replace(device, facts={**host_facts(), **device.facts}),
        precision=_precision(options, each),
        threads=options.threads,
        batch=each.model.batch,
        options=dict(options.options),
    )


def _precision(options: CompileOptions, each: CompiledWorkload) -> str:
    """Return what a compiled model computes in. Without another word, that is what the model was given in."""
    if isinstance(each.compiled, HasPrecision):
        return each.compiled.precision()
    return each.model.precision if options.precision == CompileOptions().precision else options.precision


def _device_state(backend: Backend) -> Mapping[str, Fact]:
    """Return the state of a backend's device; nothing where the backend cannot tell."""
    return backend.state() if isinstance(backend, HasState) else {}
