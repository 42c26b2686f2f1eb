"""The contract of an executor as tests: an executor's test file is one subclass."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from latbench.backend import CompileOptions
from latbench.errors import PluginError, UsageError
from latbench.executor import Executor, Place, SessionDiedError
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.settings import Settings
from latbench.measure.workers.places import PlacesRequest
from latbench.measure.workers.request import SessionRequest
from latbench.records.subjects import references
from latbench.space import SpaceSpec
from latbench.testing.probe import Probe
from latbench.testing.tiny_space import TinySpace

NULL = "latbench.testing:NullBackend"


class ExecutorSuite:
    """Every promise of `latbench.executor.Executor`.

    Subclass it with a fixture that makes one, for all of its tests::

        class TestMine(ExecutorSuite):
            @pytest.fixture(scope="class")
            @classmethod
            def executor(cls):
                with MyExecutor() as executor:
                    yield executor

    Where the executor's sessions run, latbench must be installed as it is here. No test waits for a time to pass: where
    everything works, a slow machine passes too.
    """

    @pytest.fixture
    def place(self, executor: Executor) -> Place:
        """Return the first place."""
        return executor.places(places())[0]

    def test_places_have_names_of_their_own_and_stay(self, executor: Executor) -> None:
        """A profile tells them apart by name, and asks again when it continues."""
        found = list(executor.places(places()))
        assert found
        assert len({place.name for place in found}) == len(found)
        assert found == list(executor.places(places()))

    def test_a_backend_that_is_not_there_is_refused(self, executor: Executor) -> None:
        """The message names it."""
        with pytest.raises(PluginError, match="no_such_backend"):
            executor.places(places("no_such_backend"))
        assert executor.places(places())

    def test_more_threads_than_cores_are_refused(self, executor: Executor) -> None:
        """It is the cores there that count."""
        with pytest.raises(UsageError, match="threads do not fit"):
            executor.places(places(threads=10_000))

    def test_a_session_measures_what_it_is_asked(self, executor: Executor, place: Place) -> None:
        """Everything comes back: subjects, values, conditions."""
        space = TinySpace()
        settings = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
        spec, subjects = SpaceSpec.of(space), references(space)
        request = SessionRequest("one", NULL, CompileOptions(), settings, spec, 1, 0, subjects)
        result = executor.start(request, place).result()
        assert [m.subject for m in result.measurements] == [subject.text for subject in subjects]
        assert all(m.value > 0 for m in result.measurements)
        assert result.conditions is not None
        assert result.conditions.device.name == place.device.name

    def test_sessions_start_at_once_and_are_timed_one_after_another(self, executor: Executor, place: Place) -> None:
        """Nothing disturbs what is timed; the next one compiles meanwhile."""
        futures = [executor.start(Probe(seconds=0.05), place) for _ in range(4)]
        results = sorted((future.result() for future in futures), key=lambda result: result.begin)
        assert len({result.pid for result in results}) == 4
        assert all(earlier.end <= later.begin for earlier, later in pairwise(results))

    def test_variables_of_a_place_reach_its_sessions(self, executor: Executor, place: Place) -> None:
        """They choose the unit of a device."""
        chosen = replace(place, environment={**place.environment, "LATBENCH_PROBE": "right"})
        assert executor.start(Probe(), chosen).result().environment["LATBENCH_PROBE"] == "right"
        assert "LATBENCH_PROBE" not in executor.start(Probe(), place).result().environment

    def test_a_session_that_dies_tells_what_it_was_compiling(self, executor: Executor, place: Place) -> None:
        """The culprit is recorded, and the other sessions never know."""
        dying, living = executor.start(Probe(dies=True), place), executor.start(Probe(), place)
        with pytest.raises(SessionDiedError, match="SIGKILL") as died:
            dying.result()
        assert died.value.index == 0
        assert living.result().pid

    def test_what_a_session_refuses_is_raised_as_it_was(self, executor: Executor, place: Place) -> None:
        """The user reads what to mend."""
        with pytest.raises(UsageError, match="give it less"):
            executor.start(Probe(refuses="too much: give it less"), place).result()

    def test_sessions_run_after_it_is_renewed(self, executor: Executor, place: Place) -> None:
        """Blind duplicates need processes that share nothing with those before."""
        before = executor.start(Probe(), place).result()
        executor.renew()
        assert executor.start(Probe(), place).result().pid != before.pid


def places(backend: str = NULL, threads: int = 1) -> PlacesRequest:
    """Return a request for the places of a backend."""
    return PlacesRequest(backend, CompileOptions(threads=threads), Settings(), (LATENCY,))
