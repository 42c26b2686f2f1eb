"""``latbench measure``: any model, several backends, records that read back, and what a user can do wrong."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import latbench
from latbench import cli
from latbench.backend import CompileOptions, Device, OperatorTime
from latbench.errors import CompileError, PluginError, StoreError, UsageError
from latbench.measure.estimate import QUANTILE
from latbench.measure.one_model import inspection
from latbench.measure.one_model.record import ModelRecord, Refusal, read_records, write_records
from latbench.measure.one_model.sessions import (
    DEFAULT,
    SESSIONS,
    SLOW_SESSIONS,
    combine,
    measure_model,
    measure_on_backends,
)
from latbench.measure.rounds import runs_of_a_visit
from latbench.measure.settings import Settings
from latbench.measure.workloads import CompiledWorkload, Workload
from latbench.model import Model
from latbench.model.source import open_model
from latbench.records.measurement import Measurement
from latbench.testing import NullBackend
from latbench.testing.null import CompiledNull

NULL = "latbench.testing:NullBackend"
HERE = "tests.test_measure_models"
SHORT = Settings(min_rounds=4, max_rounds=4, max_seconds=0.2)
TELLING = f"{HERE}:TellingBackend"
SILENT = f"{HERE}:SilentBackend"


class TellingBackend(NullBackend):
    """The null backend, and what a backend may tell beyond the contract."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        compiled = super().compile(model, options)
        compiled.__class__ = CompiledTelling
        return compiled


class SilentBackend(NullBackend):
    """A device whose memory nobody tells."""

    def device(self) -> Device:
        return Device("null", "npu")

    def compile(self, model: Model, options: CompileOptions) -> Silent:  # type: ignore[override]
        return Silent(super().compile(model, options))


class Silent:
    clock = "null"

    def __init__(self, compiled: CompiledNull) -> None:
        self.run, self.outputs = compiled.run, compiled.outputs

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        """Free nothing."""


class CompiledTelling(CompiledNull):
    def memory_mib(self) -> float:
        return 12.5

    def operator_times(self) -> Sequence[OperatorTime]:
        return [OperatorTime("Conv", "a", 0.3), OperatorTime("Relu", "b", 0.1), OperatorTime("Conv", "c", 0.6)]


class Unknown(nn.Module):
    """What the direct ONNX writer does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.det(x[:, :2])


def tiny() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def unknown() -> nn.Module:
    return Unknown()


def model() -> Model:
    x = np.ones((4, 2, 8, 8), np.float32)
    return Model.from_module(nn.Conv2d(2, 2, 3), {"x": x}, name="one convolution", batch=4)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["measure", *map(str, arguments)])


def onnx_file(path: Path, *, shape: Sequence[int | str] = (1, 3, 8, 8)) -> Path:
    """Write a ReLU of an input ``x`` of this shape."""
    value, out = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(autouse=True, scope="module")
def _short_collections() -> Iterator[None]:
    """Each session collects garbage once, which among all that torch has loaded takes a tenth of a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Measuring


def test_the_known_latency_is_measured_and_every_block_of_every_session_kept() -> None:
    backend = NullBackend(cost_ms=lambda _: 2.0)
    measured = measure_model(model(), backend, options=CompileOptions(options={"noise": "0.002"}))
    assert measured.value == pytest.approx(2.0, rel=0.005)
    assert 0 < measured.half_width < 0.005
    assert len(measured.measurement.blocks) == 24 * SESSIONS
    assert measured.flags == ()


def test_the_interval_comes_from_what_differs_between_sessions() -> None:
    options = CompileOptions(options={"session": "0.05"})
    measured = measure_model(model(), NullBackend(cost_ms=lambda _: 2.0), options=options)
    assert measured.low <= 2.0 <= measured.high
    assert 0.01 < measured.half_width < 0.3
    assert measured.flags == ("unstable",)


