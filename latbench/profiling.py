"""Profile a search space: sample -> build -> compile -> measure -> store, resumable at any moment."""

from __future__ import annotations

import time
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from latbench import plugins
from latbench.backend import Backend, CompileOptions
from latbench.errors import LatbenchError, MeasurementError, UsageError
from latbench.evaluation.noise import NoiseFloor, noise_floor
from latbench.measure.environment import check_threads, divided_cores
from latbench.measure.request import SessionRequest, Subject, operations, references
from latbench.measure.session import Failure, SessionResult, timed
from latbench.measure.settings import Settings
from latbench.measure.workers import RunningSession, SessionDiedError, Workers
from latbench.space import Architecture, SearchSpace, SpaceSpec
from latbench.store import Identity, Store

SESSION_SIZE = 13
"""Subjects of one session beside its references: enough neighbours in time to tell drift from workload."""

DUPLICATES = 0.03
MIN_DUPLICATES = 16
"""Share of architectures that are measured again, and how many at least: the noise floor needs pairs."""


REFERENCE_DEATHS = 3
"""How often in a row a worker may die over a reference before the run ends."""

STRETCH = 400
"""Architectures that are measured before the blind duplicates among them, so that a long profile knows its floor."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Subjects that are measured first, and those among them that are measured again, in other processes."""

    first: list[Subject]
    again: list[Subject]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a profile stands, for whoever draws it.

    Args:
        done: subjects measured or failed, those of earlier runs included.
        total: subjects planned.
        measured: subjects measured in this run.
        seconds: seconds since this run began.
        failures: subjects failed in this run.
        flags: how many measurements of this run carry each flag.
        phases: seconds of this run by phase: where the time goes.
        noise_floor: what the blind duplicates so far say; None before the first of this run.
    """

    done: int
    total: int
    measured: int = 0
    seconds: float = 0.0
    failures: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    noise_floor: NoiseFloor | None = None

    @property
    def per_hour(self) -> float:
        """Subjects an hour in this run."""
        return self.measured / self.seconds * 3600 if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a profile holds now."""

    store: Path
    progress: Progress
    architectures: int
    operations: int
    failures: tuple[Failure, ...]
    noise_floor: NoiseFloor


