"""``latbench diff``: which operators belong together, and what the command refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from latbench import cli
from latbench.backend import OperatorTime
from latbench.errors import UsageError
from latbench.measure.one_model.record import ModelRecord, read_records, write_records
from latbench.runs.operator_diff import OperatorRow, diff_operators, two_records
from tests.test_measure_many import record

HERE = "tests.test_operator_diff"


def profiled(*operators: OperatorTime, backend: str = "cpu", subject: str = "net") -> ModelRecord:
    plain = record(subject)
    return replace(
        plain,
        conditions=replace(plain.conditions, backend=backend),
        inspection=replace(plain.inspection, operators=operators),
    )


def compared(a: Sequence[OperatorTime], b: Sequence[OperatorTime]) -> dict[str, OperatorRow]:
    return {row.name: row for row in diff_operators(profiled(*a), profiled(*b)).rows}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["diff", *map(str, arguments)])


def network() -> tuple[nn.Module, Tensor]:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4))
    return layers, torch.ones(1, 3, 8, 8)


def test_what_one_runtime_fuses_is_compared_with_all_that_the_other_one_runs() -> None:
    a = [OperatorTime("Conv", "c1", 1.0), OperatorTime("Relu", "r1", 0.5), OperatorTime("Conv", "c2", 3.0)]
    b = [
        OperatorTime("Convolution", "c1/fused", 1.2, nodes=("c1/fused", "c1", "r1")),
        OperatorTime("Convolution", "c2/0", 2.0, nodes=("c2",)),
        OperatorTime("Reorder", "in", 0.1),
    ]
    rows = compared(a, b)
    assert list(rows) == ["c2", "c1 + r1", "in"]
    fused = rows["c1 + r1"]
    assert (fused.a_ms, fused.b_ms, fused.a_count, fused.b_count) == (1.5, 1.2, 2, 1)
    assert (fused.types, fused.ratio) == ("Conv + Relu / Convolution", pytest.approx(0.8))
    assert (rows["in"].a_ms, rows["in"].difference_ms, rows["in"].ratio) == (None, 0.1, None)


def test_groups_that_share_an_operator_are_one() -> None:
    a = [OperatorTime("X", "x", 1.0, nodes=("p", "q")), OperatorTime("Y", "y", 1.0, nodes=("r", "s"))]
    b = [OperatorTime("Z", "z", 1.0, nodes=("q", "r"))]
    (row,) = compared(a, b).values()
    assert (row.a_ms, row.b_ms, row.name) == (2.0, 1.0, "q + r")


def test_without_names_operators_are_joined_by_type_and_shape() -> None:
    shapes = "1x16x8x8, 16x16x3x3, 16"
    a = [OperatorTime("conv2d", shapes, 2.0, shapes), OperatorTime("linear", "1x8, 4x8, 4", 1.0, "1x8, 4x8, 4")]
    a += [OperatorTime("relu", "1x16x8x8", 0.1, "1x16x8x8"), OperatorTime("adaptive_avg_pool2d", "1x4", 0.2, "1x4")]
    b = [OperatorTime("Conv", f"c{n}", 0.5, shapes) for n in (1, 2)]
    b += [OperatorTime("Gemm", "fc", 0.5, "1x8, 4"), OperatorTime("GlobalAveragePool", "pool", 0.1, "1x4")]
    rows = compared(a, b)
    assert {row.types: (row.a_count, row.b_count) for row in rows.values()} == {
        "conv2d / Conv": (1, 2),
        "linear / Gemm": (1, 1),
        "adaptive_avg_pool2d / GlobalAveragePool": (1, 1),
        "relu": (1, 0),
    }
    assert rows[f"conv2d {shapes}"].difference_ms == -1.0


def test_no_time_is_lost() -> None:
    a = [OperatorTime("Add", "", 0.1), OperatorTime("Add", "", 0.2, "1x2"), OperatorTime("Add", "a", 0.3, "1x2")]
    b = [OperatorTime("Add", "", 0.5, "1x2"), OperatorTime("Mul", "a", 0.7)]
    rows = compared(a, b).values()
    assert sum(row.a_ms or 0 for row in rows) == pytest.approx(0.6)
    assert sum(row.b_ms or 0 for row in rows) == pytest.approx(1.2)


def test_a_record_without_operators_is_refused_with_what_measures_them() -> None:
    with pytest.raises(UsageError, match=r"net on cpu.* has no operator times: measure it with --operators"):
        diff_operators(record(), profiled(OperatorTime("Add", "a", 1.0)))


def test_two_records_come_from_one_file_or_two(tmp_path: Path) -> None:
    operator = OperatorTime("Add", "a", 1.0, "1x2", ("a", "b"))
    one, other = profiled(operator), profiled(operator, backend="openvino")
    both, single = tmp_path / "both.json", tmp_path / "single.json"
    write_records(both, [one, other])
    write_records(single, [one])
    assert read_records(single) == [one]
    assert two_records([both]) == (one, other)
    assert two_records([single, both], ["cpu"]) == (one, one)
    with pytest.raises(UsageError, match=r"both.json holds 2 records, and 1 is compared .*choose with --backend"):
        two_records([single, both])
    with pytest.raises(UsageError, match="holds 0 records, and 2 are compared"):
        two_records([both], ["mnn"])
    result = call(both)
    assert result.exit_code == 0, result.output
    assert "A: net on cpu, batch 1, threads 1: 1.000 ms; operators 1.000 ms, 1.0 x that" in result.stdout
    assert json.loads(call(both, "--json").stdout)["rows"][0]["difference_ms"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json", "net.onnx"], "a.json is compared with another .json file"),
        (["net.onnx"], "models: 1, backends: 1: two measurements are compared"),
        (["a.onnx", "b.onnx", "--backend", "cpu,onnxruntime"], "models: 2, backends: 2"),
        (["missing.onnx", "--backend", "cpu,onnxruntime"], "cannot read missing.onnx"),
    ],
)
def test_what_is_no_pair_is_refused(arguments: list[str], message: str) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_backends_of_one_model_are_compared_operator_by_operator() -> None:
    result = call(f"{HERE}:network", "--backend", "cpu,onnxruntime", "--top", 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"A: {HERE}:network on cpu, threads 1: ")
    assert len([line for line in lines if "conv2d / Conv" in line or "linear / Gemm" in line]) >= 1
    assert "--top shows more of them" in lines[-1]
