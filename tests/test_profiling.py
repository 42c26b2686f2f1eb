"""A profile survives what happens to it: crashes, hangs, kills, a second process; nothing is lost or counted twice."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from latbench.backend import CompileOptions, Device
from latbench.errors import MeasurementError, OutOfMemoryError, PluginError, StoreError, UsageError
from latbench.measure.settings import Settings
from latbench.model import Model
from latbench.profiling import Summary, profile_space
from latbench.profiling.plan import distinct, plan
from latbench.records.subjects import references
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.testing import NullBackend
from latbench.testing.null import CompiledNull
from tests.patience import LIMITS_S, PATIENCE_S

SPACE = NasBench201Space(cells=1, channels=4, image=8)
NULL = "latbench.testing:NullBackend"
FAST = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")


def run(
    store: Path, samples: int = 10, *, timeout: float = PATIENCE_S, settings: Settings = FAST, **script: str
) -> Summary:
    options = CompileOptions(options=script)
    return profile_space(SPACE, NULL, store, samples=samples, options=options, settings=settings, timeout=timeout)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def counts(store: Path) -> Counter[tuple[str, int]]:
    with Store(store) as opened:
        return Counter((m.subject, m.replicate) for m in opened.measurements() if m.kind == "architecture")


def planned(samples: int) -> Counter[tuple[str, int]]:
    stretches = plan(SPACE, samples, 0)
    return Counter((s.text, s.replicate) for stretch in stretches for s in (*stretch.first, *stretch.again))


def test_a_longer_plan_extends_a_shorter_one_and_repeats_3_percent() -> None:
    short, long = planned(700), planned(2000)
    assert short.items() <= long.items()
    assert sum(replicate for _, replicate in long) == pytest.approx(0.03 * 2000, rel=0.4)
    assert {text for text, replicate in long if replicate} <= {text for text, replicate in long if not replicate}


def test_every_planned_architecture_is_measured_once_and_some_again(store: Path) -> None:
    summary = run(store, 20)
    assert counts(store) == planned(20)
    assert (summary.architectures, summary.progress.done, summary.progress.total) == (20, 36, 36)
    assert summary.noise_floor.mape is None  # without noise, there is nothing to estimate it from
    assert "equal to the last digit" in summary.noise_floor.reason


def test_the_same_command_continues_and_more_samples_extend_it(store: Path) -> None:
    run(store, 5)
    before = counts(store)
    assert run(store, 5).progress.measured == 0
    run(store, 9)
    assert before.items() <= counts(store).items()
    assert run(store, 9).architectures == 9


def test_isomorphic_architectures_are_measured_once() -> None:
    drawn = distinct(SPACE, 300, seed=0)
    assert len({SPACE.canonical(a) for a in drawn}) == len(drawn) == 300
    assert distinct(SPACE, 100, seed=0) == drawn[:100]


def test_a_space_with_fewer_architectures_than_samples_gives_all_it_has() -> None:
    found = distinct(SPACE, 7000, seed=0)
    assert len(found) == len({SPACE.canonical(a) for a in found}) == 4930
    for samples in (100, 4000, 4900):
        assert found[:samples] == distinct(SPACE, samples, seed=0)


def test_operations_fill_the_operator_table(store: Path) -> None:
    summary = profile_space(SPACE, NULL, store, samples=2, settings=FAST, with_operations=True)
    with Store(store) as opened:
        context = opened.profile().context()
    assert summary.operations > 0
    assert context.costs is not None
    names = [column.name for column in SPACE.columns]
    at_work = {column for cost in context.costs for column in cost.columns}
    assert at_work == {names.index(name) for term in SPACE.terms() for name in term.columns}


def test_drift_between_sessions_is_divided_out(store: Path) -> None:
    """Each session of the null backend starts its drift anew, so that only the references tell it."""
    summary = run(store, 40, settings=Settings(min_rounds=24, max_rounds=24, verify="none"), drift="0.2", noise="0.02")
    assert summary.noise_floor.mape is not None
    assert summary.noise_floor.mape < 0.01


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        ("compile", "as scripted"),
        ("crash", "SIGABRT"),
        ("memory", "Unable to allocate 1.00 EiB"),
        ("outputs", "differs from its module"),
        ("run", "as scripted"),
    ],
)
def test_one_architecture_fails_and_the_others_are_measured(store: Path, fail: str, reason: str) -> None:
    victim = plan(SPACE, 6, 0)[0].first[3].text
    settings = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="all")
    summary = run(store, 6, settings=settings, fail=fail, failing=victim)
    assert summary.architectures == 5
    assert {f.subject for f in summary.failures} == {victim}
    assert all(reason in f.reason for f in summary.failures)
    assert run(store, 6, settings=settings, fail=fail, failing=victim).progress.measured == 0


def test_one_architecture_hangs_and_the_others_are_measured(tmp_path: Path) -> None:
    victim = plan(SPACE, 6, 0)[0].first[3].text
    for limit in LIMITS_S:
        with suppress(MeasurementError):
            summary = run(tmp_path / f"{limit}.db", 6, timeout=limit, fail="hang", failing=victim)
            if summary.architectures == 5:
                break
    assert summary.architectures == 5
    assert {f.subject for f in summary.failures} == {victim}
    assert all(f"no answer for {limit:g} s while compiling" in f.reason for f in summary.failures)


class CrowdedBackend(NullBackend):
    """A device whose memory holds eight models."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        self.held = getattr(self, "held", 0) + 1
        if self.held > 8:
            raise OutOfMemoryError(f"the memory does not hold {model.name}")
        return super().compile(model, options)


