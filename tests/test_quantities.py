"""Memory beside latency, and alone: told by the runtime or by the growth of the process; profiles take any of them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latbench.backend import CompileOptions, Device
from latbench.errors import UsageError
from latbench.measure import quantities
from latbench.measure.energy.windows import EnergySettings
from latbench.measure.quantities.energy import EnergyQuantity
from latbench.measure.quantities.latency import LATENCY
from latbench.measure.quantities.memory import MemoryQuantity
from latbench.measure.session import SessionResult, run_session
from latbench.measure.workloads import FALLBACK, Workload
from latbench.model import Model
from latbench.onnx_export import FallbackWarning
from latbench.prediction.file import load_predictor
from latbench.profiling import profile_space
from latbench.store import Store
from latbench.testing import NullBackend
from latbench.testing.null import CompiledNull
from tests.test_cli import SPACE as SPACE_FLAGS
from tests.test_cli import call, document
from tests.test_profiling import FAST, NULL, SPACE

MIB = 2**20


class ToldByTheProcess:
    """A compiled model that does not tell how much memory it takes."""

    clock = "null"

    def __init__(self, compiled: CompiledNull, mib: int) -> None:
        self._compiled, self._mib = compiled, mib

    def run(self) -> float:
        self._held = np.ones(self._mib * MIB, np.uint8)
        return self._compiled.run()

    def outputs(self) -> list[Any]:
        return self._compiled.outputs()

    def __enter__(self) -> ToldByTheProcess:
        return self

    def __exit__(self, *_: object) -> None:
        del self._held


class GrowingBackend(NullBackend):
    """A model takes what its name says, in MiB."""

    kind = "cpu"

    def device(self) -> Device:
        return Device("null", self.kind)

    def compile(self, model: Model, options: CompileOptions) -> ToldByTheProcess:  # type: ignore[override]
        return ToldByTheProcess(super().compile(model, options), int(model.name))


class FarBackend(GrowingBackend):
    kind = "npu"


def session(backend: NullBackend, *names: str) -> SessionResult:
    def workload(name: str) -> Workload:
        model = Model(name, {"x": np.zeros((2, 1), np.float32)}, onnx=lambda: bytes(int(name) * MIB))
        return Workload("model", name, lambda: model)

    backend.known_ms = lambda model: 1.0
    return run_session(backend, [workload(name) for name in names], MemoryQuantity(), CompileOptions(), FAST)


def test_the_runtime_tells_the_memory_of_its_models() -> None:
    result = session(NullBackend(), "3", "7")
    assert result.conditions is not None
    assert (result.conditions.quantity, result.conditions.unit, result.conditions.clock) == ("memory", "MiB", "runtime")
    assert [(m.low, m.value, m.high) for m in result.measurements] == [(3, 3, 3), (7, 7, 7)]


def test_the_growth_of_the_process_stands_in_for_it_on_a_cpu() -> None:
    result = session(GrowingBackend(), "16", "64")
    assert result.conditions is not None
    assert result.conditions.clock == "process"
    assert [m.value for m in result.measurements] == pytest.approx([16, 64], rel=0.05)
    assert all(len(m.blocks) == 5 and m.low <= m.value <= m.high for m in result.measurements)


def test_what_lies_outside_the_process_is_refused() -> None:
    with pytest.raises(UsageError, match=r"does not tell the memory of a model.*--backend"):
        session(FarBackend(), "3")


def test_quantities_survive_json() -> None:
    for quantity in (LATENCY, MemoryQuantity(), EnergyQuantity(EnergySettings("power", 2.0))):
        assert quantities.from_json(json.loads(json.dumps(quantities.to_json(quantity)))) == quantity


COMMAND = ["profile", *SPACE_FLAGS, "--backend", NULL, "--verify", "none"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "null.db"
    told = document(*COMMAND, "--samples", 24, "--quantity", "memory,latency", "--store", path)
    assert told["architectures"] == told["memory"]["architectures"] == 24
    return path


def test_memory_is_fitted_and_compared_like_any_quantity(store: Path, tmp_path: Path) -> None:
    with Store(store, quantity="memory") as opened:
        profile = opened.profile()
    assert (profile.conditions.unit, profile.conditions.clock) == ("MiB", "runtime")
    assert profile.reference is None
    command = ["compare", store, "--predictors", "ridge", "--train", 12]
    assert document(*command, "--quantity", "memory") != document(*command)
    path = tmp_path / "memory.safetensors"
    assert call("fit", store, "--predictor", "ridge", "--quantity", "memory", "--out", path).exit_code == 0
    assert load_predictor(path).unit == "MiB"


def test_a_profile_of_memory_alone_is_read_without_asking(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    told = document(*COMMAND, "--samples", 4, "--quantity", "memory", "--store", path)
    assert (told["architectures"], "memory" in told) == (4, False)
    with Store(path) as opened:
        assert (opened.quantity, opened.quantities) == ("memory", ("memory",))
        assert opened.count("architecture", replicate=1) == 4


def test_the_old_name_of_the_option_is_read(store: Path) -> None:
    result = call("fit", store, "--target", "energy_mj")
    assert result.exit_code == 2
    assert "and no energy: leave out --quantity to read latency" in result.stderr
    assert "differ: leave --target out" in call("fit", store, "--target", "energy_mj", "--quantity", "memory").stderr
    assert "--target" not in call("fit", "--help").stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--quantity", "energy"], "energy needs a meter: give --meter"),
        (["--quantity", "speed"], "no quantity 'speed': choose from latency, energy, memory"),
        (["--quantity", ","], "--quantity ',' names nothing"),
    ],
)
def test_a_mistake_with_the_quantity_is_explained(tmp_path: Path, flags: list[str], message: str) -> None:
    result = call(*COMMAND, "--samples", 2, *flags, "--store", tmp_path / "a.db")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


class WarningBackend(NullBackend):
    """Some of its files are written by torch.onnx.export, and something is said of all of them."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        if "skip" in model.name:
            place = f"module '{hash(model.name) % 100}' of shape 1x{len(model.name)}"
            text = f"the direct writer knows no skip in {place}: torch.onnx.export writes it"
            warnings.warn(text, FallbackWarning, stacklevel=2)
        warnings.warn("this runtime is old", UserWarning, stacklevel=2)
        return super().compile(model, options)


def test_what_libraries_warn_of_is_told_once_and_slow_files_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    summary = profile_space(SPACE, f"{__name__}:WarningBackend", path, samples=8, settings=FAST)
    assert len(summary.progress.notes) == 2
    assert any("the direct writer knows no skip" in note for note in summary.progress.notes)
    with Store(path) as opened:
        measured = [m for m in opened.measurements() if m.kind == "architecture"]
    slow = [m for m in measured if FALLBACK in m.flags]
    assert {m.subject for m in slow} == {m.subject for m in measured if "skip" in m.subject}
    assert summary.progress.flags[FALLBACK] == len(slow)
    assert summary.progress.fallbacks.startswith(f"{len(slow)} by torch.onnx.export: ")
    command = ["profile", *SPACE_FLAGS, "--backend", f"{__name__}:WarningBackend", "--samples", 8]
    said = call(*command, "--verify", "none", "--store", tmp_path / "b.db")
    assert said.stderr.count("note: this runtime is old") == 1
    assert f"{len(slow)} by torch.onnx.export: " in said.stdout