@pytest.mark.parametrize("sessions", [SESSIONS, SLOW_SESSIONS])
def test_the_interval_of_sessions_holds_their_lower_quartile_as_often_as_it_says(sessions: int) -> None:
    logs = np.random.default_rng(0).normal(scale=0.02, size=(2000, sessions))
    combined = [combine([Measurement("a", "model", v, v, v) for v in row], 0.01) for row in np.exp(logs)]
    truth = math.exp(np.quantile(logs, QUANTILE, axis=1).mean())
    assert np.mean([m.low <= truth <= m.high for m in combined]) == pytest.approx(0.95, abs=0.015)


def test_a_slow_model_is_timed_once_a_visit() -> None:
    compiled = NullBackend().compile(model(), CompileOptions())
    workload = Workload("model", "a", model)

    def runs(warm_ms: float) -> int:
        return runs_of_a_visit([CompiledWorkload(0, workload, model(), compiled, 0.0, warm_ms=warm_ms)], DEFAULT)

    assert (runs(1.0), runs(100.0), runs(3000.0)) == (6, 6, 1)


def test_a_backend_that_is_missing_or_refuses_leaves_the_others_alone() -> None:
    results = measure_on_backends(open_model(f"{HERE}:tiny", ["x:1x3x8x8"]), ["nul", NULL, "onnxruntime"])
    assert [type(result) for result in results] == [Refusal, ModelRecord, ModelRecord]
    assert isinstance(results[0], Refusal)
    assert isinstance(results[0].error, PluginError)
    failing_options = CompileOptions(options={"fail": "compile"})
    (refusal,) = measure_on_backends(model(), [NULL], options=failing_options)
    assert isinstance(refusal, Refusal)
    assert "refuses one convolution" in str(refusal.error)


def test_throughput_counts_the_inputs_of_a_batch_in_the_median_call() -> None:
    options = CompileOptions(options={"noise": "0.3"})
    (record,) = measure_on_backends(model(), [NULL], options=options, settings=SHORT)
    assert isinstance(record, ModelRecord)
    assert record.conditions.backend == NULL
    assert record.inputs_per_second == pytest.approx(4 / record.inspection.percentiles["p50"] * 1e3)
    assert record.inputs_per_second is not None
    assert record.inputs_per_second < 0.9 * 4 / record.measurement.value * 1e3
    waited = dataclasses.replace(record.inspection, wall_percentiles={"p50": 8.0})
    assert dataclasses.replace(record, inspection=waited).inputs_per_second == pytest.approx(500)


def test_a_record_tells_the_size_of_a_model_and_the_most_that_the_process_held() -> None:
    big = Model.from_module(nn.Linear(2048, 2048), {"x": np.zeros((2, 2048), np.float32)})
    (record,) = measure_on_backends(big, ["onnxruntime"], settings=SHORT)
    assert isinstance(record, ModelRecord)
    told = record.inspection
    assert (told.parameters, told.macs) == (2048 * 2049, 2 * 2048 * 2048)
    assert told.weights_mib == pytest.approx(2048 * 2049 * 4 / 2**20)
    assert told.peak_memory_mib is not None
    assert told.memory_mib is not None
    assert told.peak_memory_mib >= told.memory_mib
    assert told.wall_percentiles.keys() == told.percentiles.keys()
    assert told.wall_percentiles["p50"] >= told.percentiles["p50"]


def test_the_sum_of_profiled_operators_is_told_beside_the_latency() -> None:
    plain, profiled = (
        measure_on_backends(model(), [TELLING], settings=SHORT, with_operators=asked)[0] for asked in (False, True)
    )
    assert isinstance(plain, ModelRecord)
    assert isinstance(profiled, ModelRecord)
    assert plain.profiled_ratio is None
    assert profiled.profiled_ratio == pytest.approx(1.0 / profiled.measurement.value)


@pytest.mark.parametrize(
    ("calls", "names"), [(1, {"p50"}), (63, {"p50"}), (64, {"p50", "p90"}), (662, {"p50", "p90", "p99"})]
)
def test_a_percentile_needs_enough_calls(calls: int, names: set[str]) -> None:
    given = inspection.percentiles(np.arange(1, calls + 1, dtype=float))
    assert given.keys() == names
    assert given["p50"] == pytest.approx((calls + 1) / 2)