class TinyBackend(NullBackend):
    """A device whose memory does not hold one of the architectures, alone or not."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        if VICTIM in model.name:
            raise OutOfMemoryError(f"the memory does not hold {model.name}")
        return super().compile(model, options)


VICTIM = plan(SPACE, 6, 0)[0].first[3].text


def test_what_finds_no_memory_beside_others_is_measured_alone(store: Path) -> None:
    summary = profile_space(SPACE, f"{__name__}:CrowdedBackend", store, samples=10, settings=FAST)
    assert (summary.architectures, summary.failures) == (10, ())
    assert counts(store) == planned(10)


class LazyBackend(NullBackend):
    """A device whose memory holds the first run of eight models: from the ninth on, it is the references that fail."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        self.held = getattr(self, "held", 0) + 1
        compiled = super().compile(model, options)
        compiled.__class__ = LazyModel
        compiled.backend = self  # type: ignore[attr-defined]
        return compiled


class LazyModel(CompiledNull):
    backend: LazyBackend

    def run(self) -> float:
        if self.backend.held > 8:
            raise OutOfMemoryError(f"the memory does not hold {self.backend.held} models")
        return super().run()


def test_references_that_find_no_memory_beside_others_are_measured_with_one_at_a_time(store: Path) -> None:
    summary = profile_space(SPACE, f"{__name__}:LazyBackend", store, samples=10, settings=FAST)
    assert (summary.architectures, summary.failures) == (10, ())
    assert counts(store) == planned(10)


def test_what_finds_no_memory_alone_has_failed(store: Path) -> None:
    summary = profile_space(SPACE, f"{__name__}:TinyBackend", store, samples=6, settings=FAST)
    assert summary.architectures == 5
    assert {(f.subject, f.reason) for f in summary.failures} == {(VICTIM, f"the memory does not hold {VICTIM}")}


def test_a_backend_that_cannot_run_the_references_ends_the_run(store: Path) -> None:
    with pytest.raises(MeasurementError, match="reference architectures"):
        run(store, 4, fail="compile", failing=references(SPACE)[1].text)


def test_a_device_that_fails_while_it_is_timed_ends_the_run_and_fails_no_architecture(store: Path) -> None:
    with pytest.raises(MeasurementError, match=r"no model can be measured here any more: .* as scripted"):
        run(store, 4, fail="run")
    assert run(store, 4).architectures == 4


def test_architectures_that_all_fail_while_they_are_timed_are_recorded(store: Path) -> None:
    """All of a session's architectures fail, but not the references measured with them."""
    victims = [subject.text for subject in plan(SPACE, 2, 0)[0].first]
    common = "_3x3~0|nor_conv_"
    assert all(common in text for text in victims)
    assert not any(common in reference.text for reference in references(SPACE))
    summary = run(store, 2, fail="run", failing=common)
    assert (summary.architectures, {f.subject for f in summary.failures}) == (0, set(victims))


