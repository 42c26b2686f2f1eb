"""``latbench measure``: any model, several backends, records that read back, and what a user can do wrong."""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from benchmarks import networks
from latbench import cli
from latbench.backend import CompileOptions, OperatorTime
from latbench.errors import CompileError, ModelError, PluginError, StoreError
from latbench.measure import inspection, measure_model, measure_on_backends
from latbench.measure.estimate import QUANTILE
from latbench.measure.models import SESSIONS, combine
from latbench.measure.record import ModelRecord, Refusal, read_records, write_records
from latbench.measurement import Measurement
from latbench.model import Model
from latbench.models.source import open_model
from latbench.onnx_export import export_onnx
from latbench.testing import NullBackend
from latbench.testing.null import CompiledNull

NULL = "latbench.testing:NullBackend"
HERE = "tests.test_measure_models"
TELLING = f"{HERE}:TellingBackend"


class TellingBackend(NullBackend):
    """The null backend, and what a backend may tell beyond the contract."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        compiled = super().compile(model, options)
        compiled.__class__ = CompiledTelling
        return compiled


class CompiledTelling(CompiledNull):
    def memory_mib(self) -> float:
        return 12.5

    def operator_times(self) -> Sequence[OperatorTime]:
        return [OperatorTime("Conv", "a", 0.3), OperatorTime("Relu", "b", 0.1), OperatorTime("Conv", "c", 0.6)]


class Masked(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor, scale: Tensor | None = None) -> Tensor:
        return ids * mask


class Unknown(nn.Module):
    """What the direct ONNX writer does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1)


def tiny() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def sampled() -> tuple[nn.Module, dict[str, Tensor]]:
    return nn.Embedding(5, 2), {"tokens": torch.tensor([[0, 4]])}


def masked() -> nn.Module:
    return Masked()


def unknown() -> nn.Module:
    return Unknown()


def with_depth(depth: int) -> nn.Module:
    return nn.Identity()


def failing() -> nn.Module:
    raise RuntimeError("the weights are gone")


def number() -> int:
    return 3


