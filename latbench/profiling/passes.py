"""One pass over a plan: claim, measure in worker processes, store; session after session."""

from __future__ import annotations

import time
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from latbench.errors import MeasurementError, StoreError
from latbench.measure.between_sessions import BetweenSessions
from latbench.measure.session import SessionResult, timed
from latbench.measure.workers import RunningSession, SessionDiedError, Workers
from latbench.measure.workers.request import SessionRequest
from latbench.profiling.plan import Stretch
from latbench.records.noise_floor import NoiseFloor, noise_floor
from latbench.records.subjects import Failure, Subject
from latbench.store import Store

REFERENCE_DEATHS = 3
"""How often in a row a worker may die over a reference before the run ends."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a pass stands, for whoever draws it.

    Args:
        done: subjects measured or failed, those of earlier runs included.
        total: subjects planned.
        quantity: what is being measured, ``"latency"`` or ``"energy"``.
        measured: subjects measured in this run.
        seconds: seconds since this run began.
        failures: subjects failed in this run.
        flags: how many measurements of this run carry each flag.
        phases: seconds of this run by phase: where the time goes.
        noise_floor: what the blind duplicates so far say; None before the first of this run.
    """

    done: int
    total: int
    quantity: str = "latency"
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


class Pass:
    """One pass over a plan for one quantity.

    Args:
        store: of the quantity; what it holds is not measured again.
        request: what all sessions share; its subjects are filled in.
        references: what can be measured wherever anything can.
        riding: whether the references ride along in every session.
        session_size: subjects of a session beside them.
        timeout: seconds that one model may take to compile.
        deadline: of the monotonic clock; no session starts after it.
        ahead: whether one session compiles while another one is measured.
        on_progress: called after each session.
    """

    def __init__(
        self,
        store: Store,
        request: SessionRequest,
        *,
        references: Sequence[Subject],
        riding: bool,
        session_size: int,
        timeout: float,
        deadline: float,
        ahead: bool,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.store, self.request, self.references = store, request, tuple(references)
        self.riding = self.references if riding else ()
        self.session_size, self.timeout, self.deadline, self.ahead = session_size, timeout, deadline, int(ahead)
        self.on_progress = on_progress
        self.started = time.monotonic()
        self.between_sessions = BetweenSessions()
        self.reference_deaths = 0

    def run(self, stretches: Sequence[Stretch]) -> Progress:
        """Measure what the store does not hold yet.

        Raises:
            UsageError: a worker refused the request.
            MeasurementError: the references cannot be measured.
        """
        subjects = [subject for stretch in stretches for subject in (*stretch.first, *stretch.again)]
        done = sum(self.store.holds(subject) for subject in subjects)
        self.progress = Progress(done, len(subjects), self.store.quantity)
        self.on_progress(self.progress)
        try:
            for stretch in stretches:
                # Blind duplicates run in processes that share no memory layout with those of the first values.
                self._measure(stretch.first)
                self._measure(stretch.again)
                self.progress = replace(self.progress, noise_floor=noise_floor(self.store.duplicates()))
                self.on_progress(self.progress)
        finally:
            with suppress(StoreError):  # a disk that is full has been told of
                self.store.release()
        return self.progress

    def _measure(self, subjects: Sequence[Subject]) -> None:
        waiting = iter(subjects)
        if not (claimed := self.store.claim(waiting, self.session_size)):
            return
        started: deque[tuple[SessionRequest, RunningSession[SessionResult]]] = deque()
        with Workers() as workers:
            while started or claimed:
                if claimed and time.monotonic() < self.deadline:
                    part = replace(self.request, subjects=tuple(claimed))
                    started.append((part, workers.start(self._session(part))))
                    claimed = self.store.claim(waiting, self.session_size)
                else:
                    claimed = []
                if started and (len(started) > self.ahead or not claimed):
                    part, running = started.popleft()
                    for result in self._results(workers, part, running):
                        self._keep(result)

    def _session(self, request: SessionRequest) -> SessionRequest:
        """Give a request a name, an order of its own, the references, and what is known of other sessions."""
        name = uuid.uuid4().hex[:12]
        return replace(
            request,
            session=name,
            settings=replace(request.settings, between_sessions=self.between_sessions.estimate()),
            seed=zlib.crc32(f"{request.seed} {name}".encode()),
            subjects=(*self.riding, *request.subjects),
        )

    def _results(
        self, workers: Workers, request: SessionRequest, running: RunningSession[SessionResult]
    ) -> Iterator[SessionResult]:
        """Wait for a session; where its worker dies, record the culprit and run the others again."""
        try:
            result = running.result(timeout=self.timeout)
        except SessionDiedError as death:
            yield from self._after(death, workers, request)
            return
        if len(request.subjects) > 1 and any(f.crowded for f in result.failures if f.kind == "reference"):
            for subject in request.subjects:
                yield from self._again(workers, replace(request, subjects=(subject,)))
            return
        _check_references(result)
        self.reference_deaths = 0
        if not result.measurements:
            self._check_device(workers, result.failures[0].reason)
        crowded = [f for f in result.failures if f.crowded] if len(request.subjects) > 1 else []
        yield replace(result, failures=tuple(f for f in result.failures if f not in crowded))
        for failure in crowded:
            subject = Subject(failure.kind, failure.subject, failure.replicate)
            yield from self._again(workers, replace(request, subjects=(subject,)))

    def _again(self, workers: Workers, request: SessionRequest) -> Iterator[SessionResult]:
        return self._results(workers, request, workers.start(self._session(request)))

    def _after(self, death: SessionDiedError, workers: Workers, request: SessionRequest) -> Iterator[SessionResult]:
        subjects = list(request.subjects)
        if death.index is not None and death.index < len(self.riding):
            # One that dies once may have been killed; one that dies again and again cannot be measured here.
            self.reference_deaths += 1
            if self.reference_deaths == REFERENCE_DEATHS:
                raise MeasurementError(f"the reference architectures cannot be measured: {death}") from death
            rest = [subjects]
        elif death.index is not None or len(subjects) == 1:
            if not self.riding:
                self._check_device(workers, str(death))
            culprit = subjects.pop(0 if death.index is None else death.index - len(self.riding))
            yield SessionResult(None, (), (Failure(culprit.kind, culprit.text, str(death), culprit.replicate),))
            rest = [subjects] if subjects else []
        else:
            yield from self._one_by_one(death, workers, request)
            return
        for part in rest:
            yield from self._again(workers, replace(request, subjects=tuple(part)))

    def _one_by_one(
        self, death: SessionDiedError, workers: Workers, request: SessionRequest
    ) -> Iterator[SessionResult]:
        """Run each subject alone after a worker died while all of them ran in turn: whoever dies alone was it."""
        failed = []
        for subject in request.subjects:
            for result in self._again(workers, replace(request, subjects=(subject,))):
                if result.conditions is None:
                    failed.append(result)
                else:
                    yield result
        if len(failed) == len(request.subjects):
            self._check_device(workers, str(death))
        yield from failed

    def _check_device(self, workers: Workers, reason: str) -> None:
        """Time the references alone: what is recorded as failed must not be a device that has failed.

        Raises:
            MeasurementError: they cannot be timed; `reason` is why nothing else could be measured.
        """
        alone = replace(self.request, session="references", subjects=self.references, energy=None)
        try:
            result = workers.run(alone, timeout=self.timeout)
        except SessionDiedError as death:
            raise MeasurementError(f"no model can be measured here any more: {reason}") from death
        _check_references(result)

    def _keep(self, result: SessionResult) -> None:
        seconds = dict(result.seconds)
        with timed(seconds, "store"):
            if result.conditions is not None:
                self.store.add(result.conditions, result.measurements)
            if self.riding and result.conditions is not None:
                self.between_sessions.learn(result)
            self.store.add_failures(result.failures, datetime.now(UTC).isoformat(timespec="seconds"))
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


def _check_references(result: SessionResult) -> None:
    failed = [failure for failure in result.failures if failure.kind == "reference"]
    if failed:
        raise MeasurementError(f"the reference architectures cannot be measured: {failed[0].reason}")