def test_zero_samples_and_an_unknown_option_are_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="--samples 1"):
        run(store, 0)
    with pytest.raises(UsageError, match="did you mean 'noise'"):
        run(store, 2, nose="1")


def test_more_threads_than_cores_are_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="threads do not fit"):
        profile_space(SPACE, NULL, store, samples=1, options=CompileOptions(threads=4096))


PROFILE = """
from tests.test_profiling import *
run(Path({store!r}), {samples})
"""


def start(store: Path, samples: int = 60) -> subprocess.Popen[bytes]:
    root = Path(__file__).parent.parent
    code = PROFILE.format(store=str(store), samples=samples)
    return subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.DEVNULL)


def test_killed_at_random_moments_it_loses_nothing_and_leaves_no_worker(store: Path) -> None:
    rng = np.random.default_rng(0)
    before: Counter[tuple[str, int]] = Counter()
    for _ in range(4):
        process = start(store)
        time.sleep(rng.uniform(1.5, 5))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.wait()
        # The kernel ends them at once; when they get round to it, a busy machine decides.
        _, alive = psutil.wait_procs(family[1:], timeout=PATIENCE_S)
        assert all(p.status() == psutil.STATUS_ZOMBIE for p in alive), "a worker outlived its parent"
        if store.exists():
            now = counts(store)
            assert before.items() <= now.items()
            before = now
    assert run(store, 60).architectures == 60
    assert set(counts(store).values()) == {1}


def begun(store: Path) -> bool:
    try:
        return bool(counts(store))
    except StoreError:  # the file is there before its tables are
        return False


def test_a_killed_worker_costs_no_measurement(store: Path) -> None:
    process = start(store)
    while not begun(store):
        time.sleep(0.1)
        assert process.poll() is None
    for _ in range(4):
        for worker in psutil.Process(process.pid).children(recursive=True)[1:]:
            os.kill(worker.pid, signal.SIGKILL)
        time.sleep(0.7)
    process.terminate()
    process.wait()
    with Store(store) as opened:
        failed = {f.subject for f in opened.failures() if f.replicate == 0}
    summary = run(store, 60)
    assert summary.architectures + len(failed) == 60


def test_a_reference_that_kills_its_worker_every_time_ends_the_run(store: Path) -> None:
    with pytest.raises(MeasurementError, match="SIGABRT"):
        run(store, 4, fail="crash", failing=references(SPACE)[0].text)
    assert not store.exists()


def test_two_processes_share_the_work(store: Path) -> None:
    processes = [start(store), start(store)]
    assert [process.wait() for process in processes] == [0, 0]
    assert counts(store) == planned(60)


def test_more_architectures_than_a_space_has_are_planned_as_many_as_it_has(store: Path) -> None:
    summary = profile_space(SPACE, NULL, store, samples=7000, settings=FAST, budget_seconds=0.0)
    assert summary.planned == 4930
    assert run(store, 4).planned == 4


def test_a_budget_of_nothing_measures_nothing_and_is_no_lack_of_one(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary = profile_space(SPACE, NULL, store, samples=4, settings=FAST, budget_seconds=0.0)
    assert (summary.progress.measured, summary.left) == (0, 8)
    with caplog.at_level(logging.INFO, logger="latbench"):
        summary = run(store, 4)
    assert (summary.progress.measured, summary.left) == (8, 0)
    assert re.fullmatch(r"measuring latency 8/8, [\d,]+/h.*", caplog.messages[-1])


class SilentBackend(NullBackend):
    def device(self) -> Device:
        raise RuntimeError("the bus is gone")


def test_a_backend_that_cannot_tell_its_device_is_refused(store: Path) -> None:
    with pytest.raises(PluginError, match=r"fails \(RuntimeError: the bus is gone\): correct it, or choose another"):
        profile_space(SPACE, f"{__name__}:SilentBackend", store, samples=2, settings=FAST)
    assert not store.exists()