def wordy() -> nn.Module:
    class Wordy(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "a text"

    return Wordy()


def model() -> Model:
    return Model.from_module(nn.Conv2d(2, 2, 3), {"x": np.ones((4, 2, 8, 8), np.float32)}, name="one convolution")


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
    assert len(measured.blocks) == 24 * SESSIONS
    assert measured.flags == ()


def test_the_interval_comes_from_what_differs_between_sessions() -> None:
    options = CompileOptions(options={"session": "0.05"})
    measured = measure_model(model(), NullBackend(cost_ms=lambda _: 2.0), options=options)
    assert measured.low <= 2.0 <= measured.high
    assert 0.01 < measured.half_width < 0.3
    assert measured.flags == ("unstable",)


def test_the_interval_of_sessions_holds_their_lower_quartile_as_often_as_it_says() -> None:
    logs = np.random.default_rng(0).normal(scale=0.02, size=(2000, SESSIONS))
    combined = [combine([Measurement("a", "model", v, v, v) for v in row], 0.01) for row in np.exp(logs)]
    truth = math.exp(np.quantile(logs, QUANTILE, axis=1).mean())
    assert np.mean([m.low <= truth <= m.high for m in combined]) == pytest.approx(0.95, abs=0.015)


def test_a_backend_that_is_missing_or_refuses_leaves_the_others_alone() -> None:
    results = measure_on_backends(open_model(f"{HERE}:tiny", ["x:1x3x8x8"]), ["nul", NULL, "onnxruntime"])
    assert [type(result) for result in results] == [Refusal, ModelRecord, ModelRecord]
    assert isinstance(results[0], Refusal)
    assert isinstance(results[0].error, PluginError)
    failing_options = CompileOptions(options={"fail": "compile"})
    (refusal,) = measure_on_backends(model(), [NULL], options=failing_options)
    assert isinstance(refusal, Refusal)
    assert "refuses one convolution" in str(refusal.error)


def test_throughput_counts_the_inputs_of_a_batch() -> None:
    (record,) = measure_on_backends(model(), [NULL])
    assert isinstance(record, ModelRecord)
    assert record.conditions.backend == NULL
    assert record.inputs_per_second == pytest.approx(4 / record.measurement.value * 1e3)


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
    silent, telling = measure_on_backends(model(), [NULL, TELLING], with_operators=True)
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
    assert re.search(r"p50 +p90 +p99 +inputs/s", rows["backend"])
    assert "no backend named 'nul'" in rows["nul:"]
    result = call(f"{HERE}:tiny", "--input", "x:1x3x8x8", "--backend", NULL, "--backend", TELLING, "--operators")
    assert f"{NULL} cannot tell" in result.stdout
    assert re.search(r"Conv +2 +0\.9 +90\.0%\s+Relu +1 +0\.1 +10\.0%", result.stdout)


def test_the_json_document_has_a_row_for_every_backend() -> None:
    result = call(f"{HERE}:tiny", "--input", "x:1x3x8x8", "--backend", TELLING, "--backend", "nul", "--json")
    assert result.exit_code == 0
    told, refused = json.loads(result.stdout)
    assert told["percentiles"].keys() == {"p50", "p90", "p99"}
    assert (told["backend"], told["memory_mib"], told["inputs"]) == (TELLING, 12.5, {"x": "1x3x8x8:float32"})
    assert refused.keys() == {"backend", "error"}


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
    assert result.stderr.startswith("note: no ONNX writer for torch.cumsum")
    assert result.stderr.count("\n") == 1
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
    assert "does not hold its value" in reading(lambda d: d["records"][0]["measurement"].update(low=1e9))
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


# Models


def test_samples_of_a_factory_keep_their_values_and_fill_a_batch() -> None:
    opened = open_model(f"{HERE}:sampled", batch=3)
    np.testing.assert_array_equal(opened.inputs["tokens"], [[0, 4]] * 3)
    assert open_model(f"{HERE}:sampled", ["tokens:2x7"]).inputs["tokens"].dtype == np.int64


def test_a_factory_gives_the_same_weights_every_time_and_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again = (open_model(f"{HERE}:tiny", ["x:1x3x8x8"]).reference_outputs()[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.rand(1) == expected


def test_inputs_are_sorted_as_the_module_takes_them() -> None:
    assert list(open_model(f"{HERE}:masked", ["mask:1x1", "ids:2x3"]).inputs) == ["ids", "mask"]
    assert list(open_model(f"{HERE}:masked", ["a:1x1", "b:2x3"]).inputs) == ["a", "b"]


def test_a_batch_fills_a_free_first_dimension_and_the_type_is_the_files(tmp_path: Path) -> None:
    path = str(onnx_file(tmp_path / "free.onnx", shape=("n", 3, 8, 8)))
    assert open_model(path, batch=5).inputs["x"].shape == (5, 3, 8, 8)
    assert open_model(path, ["x:2x3x8x8"], batch=5).inputs["x"].shape == (5, 3, 8, 8)
    with pytest.raises(ModelError, match=r"\?x3x8x8\): give --input x:1x3x8x8:float32 or --batch 1"):
        open_model(path)
    with pytest.raises(ModelError, match="is 1x3x8x8, not 5x3x8x8"):
        open_model(str(onnx_file(tmp_path / "fixed.onnx")), batch=5)


def test_weights_beside_an_onnx_file_are_read_and_missed(tmp_path: Path) -> None:
    x = np.ones((1, 64), np.float32)
    data = export_onnx(nn.Linear(64, 64).eval(), {"x": x})
    path = tmp_path / "net.onnx"
    loaded = onnx.load_model_from_string(data)
    onnx.save(loaded, path, save_as_external_data=True, location="net.onnx.data", size_threshold=16)
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    np.testing.assert_array_equal(
        onnxruntime.InferenceSession(open_model(str(path)).onnx).run(None, {"x": x})[0], expected
    )
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"weights beside .*keep both files in one folder"):
        open_model(str(path))


MISTAKES = [
    (["missing.onnx"], "cannot read missing.onnx"),
    (["missing.pt2"], "cannot read missing.pt2"),
    (["net.tflite"], "ends in .onnx or .pt2"),
    (["net.onnx", "--input", "y:1x3x8x8"], "has no input 'y': it takes x"),
    (["net.onnx", "--input", "x:1x3x9x9"], "is 1x3x8x8, not 1x3x9x9"),
    (["net.onnx", "--input", "x:1x3x8x8:int64"], "is float32, not int64"),
    (["net.onnx", "--backend", "cpu"], "came as an ONNX file"),
    ([f"{HERE}:tiny"], "give --input"),
    ([f"{HERE}:tiny", "--input", "x:1x3x8x8:flaot32"], "has no type 'flaot32'"),
    ([f"{HERE}:tiny", "--input", "x:0x3x8x8"], "name:shape:dtype"),
    ([f"{HERE}:tiny", "--input", "x:1x3x8x8", "--input", "x:1x3x8x8"], "given twice"),
    ([f"{HERE}:tiny", "--input", "x:1x4x8x8"], "does not run on x:1x4x8x8:float32 (RuntimeError"),
    ([f"{HERE}:sampled", "--input", "token:1x2"], "did you mean 'tokens'"),
    ([f"{HERE}:masked", "--input", "ids:1x2", "--input", "msk:1x2"], "has no input 'msk': its forward takes ids, mask"),
    ([f"{HERE}:masked", "--input", "ids:1x2", "--input", "scale:1x2"], "also needs 'mask'"),
    ([f"{HERE}:masked", "--input", "ids:1x2"], "missing 1 required positional argument: 'mask'"),
    ([f"{HERE}:with_depth", "--input", "x:1"], "takes arguments"),
    ([f"{HERE}:failing", "--input", "x:1"], "raised RuntimeError: the weights are gone"),
    ([f"{HERE}:number", "--input", "x:1"], "returned int: return a torch.nn.Module"),
    ([f"{HERE}:HERE", "--input", "x:1"], "is a str: name a function"),
    ([f"{HERE}:wordy", "--input", "x:1"], "returns a str: wrap it"),
    ([f"{HERE}:none_such", "--input", "x:1"], "cannot find the factory"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_explained(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    onnx_file(tmp_path / "net.onnx")
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr


# Networks as they are deployed


@pytest.mark.parametrize(
    ("factory", "parameters"),
    [
        (networks.resnet18, 11_689_512),  # as torchvision counts them
        (networks.mobilenet_v2, 3_504_872),
        (networks.vit_tiny, 5_717_416),  # as timm does
        (networks.text_encoder, 11_104_256),
    ],
)
def test_real_networks_have_the_size_of_the_papers_and_are_written_directly(factory: Any, parameters: int) -> None:
    module, sample = factory()
    assert sum(p.numel() for p in module.parameters()) == parameters
    wrapped = Model.from_module(module, {name: value.numpy() for name, value in sample.items()})
    session = onnxruntime.InferenceSession(wrapped.onnx, providers=["CPUExecutionProvider"])
    (given,), (expected,) = session.run(None, wrapped.inputs), wrapped.reference_outputs()
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_refused_model_raises_what_the_backend_raised() -> None:
    with pytest.raises(PluginError):
        measure_model(model(), "nul")
    with pytest.raises(Exception, match="refuses one convolution") as caught:
        measure_model(model(), NullBackend(), options=CompileOptions(options={"fail": "compile"}))
    assert not isinstance(caught.value, CompileError)