def profile_space(
    space: SearchSpace,
    backend: str,
    store: str | Path,
    *,
    samples: int,
    seed: int = 0,
    options: CompileOptions | None = None,
    settings: Settings | None = None,
    batch: int = 1,
    with_operations: bool = False,
    budget_seconds: float | None = None,
    timeout: float = 120.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Measure `samples` distinct architectures, and some of them again, and keep every value in `store`.

    Runs that were interrupted continue; several processes may work on one store.

    Args:
        space: the search space.
        backend: plug-in name or ``module:Class``.
        store: the SQLite file; made if missing.
        samples: how many architectures; isomorphic ones count once.
        seed: draws the architectures; more samples with one seed extend the same list.
        options: how models are compiled.
        settings: how they are measured.
        batch: inputs of one inference.
        with_operations: also measure every distinct operation of the space, for the lookup predictor.
        budget_seconds: stop after about so long; None measures all.
        timeout: seconds that one model may take to compile.
        on_progress: called after each session.

    Raises:
        UsageError: nothing to measure, or the store is another profile's.
        MeasurementError: the backend cannot run the space's reference architectures.
    """
    options, settings = options or CompileOptions(), settings or Settings()
    if samples < 1 and not with_operations:
        raise UsageError(f"{samples} samples leave nothing to measure: give --samples 1 or more")
    check_threads(options.threads)
    spec = SpaceSpec.of(space)
    identity = Identity(spec, backend, options.precision, options.threads, batch, settings.cache, dict(options.options))
    request = SessionRequest("", backend, options, settings, spec, batch, seed, ())
    target: Backend = plugins.configure(plugins.BACKENDS, backend, {})  # a mistake must not leave a store behind
    # One session is timed while the next one compiles, where there is a core to spare and no accelerator to share.
    ahead = target.device().kind == "cpu" and bool(divided_cores(options.threads)[0])
    run = _Run(space, timeout, on_progress, deadline=time.monotonic() + (budget_seconds or float("inf")), ahead=ahead)
    with Store(store, identity) as opened:
        stretches = plan(space, samples, seed, with_operations=with_operations)
        run.begin(opened, [subject for stretch in stretches for subject in (*stretch.first, *stretch.again)])
        try:
            for stretch in stretches:
                # Blind duplicates run in processes that share no memory layout with those of the first values.
                run.measure(opened, stretch.first, request)
                run.measure(opened, stretch.again, request)
                run.tell_floor(opened)
        except LatbenchError:
            opened.discard_if_empty()
            raise
        return Summary(
            store=Path(store),
            progress=run.progress,
            architectures=opened.count("architecture"),
            operations=opened.count("operation"),
            failures=opened.failures(),
            noise_floor=noise_floor(opened.duplicates()),
        )


def plan(space: SearchSpace, samples: int, seed: int, *, with_operations: bool = False) -> list[Stretch]:
    """Return what a profile measures, in order; more samples with one seed extend the plan."""
    architectures = [str(a) for a in distinct(space, samples, seed)]
    draws = {text: zlib.crc32(f"{seed} {text}".encode()) for text in architectures}
    stretches = []
    for start in range(0, max(1, len(architectures)), STRETCH):
        texts = architectures[start : start + STRETCH]
        lowest = sorted(texts, key=draws.__getitem__)
        drawn = sum(draws[text] < DUPLICATES * 2**32 for text in texts)
        again = lowest[: max(drawn, MIN_DUPLICATES if start == 0 else 0)]
        first = [Subject("operation", key) for key in (operations(space) if with_operations and start == 0 else ())]
        first += [Subject("architecture", text) for text in texts]
        stretches.append(Stretch(first, [Subject("architecture", text, replicate=1) for text in again]))
    return stretches


def distinct(space: SearchSpace, samples: int, seed: int) -> list[Architecture]:
    """Draw architectures until `samples` of them are not isomorphic, or the space has hardly any more."""
    found: dict[str, Architecture] = {}
    drawn = 0
    while len(found) < samples and drawn < 8 * samples + 1000:
        drawn = 2 * drawn or samples
        for architecture in space.sample(drawn, seed=seed):
            found.setdefault(space.canonical(architecture), architecture)
    return list(found.values())[:samples]


class _Run:
    """One call of `profile_space`: claims, measures and stores session after session."""

    def __init__(
        self,
        space: SearchSpace,
        timeout: float,
        on_progress: Callable[[Progress], None],
        *,
        deadline: float,
        ahead: bool,
    ) -> None:
        self.references = references(space)
        self.timeout = timeout
        self.on_progress = on_progress
        self.deadline = deadline
        self.ahead = int(ahead)
        self.started = time.monotonic()
        self.between_sessions = BetweenSessions()
        self.reference_deaths = 0

    def begin(self, store: Store, subjects: Sequence[Subject]) -> None:
        done = sum(store.holds(subject) for subject in subjects)
        self.progress = Progress(done, len(subjects))
        self.on_progress(self.progress)

    def measure(self, store: Store, subjects: Sequence[Subject], request: SessionRequest) -> None:
        waiting = iter(subjects)
        if not (claimed := store.claim(waiting, SESSION_SIZE)):
            return
        started: deque[tuple[SessionRequest, RunningSession]] = deque()
        with Workers() as workers:
            while started or claimed:
                if claimed and time.monotonic() < self.deadline:
                    part = replace(request, subjects=tuple(claimed))
                    started.append((part, workers.start(self._session(part))))
                    claimed = store.claim(waiting, SESSION_SIZE)
                else:
                    claimed = []
                if started and (len(started) > self.ahead or not claimed):
                    part, running = started.popleft()
                    for result in self._results(workers, part, running):
                        self._keep(store, result)

    def tell_floor(self, store: Store) -> None:
        self.progress = replace(self.progress, noise_floor=noise_floor(store.duplicates()))
        self.on_progress(self.progress)

    def _session(self, request: SessionRequest) -> SessionRequest:
        """Give a request a name, an order of its own, the references, and what is known of other sessions."""
        name = uuid.uuid4().hex[:12]
        return replace(
            request,
            session=name,
            settings=replace(request.settings, between_sessions=self.between_sessions.estimate()),
            seed=zlib.crc32(f"{request.seed} {name}".encode()),
            subjects=(*self.references, *request.subjects),
        )

    def _results(self, workers: Workers, request: SessionRequest, running: RunningSession) -> Iterator[SessionResult]:
        """Wait for a session; where its worker dies, record the culprit and run the others again."""
        try:
            result = running.result(timeout=self.timeout)
        except SessionDiedError as death:
            yield from self._after(death, workers, request)
            return
        _check_references(result)
        self.reference_deaths = 0
        yield result

    def _after(self, death: SessionDiedError, workers: Workers, request: SessionRequest) -> Iterator[SessionResult]:
        subjects = list(request.subjects)
        if death.index is not None and death.index < len(self.references):
            # One that dies once may have been killed; one that dies again and again cannot be measured here.
            self.reference_deaths += 1
            if self.reference_deaths == REFERENCE_DEATHS:
                raise MeasurementError(f"the reference architectures cannot be measured: {death}") from death
            rest = [subjects]
        elif death.index is not None or len(subjects) == 1:
            culprit = subjects.pop(0 if death.index is None else death.index - len(self.references))
            yield SessionResult(None, (), (Failure(culprit.kind, culprit.text, str(death), culprit.replicate),))
            rest = [subjects] if subjects else []
        else:  # it died while all of them ran in turn: whoever dies alone was it
            rest = [[subject] for subject in subjects]
        for part in rest:
            again = replace(request, subjects=tuple(part))
            yield from self._results(workers, again, workers.start(self._session(again)))

    def _keep(self, store: Store, result: SessionResult) -> None:
        seconds = dict(result.seconds)
        with timed(seconds, "store"):
            if result.conditions is not None:
                store.add(result.conditions, result.measurements)
                self.between_sessions.learn(result)
            store.add_failures(result.failures, datetime.now(UTC).isoformat(timespec="seconds"))
        new = [m for m in result.measurements if m.kind != "reference"]
        before = self.progress
        self.progress = replace(
            before,
            done=before.done + len(new) + len(result.failures),
            measured=before.measured + len(new),
            seconds=time.monotonic() - self.started,
            failures=before.failures + len(result.failures),
            flags=before.flags + Counter(flag for m in new for flag in m.flags),
            phases=before.phases + Counter(seconds),
        )
        self.on_progress(self.progress)


class BetweenSessions:
    """How much one session's value of a model differs from another's once drift is divided out.

    The references are measured in every session; what their ratios to each other move by from session to session
    is what no interval from within one session can see.
    """

    PRIOR, PRIOR_SESSIONS = 0.012, 8
    """Seen on a shared machine (benchmarks/RESULTS.md, repeatability); weighs as much as so many sessions."""

    def __init__(self) -> None:
        self._ratios: list[np.ndarray] = []

    def learn(self, result: SessionResult) -> None:
        """Take in the references of one session."""
        values = {m.subject: np.log(m.value) for m in result.measurements if m.kind == "reference"}
        ratios = np.array([values[subject] for subject in sorted(values)])
        self._ratios.append(ratios - ratios.mean())

    def estimate(self) -> float:
        """Return the standard deviation of one model, relative."""
        weight = self.PRIOR_SESSIONS
        if len(self._ratios) < 2:
            return self.PRIOR
        ratios = np.stack(self._ratios)
        # Taking the mean over r references out leaves (r - 1) / r of a model's own variance.
        count = ratios.shape[1]
        variance = (
            float(np.median(np.abs(ratios - np.median(ratios, axis=0))) * 1.4826) ** 2 * count / max(1, count - 1)
        )
        return float(np.sqrt((weight * self.PRIOR**2 + len(ratios) * variance) / (weight + len(ratios))))


def _check_references(result: SessionResult) -> None:
    failed = [failure for failure in result.failures if failure.kind == "reference"]
    if failed:
        raise MeasurementError(f"the reference architectures cannot be measured: {failed[0].reason}")
