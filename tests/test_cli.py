"""The command line: the whole loop on the null backend, exit codes, one JSON document, and mistakes explained."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from latbench import cli
from latbench.cli import COMMANDS, profile_command
from latbench.measure.settings import Settings
from latbench.onnx_export import export_onnx
from latbench.store import Store

SPACE = ["--space", "nasbench201", "-S", "cells=1", "-S", "channels=4", "-S", "image=8"]
NULL = ["--backend", "latbench.testing:NullBackend", "-O", "noise=0.01", "--verify", "none"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def document(*arguments: object) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "null.db"
    result = call("profile", *SPACE, *NULL, "--samples", 40, "--operators", "--store", path)
    assert result.exit_code == 0, result.output
    assert "40 architectures" in result.stdout
    return path


@pytest.fixture(scope="module")
def predictor(store: Path) -> Path:
    path = store.parent / "mlp.safetensors"
    assert call("fit", store, "--predictor", "mlp", "--out", path).exit_code == 0
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert f"latbench {command}" in result.stdout.split("Examples:")[1]


def test_profile_as_json_says_what_it_holds(store: Path) -> None:
    said = document("profile", *SPACE, *NULL, "--samples", 40, "--operators", "--store", store)
    assert (said["architectures"], said["measured_now"], said["left"]) == (40, 0, 0)
    assert said["noise_floor"]["mape"] < 0.02


def test_compare_prints_every_predictor_beside_the_floor(store: Path) -> None:
    said = document("compare", store, "--predictors", "mlp,gbdt,lookup", "--train", "20", "--seeds", "2")
    assert {row["predictor"] for row in said["rows"]} == {"constant", "mlp", "gbdt", "lookup"}
    table = call("compare", store, "--predictors", "lookup", "--train", "20", "--seeds", "1").stdout
    assert "noise floor" in table


def test_predict_reads_arguments_and_files_alike(predictor: Path, tmp_path: Path) -> None:
    texts = document("spaces", "nasbench201", "--samples", 3)["samples"]
    listed = tmp_path / "architectures.txt"
    listed.write_text("\n".join(texts))
    assert document("predict", predictor, *texts) == document("predict", predictor, "--file", listed)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_table_goes_out_and_comes_back(store: Path, tmp_path: Path, suffix: str) -> None:
    table = tmp_path / f"table.{suffix}"
    written = document("export", store, table)["rows"]
    copy = tmp_path / "copy.db"
    assert document("import", table, "--store", copy)["rows"] == written
    assert document("import", table, "--store", copy)["rows"] == 0
    with Store(store) as a, Store(copy) as b:
        assert (a.identity, a.conditions) == (b.identity, b.conditions)
        for mine, theirs in zip(a.measurements(), b.measurements(), strict=True):
            assert replace(mine, blocks=()) == replace(theirs, blocks=())
            np.testing.assert_allclose(mine.blocks, theirs.blocks, rtol=1e-5)


def test_measure_takes_a_file_and_a_factory(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    path = tmp_path / "net.onnx"
    path.write_bytes(export_onnx(net, {"x": np.zeros((1, 3, 8, 8), np.float32)}))
    (row,) = document("measure", path)["records"]
    assert 0 < row["measurement"]["low"] <= row["measurement"]["value"] <= row["measurement"]["high"]
    said = document("measure", "tests.test_cli:tiny", "--input", "x:1x3x8x8", "--backend", "cpu,onnxruntime")
    assert [row["conditions"]["backend"] for row in said["records"]] == ["cpu", "onnxruntime"]


def tiny() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def test_search_closes_the_loop(predictor: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    out = tmp_path / "search"
    said = document(
        "search", predictor, "--data", "tests.test_cli:few_images", "--out", out, "--epochs", 2, "--train-epochs", 1
    )
    assert [row["asked"] is None for row in said["rows"]] == [True, False]
    assert all(row["measured"] > 0 for row in said["rows"])
    assert {"final.json", "search.png", "cells-1.png"} <= {path.name for path in out.iterdir()}
    assert (out / "target-none" / "genotype.txt").read_text().strip() == said["rows"][0]["architecture"]


def few_images() -> Any:
    from latbench.search import Images

    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((64, 3, 8, 8), dtype=np.float32))
    y = torch.arange(64) % 10
    return Images("few", x, y, x, y)


MISTAKES = [
    (["profile", *SPACE, "-O", "nose=1", *NULL, "--samples", 1, "--store", "a.db"], "did you mean 'noise'"),
    (["profile", "--space", "drats", "--samples", 1, "--store", "a.db"], "did you mean 'darts'"),
    (["profile", *SPACE, "--backend", "cppu", "--samples", 1, "--store", "a.db"], "did you mean 'cpu'"),
    (["profile", *SPACE, *NULL, "--samples", 0, "--store", "a.db"], "--samples 1 or more"),
    (["profile", *SPACE, *NULL, "--samples", 1, "--store", "/proc/none/a.db"], "choose a folder"),
    (["profile", *SPACE, "-S", "cells=many", *NULL, "--samples", 1, "--store", "a.db"], "not an integer"),
    (["profile", *SPACE, *NULL, "--samples", 1, "--store", "a.db", "--budget", "soon"], "not a duration"),
    (["profile", *SPACE, "--backend", "cuda", "--samples", 1, "--store", "a.db"], "CUDA"),
    (["fit", "missing.db"], "latbench profile"),
    (["compare", "missing.db", "--train", "many"], "list of numbers"),
    (["predict", "missing.safetensors", "x"], "missing.safetensors"),
    (["measure", "missing.onnx"], "cannot read missing.onnx"),
    (["measure", "net.tflite"], "is not a model"),
    (["measure", "nowhere:factory", "--input", "x:1x3"], "cannot find the factory"),
    (["measure", "tests.test_cli:tiny", "--input", "x=1x3x8x8"], "name:shape:dtype"),
    (["export", "missing.db", "a.parquet"], "latbench profile"),
    (["import", "missing.parquet", "--store", "a.db"], "no file"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_explained_and_exits_with_2(
    arguments: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_a_mistake_is_also_one_json_document(tmp_path: Path) -> None:
    result = call("fit", tmp_path / "missing.db", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["type"] == "StoreError"


def test_a_store_of_another_space_is_refused(store: Path) -> None:
    result = call("profile", "--space", "darts", *NULL, "--samples", 1, "--store", store)
    assert result.exit_code == 2
    assert "darts(cells=8" in result.stderr
    assert "nasbench201(cells=1" in result.stderr


def test_a_genotype_that_does_not_parse_says_where(predictor: Path) -> None:
    result = call("predict", predictor, "|nor_conv_3x3~0|+|nor_conv_9x9~0|none~1|+|none~0|none~1|none~2|")
    assert result.exit_code == 2
    assert "nor_conv_9x9" in result.stderr


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x00 not a protobuf \xff" * 10)
    result = call("measure", path)
    assert result.exit_code == 2
    assert "not an ONNX model" in result.stderr


def test_a_free_dimension_asks_for_the_shape(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    path = tmp_path / "free.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    result = call("measure", path)
    assert result.exit_code == 2
    assert "--input x:" in result.stderr
    assert call("measure", path, "--input", "x:4x3:float32").exit_code == 0


def test_profile_measures_as_a_caller_in_python_does_unless_told_otherwise() -> None:
    given = inspect.signature(profile_command.run).parameters
    for name in ("half_width", "max_rounds", "cache", "verify"):
        assert given[name].default == getattr(Settings(), name)
