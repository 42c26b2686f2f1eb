"""One pass over a plan: claim, measure at the executor's places, store; results are taken as they come."""

from __future__ import annotations

import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from latbench.errors import MeasurementError, StoreError
from latbench.executor import Executor, Place, PlaceLostError, SessionDiedError
from latbench.measure.between_sessions import BetweenSessions
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.session import SessionResult, timed
from latbench.measure.workers.request import SessionRequest
from latbench.profiling.plan import Stretch
from latbench.profiling.progress import Progress
from latbench.records.noise_floor import noise_floor
from latbench.records.subjects import Failure, Subject
from latbench.store import Store

REFERENCE_DEATHS = 3
"""How often in a row a worker may die over a reference before the run ends."""


@dataclass(slots=True)
class _Trial:
    """Subjects that run alone after a worker died measuring all of them: the one that dies alone is to blame."""

    death: SessionDiedError
    size: int
    left: int
    failed: list[SessionResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Part:
    """The subjects of one session, beside the references."""

    subjects: tuple[Subject, ...]
    trial: _Trial | None = None


class Pass:
    """One pass over a plan for one quantity.

    Args:
        store: of the quantity; what it holds is not measured again.
        request: what all sessions share, the quantity included; each session fills in its subjects.
        executor: starts the sessions.
        places: where sessions run; their devices are equal.
        references: the fixed architectures that every session measures too.
        deadline: of the monotonic clock; no session starts after it.
        before_keeping: called before anything is written, every time; what it raises ends the run.
        on_progress: called after each session.
    """

    def __init__(
        self,
        store: Store,
        request: SessionRequest,
        *,
        executor: Executor,
        places: Sequence[Place],
        references: Sequence[Subject],
        deadline: float,
        before_keeping: Callable[[], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.store, self.request, self.references = store, request, tuple(references)
        self.executor, self.places = executor, list(places)
        self.riding = self.references if request.quantity.with_references else ()
        self.deadline, self.before_keeping, self.on_progress = deadline, before_keeping, on_progress
        self.started = time.monotonic()
        self.between_sessions = BetweenSessions()
        self.reference_deaths = 0
        self._again: deque[_Part] = deque()
        self._flying: dict[Future[SessionResult], tuple[_Part, Place]] = {}
        self._is_first = True

    def run(self, stretches: Sequence[Stretch]) -> Progress:
        """Measure what the store does not hold yet.

        Raises:
            UsageError: a worker refused the request.
            MeasurementError: the references cannot be measured, or no place is left.
        """
        subjects = [subject for stretch in stretches for subject in (*stretch.first, *stretch.again)]
        done = sum(self.store.holds(subject) for subject in subjects)
        self.progress = Progress(done, len(subjects), self.store.quantity)
        self.on_progress(self.progress)
        try:
            for stretch in stretches:
                # Blind duplicates run in processes whose memory layout differs from that of the first values.
                self._measure(stretch.first)
                self._measure(stretch.again)
                self.progress = replace(self.progress, noise_floor=noise_floor(self.store.duplicates()))
                self.on_progress(self.progress)
        finally:
            for future in self._flying:
                future.cancel()
            with suppress(StoreError):  # a full disk has been reported already
                self.store.release()
        return self.progress

    def _measure(self, subjects: Sequence[Subject]) -> None:
        """Keep every place busy until all subjects are measured, have failed, or the time is up."""
        waiting = iter(subjects)
        if (part := self._next(waiting, self.places[0])) is None:
            return
        self._again.append(part)
        if not self._is_first:
            self.executor.renew()
        self._is_first = False
        while self._again or self._flying:
            self._fill(waiting)
            for future in wait(self._flying, return_when=FIRST_COMPLETED).done:
                part, place = self._flying.pop(future)
                try:
                    self._finished(part, place, future.result())
                except PlaceLostError as lost:
                    self._lose(place, part, lost)
                except SessionDiedError as death:
                    self._after(death, part, place)
            self._fill(waiting)

    def _next(self, waiting: Iterator[Subject], place: Place) -> _Part | None:
        if self._again:
            return self._again.popleft()
        if time.monotonic() >= self.deadline:
            return None
        claimed = self.store.claim(waiting, self.request.quantity.session_size(place.device))
        return _Part(tuple(claimed)) if claimed else None

    def _fill(self, waiting: Iterator[Subject]) -> None:
        """Start sessions: one at each place, and then one more where it may compile ahead."""
        for most in (1, 2) if self.request.quantity.compiles_ahead else (1,):
            for place in [place for place in self.places if most == 1 or place.compiles_ahead]:
                flying = sum(where is place for _, where in self._flying.values())
                if flying < most and (part := self._next(waiting, place)) is not None:
                    self._start(part, place)

    def _start(self, part: _Part, place: Place) -> None:
        try:
            self._flying[self.executor.start(self._session(part), place)] = part, place
        except PlaceLostError as lost:
            self._lose(place, part, lost)

    def _lose(self, place: Place, part: _Part, lost: PlaceLostError) -> None:
        """Run elsewhere what was running at a lost place."""
        self.places = [other for other in self.places if other is not place]
        self._again.append(part)
        if not self.places:
            raise MeasurementError(f"no place is left to measure at: {lost}") from lost

    def _session(self, part: _Part) -> SessionRequest:
        """Give a session a name, an order of its own, the references, and what is known of other sessions."""
        name = uuid.uuid4().hex[:12]
        return replace(
            self.request,
            session=name,
            settings=replace(self.request.settings, between_sessions=self.between_sessions.estimate()),
            seed=zlib.crc32(f"{self.request.seed} {name}".encode()),
            subjects=(*self.riding, *part.subjects),
        )

    def _finished(self, part: _Part, place: Place, result: SessionResult) -> None:
        """Keep what a session measured; a model that ran out of memory beside others runs again alone."""
        several = len(part.subjects) > 1
        if several and any(f.crowded for f in result.failures if f.kind == "reference"):
            self._again.extend(_Part((subject,)) for subject in part.subjects)
            return
        _check_references(result)
        self.reference_deaths = 0
        if not result.measurements:
            self._check_device(place, result.failures[0].reason)
        crowded = [f for f in result.failures if f.crowded and several]
        self._again.extend(_Part((Subject(f.kind, f.subject, f.replicate),)) for f in crowded)
        self._deliver(part, place, replace(result, failures=tuple(f for f in result.failures if f not in crowded)))

    def _after(self, death: SessionDiedError, part: _Part, place: Place) -> None:
        """Record the culprit of a death, and run the others again."""
        subjects = list(part.subjects)
        if death.index is not None and death.index < len(self.riding):
            # One that dies once may have been killed; one that dies again and again cannot be measured here.
            self.reference_deaths += 1
            if self.reference_deaths == REFERENCE_DEATHS:
                raise MeasurementError(f"the reference architectures cannot be measured: {death}") from death
            self._again.append(part)
        elif death.index is not None or len(subjects) == 1:
            if not self.riding:
                self._check_device(place, str(death))
            culprit = subjects.pop(0 if death.index is None else death.index - len(self.riding))
            if subjects:
                self._again.append(_Part(tuple(subjects)))
            failure = Failure(culprit.kind, culprit.text, str(death), culprit.replicate)
            self._deliver(part, place, SessionResult(None, (), (failure,)))
        else:
            trial = _Trial(death, size=len(subjects), left=len(subjects))
            self._again.extend(_Part((subject,), trial) for subject in subjects)

    def _deliver(self, part: _Part, place: Place, result: SessionResult) -> None:
        """Keep a result; a trial's failures only once it is over, as the device may be to blame for all of them."""
        trial = part.trial
        if trial is None:
            self._keep(result)
            return
        trial.left -= 1
        if result.conditions is None:
            trial.failed.append(result)
        else:
            self._keep(result)
        if not trial.left:
            if len(trial.failed) == trial.size:
                self._check_device(place, str(trial.death))
            for failed in trial.failed:
                self._keep(failed)

    def _check_device(self, place: Place, why: str) -> None:
        """Time the references alone: a device that has failed must not be recorded as failed architectures.

        Raises:
            MeasurementError: they cannot be timed; `why` is what kept everything else from being measured.
        """
        alone = replace(self.request, session="references", subjects=self.references, quantity=LATENCY)
        try:
            result = self.executor.start(alone, place).result()
        except (SessionDiedError, PlaceLostError) as death:
            raise MeasurementError(f"no model can be measured here any more: {why}") from death
        _check_references(result)

    def _keep(self, result: SessionResult) -> None:
        self.before_keeping()
        seconds = dict(result.seconds)
        with timed(seconds, "store"):
            if result.conditions is not None:
                self.store.add(result.conditions, result.measurements)
            if self.riding and result.conditions is not None:
                self.between_sessions.learn(result)
            self.store.add_failures(result.failures, datetime.now(UTC).isoformat(timespec="seconds"))
        elapsed = time.monotonic() - self.started
        self.progress = self.progress.after(replace(result, seconds=seconds), elapsed)
        self.on_progress(self.progress)


def _check_references(result: SessionResult) -> None:
    failed = [failure for failure in result.failures if failure.kind == "reference"]
    if failed:
        raise MeasurementError(f"the reference architectures cannot be measured: {failed[0].reason}")