def test_calls_end_with_the_time_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told = inspection.inspect_model(model(), NullBackend(), CompileOptions())
    assert told.calls == inspection.CALLS
    assert told.percentiles["p99"] > 0
    monkeypatch.setattr(inspection, "SECONDS", 0.0)
    told = inspection.inspect_model(model(), NullBackend(), CompileOptions())
    assert (told.calls, set(told.percentiles)) == (1, {"p50"})


def test_memory_and_operators_are_told_where_the_backend_can() -> None:
    silent, telling = measure_on_backends(model(), [SILENT, TELLING], with_operators=True)
    assert isinstance(silent, ModelRecord)
    assert isinstance(telling, ModelRecord)
    assert (silent.inspection.memory_mib, silent.inspection.memory_of, silent.inspection.operators) == (None, "", ())
    assert (telling.inspection.memory_mib, telling.inspection.memory_of) == (12.5, "model")
    assert [time.type for time in telling.inspection.operators] == ["Conv", "Relu", "Conv"]


def test_a_cpu_runtime_that_cannot_tell_its_memory_is_seen_by_what_the_process_grows() -> None:
    layers = [nn.Linear(2048, 2048) for _ in range(2)]
    big = Model.from_module(nn.Sequential(*layers), {"x": np.zeros((1, 2048), np.float32)})
    (record,) = measure_on_backends(big, ["onnxruntime"])
    assert isinstance(record, ModelRecord)
    assert record.inspection.memory_of == "process"
    assert record.inspection.memory_mib is not None
    assert 0.8 * 32 < record.inspection.memory_mib < 4 * 32


# The command


def test_the_table_shows_every_backend_and_its_operators(tmp_path: Path) -> None:
    result = call(f"{HERE}:tiny", "--input", "x:1x3x8x8", "--backend", NULL, "--backend", TELLING, "--backend", "nul")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert "12.5" in rows[TELLING]
    assert re.search(r"p50 +p90 +p99 .*memory MiB", rows["backend"])
    assert "inputs/s" not in rows["backend"]
    assert "no backend named 'nul'" in rows["nul:"]
    result = call(f"{HERE}:tiny", "--input", "x:1x3x8x8", "--backend", f"{NULL},{TELLING}", "--operators")
    assert f"{HERE}:tiny on {NULL}, threads 1: the backend cannot tell" in result.stdout
    assert re.search(r"Conv +2 +0\.9000 +90\.0%\s+Relu +1 +0\.1000 +10\.0%", result.stdout)
    assert re.search(r"profiled sum = \d+\.\d x the model", result.stdout)


def test_the_json_document_is_the_records_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    asked = (f"{HERE}:tiny", "--input", "x:1x3x8x8", "--backend", f"{TELLING},nul", "--out", path)
    said, written = json.loads(call(*asked, "--json").stdout), json.loads(path.read_text())
    assert said == written
    (told,), (refused,) = said["records"], said["refusals"]
    assert told["inspection"]["percentiles"].keys() == {"p50", "p90", "p99"}
    assert (told["conditions"]["backend"], told["inputs"]) == (TELLING, {"x": "1x3x8x8:float32"})
    assert (refused["backend"], refused["error"]) == ("nul", "PluginError")
    assert json.loads(call(*asked, "--format", "json").stdout).keys() == said.keys()


def test_without_any_backend_left_the_exit_code_says_whose_fault_it_is() -> None:
    arguments = (f"{HERE}:tiny", "--input", "x:1x3x8x8")
    refused = call(*arguments, "--backend", "nul", "--backend", "cppu")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "nul: no backend named" in refused.stderr
    assert "cppu: no backend named" in refused.stderr
    broken = call(*arguments, "--backend", "nul", "--backend", NULL, "-O", "fail=compile")
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert call(*arguments, "--backend", NULL, "--precision", "fp3").exit_code == 2
    assert call(*arguments, "--backend", NULL, "--threads", 4096).exit_code == 2


def test_the_slow_exporter_is_one_note_and_no_warning(capfd: pytest.CaptureFixture[str]) -> None:
    result = call(f"{HERE}:unknown", "--input", "x:2x3")
    assert result.exit_code == 0
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("measuring "))
    assert line.startswith("note: no ONNX writer for torch.det")
    assert "Warning" not in result.stderr + capfd.readouterr().err


