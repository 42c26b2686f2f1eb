"""A profile works through the contract of an executor alone: places, results in any order, places that are lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from latbench.backend import CompileOptions, Device
from latbench.devices.host import usable_cores
from latbench.errors import MeasurementError, UsageError
from latbench.executor import Place, PlaceLostError, Request, Result
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.settings import Settings
from latbench.measure.workers.local import LocalExecutor
from latbench.measure.workers.places import PlacesRequest
from latbench.measure.workers.request import SessionRequest
from latbench.profiling import Summary, profile_space
from latbench.records.subjects import references
from latbench.space import SpaceSpec
from latbench.store import Store
from latbench.testing.null import UNITS
from tests.test_profiling import FAST, NULL, SPACE, counts, planned

SAMPLES = 60


class LastFirst:
    """Runs requests in this process, the one that was started last first.

    Args:
        places: their names.
        lost: the place that is lost after so many sessions.
    """

    def __init__(self, *places: str, lost: dict[str, int] | None = None) -> None:
        self.names, self.lost = places, lost or {}
        self.started: list[str] = []
        self.ended: list[str] = []
        self.renewed = 0
        self._waiting: list[tuple[Request[object], Place, Future[object]]] = []
        self._changed = threading.Condition()
        self._is_open = True

    def places(self, request: Request[list[Place]]) -> list[Place]:
        (place,) = request.run(quiet)
        return [replace(place, name=name, compiles_ahead=True) for name in self.names]

    def start(self, request: Request[Result], place: Place) -> Future[Result]:
        future: Future[Result] = Future()
        if isinstance(request, SessionRequest):
            self.started.append(request.session)
        with self._changed:
            self._waiting.append((request, place, future))  # type: ignore[arg-type]
            self._changed.notify()
        return future

    def renew(self) -> None:
        assert not self._waiting
        self.renewed += 1

    def serve(self) -> None:
        while self._is_open:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._is_open)
                self._changed.wait_for(lambda: len(self._waiting) > 1, timeout=0.05)
                if not self._waiting:
                    continue
                request, place, future = self._waiting.pop()
            if not future.set_running_or_notify_cancel():
                continue
            if not isinstance(request, SessionRequest):
                future.set_result(request.read_result(request.run(quiet).to_json()))
            elif self.lost.get(place.name, len(self.ended) + 1) <= len(self.ended):
                future.set_exception(PlaceLostError(f"{place.name} does not answer any more"))
            else:
                result = request.run(quiet)
                self.ended.append(request.session)
                future.set_result(result)

    def close(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify()


def quiet(phase: str, index: int) -> None:
    """Hear of a phase."""


@contextmanager
def serving(executor: LastFirst) -> Iterator[LastFirst]:
    thread = threading.Thread(target=executor.serve)
    thread.start()
    try:
        yield executor
    finally:
        executor.close()
        thread.join()


def run(store: Path, executor: LastFirst | None = None, samples: int = SAMPLES) -> Summary:
    return profile_space(SPACE, NULL, store, samples=samples, settings=FAST, executor=executor)


def test_results_are_taken_as_they_come(tmp_path: Path) -> None:
    with serving(LastFirst("a", "b")) as executor:
        summary = run(tmp_path / "a.db", executor)
    assert counts(tmp_path / "a.db") == planned(SAMPLES)
    assert (summary.architectures, summary.failures) == (SAMPLES, ())
    assert sorted(executor.ended) == sorted(executor.started)
    assert executor.ended != executor.started
    assert executor.renewed == 1  # before the blind duplicates


def test_what_ran_at_a_place_that_is_lost_runs_elsewhere(tmp_path: Path) -> None:
    with serving(LastFirst("a", "b", lost={"b": 2})) as executor:
        summary = run(tmp_path / "a.db", executor)
    assert counts(tmp_path / "a.db") == planned(SAMPLES)
    assert summary.failures == ()
    assert len(executor.started) > len(executor.ended)


def test_without_a_place_the_run_ends_and_continues_another_time(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    with (
        serving(LastFirst("a", "b", lost={"a": 2, "b": 2})) as executor,
        pytest.raises(MeasurementError, match=r"no place is left to measure at: . does not answer any more"),
    ):
        run(store, executor)
    before = counts(store)
    assert before
    with serving(LastFirst("c")) as executor:
        assert run(store, executor).failures == ()
    assert before.items() <= counts(store).items()
    assert counts(store) == planned(SAMPLES)


def test_an_executor_without_places_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="has no place for"):
        run(tmp_path / "a.db", LastFirst())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(len(usable_cores()) < 2, reason="each unit takes a core")
def test_two_units_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNITS, "left right")
    store = tmp_path / "a.db"
    run(store)
    assert counts(store) == planned(SAMPLES)
    with Store(store) as opened:
        assert {m.environment["unit"] for m in opened.measurements()} == {"left", "right"}
    monkeypatch.setenv(UNITS, "")
    assert run(store, samples=SAMPLES + 2).architectures == SAMPLES + 2  # the unit is recorded, and not compared


@pytest.mark.skipif(len(usable_cores()) < 2, reason="each unit takes a core")
def test_units_divide_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNITS, "left right")
    with LocalExecutor() as executor:
        places = executor.places(PlacesRequest(NULL, CompileOptions(), Settings(), (LATENCY,)))
        assert [(place.name, place.device) for place in places] == [
            (name, Device("null", "cpu", unit=name)) for name in ("left", "right")
        ]
        request = SessionRequest("s", NULL, CompileOptions(), FAST, SpaceSpec.of(SPACE), 1, 0, references(SPACE))
        results = [executor.start(request, place).result() for place in places]
    used = [set(str(result.measurements[0].environment["affinity"]).split(",")) for result in results]
    assert not used[0] & used[1]
    assert [result.measurements[0].environment["unit"] for result in results] == ["left", "right"]


def test_more_threads_than_cores_are_refused_where_the_device_is() -> None:
    with LocalExecutor() as executor, pytest.raises(UsageError, match="threads do not fit"):
        executor.places(PlacesRequest(NULL, CompileOptions(threads=10_000), Settings(), (LATENCY,)))
