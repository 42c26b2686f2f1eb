"""What fails while energy is measured: it never costs an architecture that is not to blame."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from latbench.backend import CompileOptions
from latbench.errors import CompileError, CounterError, MeasurementError, NoCounterError, UsageError
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.quantities.energy import EnergyQuantity
from latbench.measure.session import run_session
from latbench.measure.settings import Settings
from latbench.measure.workloads import Workload
from latbench.model import Model
from latbench.profiling import Summary, profile_space
from latbench.profiling.plan import plan
from latbench.records.subjects import Failure, architecture_model
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.testing import NullBackend, NullMeter
from latbench.testing.null import CompiledNull
from tests.patience import PATIENCE_S

SPACE = NasBench201Space(cells=1, channels=4, image=8)
FAST = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
HERE = "tests.test_energy_failures"

TROUBLE = "LATBENCH_TEST_TROUBLE"
"""Names a file; while there is one, the classes below fail as it says, in the processes of a profile too."""


def trouble() -> str:
    path = Path(os.environ[TROUBLE])
    return path.read_text() if path.exists() else ""


class Backend(NullBackend):
    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        if trouble() == "compile":
            raise CompileError("the GPU has fallen off the bus")
        if trouble() == "crash":
            os.abort()
        return super().compile(model, options)


class Meter(NullMeter):
    def counter(self, device: object) -> Meter:
        return self

    def energy_mj(self) -> float:
        if trouble() == "counter":
            raise CounterError("the counter cannot be read any more")
        if trouble() == "bug":
            raise ZeroDivisionError("division by zero")
        return 7.0 if trouble() == "still" else super().energy_mj()


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(TROUBLE, str(tmp_path / "trouble"))
    return tmp_path / "trouble"


def run(store: Path, *, meter: str | None = f"{HERE}:Meter", settings: Settings = FAST, **more: bool) -> Summary:
    return profile_space(
        SPACE,
        f"{HERE}:Backend",
        store,
        samples=4,
        settings=settings,
        timeout=PATIENCE_S,
        meter=meter,
        window_s=0.02,
        **more,
    )


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with latencies and no energy."""
    folder = tmp_path_factory.mktemp("timed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TROUBLE, str(folder / "none"))
        run(folder / "a.db", meter=None)
    return folder / "a.db"


@pytest.fixture
def store(timed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(timed, tmp_path))


def energies(store: Path) -> tuple[int, tuple[Failure, ...]]:
    with Store(store, quantity="energy") as opened:
        return len(opened.measurements()), opened.failures()


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("counter", CounterError, "cannot be read any more"),
        ("bug", CounterError, "cannot be read: ZeroDivisionError: division by zero"),
        ("compile", MeasurementError, "reference architectures cannot be measured: .*fallen off the bus"),
        ("crash", MeasurementError, "no model can be measured here any more: .*SIGABRT"),
    ],
)
def test_what_is_no_architectures_fault_ends_the_run_and_fails_none(
    kind: str, error: type[Exception], message: str, flag: Path, store: Path
) -> None:
    flag.write_text(kind)
    with pytest.raises(error, match=message):
        run(store)
    assert energies(store) == (0, ())


def test_a_run_that_ended_continues_in_the_same_process(flag: Path, store: Path) -> None:
    flag.write_text("still")
    with pytest.raises(CounterError, match=r"did not move while a model ran .*: give --window a larger value"):
        run(store)
    flag.unlink()
    assert energies(store) == (0, ())
    summary = run(store)
    assert (summary.progress.measured, summary.more["energy"].architectures, summary.more["energy"].failures) == (
        0,
        4,
        (),
    )


def test_what_failed_is_tried_again_when_asked_for(flag: Path, store: Path) -> None:
    subjects = [
        Failure("architecture", s.text, "drew no more than idle", s.replicate) for s in plan(SPACE, 4, 0)[0].first
    ]
    with Store(store, quantity="energy") as opened:
        opened.add_failures(subjects[:2], "2020-01-01T00:00:00+00:00")
    summary = run(store)
    assert (summary.more["energy"].architectures, len(summary.more["energy"].failures)) == (2, 2)
    summary = run(store, retry_failed=True)
    assert (summary.more["energy"].architectures, summary.more["energy"].failures) == (4, ())


def test_a_counter_that_stands_still_fails_and_is_no_row(flag: Path) -> None:
    (architecture,) = SPACE.sample(1, seed=0)
    model = architecture_model(SPACE, architecture)
    workload = Workload("architecture", model.name, lambda: model, replicate=1)
    energy = EnergyQuantity(EnergySettings(f"{HERE}:Meter", window_s=0.005))
    flag.write_text("still")
    with pytest.raises(CounterError, match="did not move"):
        run_session(NullBackend(), [workload], energy, CompileOptions(), FAST)


def test_a_device_without_counter_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(NoCounterError, match="is not the device of the null backend"):
        profile_space(SPACE, "cpu", path, samples=1, meter="latbench.testing:NullMeter")
    assert not path.exists()


def test_a_cold_cache_is_refused_with_a_meter(flag: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"runs back to back, so its cache is warm: .*--cache warm"):
        run(tmp_path / "a.db", settings=replace(FAST, cache="cold"))
    assert not (tmp_path / "a.db").exists()