def test_records_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.json"
    result = call(f"{HERE}:tiny", "--input", "x:1x3x8x8", "--backend", TELLING, "--operators", "--out", path)
    assert f"wrote {path}" in re.sub(r"\s+", " ", result.stdout).replace("- ", "")
    (record,) = read_records(path)
    copy = tmp_path / "b.json"
    write_records(copy, [record])
    assert read_records(copy) == [record]
    assert record.inputs == {"x": "1x3x8x8:float32"}
    assert len(record.measurement.blocks) == 24 * SESSIONS


def test_a_record_that_is_not_whole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    (record,) = measure_on_backends(model(), [NULL])
    assert isinstance(record, ModelRecord)
    write_records(path, [record, record])
    whole = json.loads(path.read_text())

    def reading(change: Any) -> str:
        document = json.loads(json.dumps(whole))
        change(document)
        path.write_text(json.dumps(document))
        with pytest.raises(StoreError) as caught:
            read_records(path)
        return str(caught.value)

    assert "record 2" in reading(lambda d: d["records"][1].pop("inputs"))
    assert "no field 'measurement'" in reading(lambda d: d["records"][0].pop("measurement"))
    assert "measurement.low is 'slow'" in reading(lambda d: d["records"][0]["measurement"].update(low="slow"))
    assert "does not contain its value" in reading(lambda d: d["records"][0]["measurement"].update(low=1e9))
    assert "speed" in reading(lambda d: d["records"][0]["conditions"].update(speed=1))
    assert "schema 99" in reading(lambda d: d.update(schema=99))
    assert "no records of latbench" in reading(lambda d: d.update(format="other"))
    path.write_text('{"format":')
    with pytest.raises(StoreError, match="is not JSON"):
        read_records(path)
    with pytest.raises(StoreError, match="latbench measure --out"):
        read_records(tmp_path / "missing.json")
    with pytest.raises(StoreError, match="choose another file"):
        write_records("/proc/none/a.json", [record])


def test_a_module_is_measured_as_it_is_handed_over() -> None:
    module = nn.Conv2d(2, 2, 3).train()
    measured = latbench.measure_model(module, "onnxruntime", inputs=torch.ones(4, 2, 8, 8), settings=SHORT)
    assert (measured.subject, module.training) == ("Conv2d", True)
    assert measured.value > 0
    named = latbench.measure_model(module, NULL, inputs={"image": np.ones((4, 2, 8, 8), np.float32)}, settings=SHORT)
    given = latbench.measure_model(model(), NullBackend(), settings=SHORT)
    assert named.value == pytest.approx(given.value)
    behind = latbench.measure_model(module, torch.ones(4, 2, 8, 8), backend=NULL, settings=SHORT)
    assert behind.value == pytest.approx(given.value)


def test_samples_and_a_backend_are_given_once() -> None:
    x = torch.ones(4, 2, 8, 8)
    with pytest.raises(UsageError, match="backend is given twice, after the model and as backend=: leave one out"):
        measure_model(model(), NULL, backend=NULL)
    with pytest.raises(UsageError, match="inputs is given twice"):
        measure_model(nn.Conv2d(2, 3, 1), x, inputs=x, backend=NULL)
    with pytest.raises(UsageError, match="'one convolution' has samples of its own: leave inputs out"):
        measure_model(model(), x)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (torch.ones(1), "backend is of type Tensor: give a backend or its name"),
        (NullBackend, r"NullBackend is a class: give an instance, NullBackend\(\)"),
    ],
)
def test_what_is_no_backend_is_refused(backend: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure_model(model(), backend=backend)


def test_a_refused_model_raises_what_the_backend_raised() -> None:
    with pytest.raises(PluginError):
        measure_model(model(), "nul")
    with pytest.raises(Exception, match="refuses one convolution") as caught:
        measure_model(model(), NullBackend(), options=CompileOptions(options={"fail": "compile"}))
    assert not isinstance(caught.value, CompileError)
