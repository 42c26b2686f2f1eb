"""One session: compile a batch of models, warm them up, visit them in random order round by round, estimate.

This is the measuring protocol. It runs in the calling process; `latbench.measure.workers` puts it into one of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from latbench.backend import Backend, CompileOptions, Fact, HasFlags, HasState, device_of
from latbench.devices.host import check_threads, host_facts, host_state
from latbench.errors import MeasurementError, OutOfMemoryError, UsageError, reason
from latbench.measure.estimate import Z_95, Fit, Visits, fit
from latbench.measure.gates import flags
from latbench.measure.rounds import Candidate, Task, visit_in_rounds
from latbench.measure.settings import Settings
from latbench.measure.verify import verify_outputs
from latbench.records.measurement import Conditions, Measurement
from latbench.records.subjects import Failure


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What a session measured; `conditions` is None where every model failed; `seconds` went into each phase."""

    conditions: Conditions | None
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SessionResult:
        """Read what `to_json` wrote."""
        conditions = values["conditions"]
        return cls(
            conditions=None if conditions is None else Conditions.from_json(conditions),
            measurements=tuple(
                Measurement(**{**m, "blocks": tuple(m["blocks"]), "flags": tuple(m["flags"])})
                for m in values["measurements"]
            ),
            failures=tuple(Failure(**failure) for failure in values["failures"]),
            seconds=values["seconds"],
        )


Notify = Callable[[str, int], None]
"""Called with a phase: ``"compiling"`` and ``"warming"`` with the index of a task, ``"compiled"`` and ``"timing"`` with
-1. It may take its time at ``"compiled"``; what it hears last tells which task a crash belongs to."""


def run_session(
    backend: Backend,
    tasks: Sequence[Task],
    options: CompileOptions,
    settings: Settings,
    *,
    seed: int = 0,
    session: str = "",
    notify: Notify = lambda phase, index: None,
) -> SessionResult:
    """Measure the tasks together; tasks of kind ``"reference"`` anchor the others.

    Raises:
        UsageError: the backend refuses the options, or they ask for more threads than the machine gives.
    """
    rng = np.random.default_rng(seed)
    failures: list[Failure] = []
    seconds: dict[str, float] = {}
    with prepared(
        backend, tasks, options, settings, rng=rng, failures=failures, seconds=seconds, notify=notify
    ) as candidates:
        if not candidates:
            return SessionResult(None, (), tuple(failures), seconds)
        notify("timing", -1)
        before = {**host_state(), **device_state(backend)}
        with timed(seconds, "time"):
            visits, repeated = visit_in_rounds(candidates, settings, rng)
        environment = {
            **before,
            "repeated_rounds": repeated,
            **{f"{key}_after": value for key, value in device_state(backend).items()},
        }
        with timed(seconds, "estimate"):
            fitted = fit(visits, len(candidates))
            measurements = tuple(
                replace(m, session=session, order=order, seed=seed, environment=environment)
                for order, m in enumerate(_measurements(candidates, visits, fitted, settings))
            )
    return SessionResult(
        latency_conditions(backend, candidates[0], options, settings), measurements, tuple(failures), seconds
    )


@contextmanager
def prepared(
    backend: Backend,
    tasks: Sequence[Task],
    options: CompileOptions,
    settings: Settings,
    *,
    rng: np.random.Generator,
    failures: list[Failure],
    seconds: dict[str, float],
    notify: Notify,
) -> Iterator[list[Candidate]]:
    """Compile the tasks, check outputs, wait to be asked for, and warm up: yield the candidates that came through.

    Leaving frees them all. What fails is added to `failures`, what each phase takes to `seconds`.

    Raises:
        UsageError: the backend refuses the options, or they ask for more threads than the machine gives.
    """
    check_threads(options.threads)
    with ExitStack() as stack:
        candidates = []
        with timed(seconds, "build and compile"):
            for index, task in enumerate(tasks):
                notify("compiling", index)
                with _recorded(task, failures):
                    candidates.append(_compile(backend, index, task, options, stack))
        with timed(seconds, "verify"):
            candidates = _verified(candidates, options, settings, rng, failures)
        notify("compiled", -1)
        with timed(seconds, "warm up"):
            candidates = [c for c in candidates if _warmed_up(c, settings, failures, notify)]
        yield candidates


@contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add what the block takes to a phase's seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def _compile(backend: Backend, index: int, task: Task, options: CompileOptions, stack: ExitStack) -> Candidate:
    start = time.perf_counter()
    model = task.build()
    compiled = stack.enter_context(backend.compile(model, options))
    return Candidate(index, task, model, compiled, compile_ms=(time.perf_counter() - start) * 1e3 - model.build_ms)


def _verified(
    candidates: list[Candidate],
    options: CompileOptions,
    settings: Settings,
    rng: np.random.Generator,
    failures: list[Failure],
) -> list[Candidate]:
    """Drop the candidates whose outputs are wrong; one wrong candidate in a sample has all of them checked."""

    def correct(candidate: Candidate) -> bool:
        with _recorded(candidate.task, failures):
            verify_outputs(candidate.compiled, candidate.model, options.precision)
            return True
        return False

    checkable = [c for c in candidates if c.model.has_module]
    if settings.verify == "none" or not checkable:
        return candidates
    if settings.verify == "sample":
        drawn = checkable.pop(int(rng.integers(len(checkable))))
        if correct(drawn):
            return candidates
        candidates = [c for c in candidates if c is not drawn]
    wrong = {id(c) for c in checkable if not correct(c)}
    return [c for c in candidates if id(c) not in wrong]


def _warmed_up(candidate: Candidate, settings: Settings, failures: list[Failure], notify: Notify) -> bool:
    """Run for a while, and see that time passes."""
    notify("warming", candidate.index)
    with _recorded(candidate.task, failures):
        seconds = [candidate.compiled.run() for _ in range(3)]
        while sum(seconds) * 1e3 < settings.warmup_ms:
            seconds.append(candidate.compiled.run())
            if sum(seconds) <= 0:
                clock = candidate.compiled.clock
                raise MeasurementError(f"runs of {candidate.task.subject} take no time on the clock {clock!r}")
        return True
    return False


def _measurements(
    candidates: Sequence[Candidate], visits: Visits, fitted: Fit, settings: Settings
) -> Iterator[Measurement]:
    references = [k for k, c in enumerate(candidates) if c.task.kind == "reference"]
    anchor = float(np.mean(fitted.log_ms[references])) if references else None
    anchor_variance = float(np.mean(fitted.standard_error[references] ** 2)) / len(references) if references else 0.0
    rounds_half_width = fitted.half_width()
    raised = flags(fitted, settings.half_width)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for k, candidate in enumerate(candidates):
        half_width = float(
            np.hypot(rounds_half_width[k], Z_95 * np.sqrt(anchor_variance + settings.between_sessions**2))
        )
        value = float(np.exp(fitted.log_ms[k]))
        yield Measurement(
            subject=candidate.task.subject,
            kind=candidate.task.kind,
            value=value,
            low=value * float(np.exp(-half_width)),
            high=value * float(np.exp(half_width)),
            reference=None if anchor is None else float(np.exp(anchor)),
            replicate=candidate.task.replicate,
            blocks=tuple(float(ms) for ms in visits.ms[visits.workload == k]),
            wall=float(np.median(candidate.wall_ms)),
            flags=(*raised[k], *(candidate.compiled.flags() if isinstance(candidate.compiled, HasFlags) else ())),
            digest=candidate.model.digest,
            build_ms=candidate.model.build_ms,
            compile_ms=candidate.compile_ms,
            timing_ms=candidate.timing_ms,
            created_at=now,
        )


def latency_conditions(
    backend: Backend, candidate: Candidate, options: CompileOptions, settings: Settings
) -> Conditions:
    """Return what the latencies of a session share."""
    device = device_of(backend, options)
    return Conditions(
        quantity="latency",
        unit="ms",
        clock=candidate.compiled.clock,
        cache=settings.cache,
        backend=backend.name,
        device=replace(device, facts={**host_facts(), **device.facts}),
        precision=options.precision,
        threads=options.threads,
        batch=next((value.shape[0] for value in candidate.model.inputs.values() if value.ndim), 1),
        options=dict(options.options),
    )


def device_state(backend: Backend) -> Mapping[str, Fact]:
    """Return what moves of a backend's device, where it can tell."""
    return backend.state() if isinstance(backend, HasState) else {}


@contextmanager
def _recorded(task: Task, failures: list[Failure]) -> Iterator[None]:
    """Turn whatever a native library throws into this model's recorded failure; the user's mistakes pass."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001
        crowded = isinstance(error, OutOfMemoryError | MemoryError)
        failures.append(Failure(task.kind, task.subject, reason(error), task.replicate, crowded))
