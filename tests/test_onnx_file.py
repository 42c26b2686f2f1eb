"""Files that ONNX Runtime loads are opened: weights elsewhere, odd dimensions, what a file declares of itself."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from latbench.backend import CompileOptions
from latbench.errors import ModelError
from latbench.model import onnx_file as reading
from latbench.model.onnx_file import read_onnx
from latbench.model.source import open_model
from latbench_onnxruntime import OnnxRuntimeBackend
from tests.test_model_inputs import FLOAT, INT64, onnx_file, run

WEIGHT = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
BESIDE: dict[str, Any] = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
TYPES = {"fp32": np.float32, "fp16": np.float16, "fp64": np.float64}


def product(path: Path) -> str:
    """Write a product of ``x`` with a weight that lies in a file of its own."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return onnx_file(path, [node], {"x": (FLOAT, [1, 4])}, {"w": WEIGHT}, **BESIDE)


def test_weights_behind_links_are_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    expected = run(product(blobs / "net.onnx"), "x=1")
    (blobs / "net.onnx").rename(blobs / "aaa")
    (blobs / "w.bin").rename(blobs / "bbb")
    (snapshot / "net.onnx").symlink_to("../../blobs/aaa")
    (snapshot / "w.bin").symlink_to("../../blobs/bbb")
    np.testing.assert_array_equal(run(str(snapshot / "net.onnx"), "x=1"), expected)
    np.testing.assert_allclose(expected[0], WEIGHT.sum(0), rtol=1e-5)


def test_weights_in_constants_and_in_branches_are_read(tmp_path: Path) -> None:
    def branch(name: str, factor: float) -> onnx.GraphProto:
        value = numpy_helper.from_array(WEIGHT * np.float32(factor), "w")
        nodes = [helper.make_node("Constant", [], ["k"], value=value), helper.make_node("MatMul", ["x", "k"], [name])]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, FLOAT, None)])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("a", 1.0), else_branch=branch("b", 2.0))
    inputs = {"x": (FLOAT, [1, 4]), "flag": (TensorProto.BOOL, [])}
    path = onnx_file(tmp_path / "if.onnx", [node], inputs, convert_attribute=True, **BESIDE)
    assert (tmp_path / "w.bin").stat().st_size >= 2 * WEIGHT.nbytes
    np.testing.assert_allclose(run(path, "x=1", "flag=true")[0], WEIGHT.sum(0), rtol=1e-5)
    np.testing.assert_allclose(run(path, "x=1", "flag=false")[0], 2 * WEIGHT.sum(0), rtol=1e-5)


def test_a_file_too_large_for_one_message_is_opened_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = product(tmp_path / "net.onnx")
    expected = run(path, "x=1")
    monkeypatch.setattr(reading, "MOST_BYTES", 10)
    model = open_model(path, ["x=1"])
    assert model.path == Path(path)
    np.testing.assert_array_equal(run(model), expected)
    with pytest.raises(ModelError, match="holds 2 GiB or more: measure it on a backend that opens files by their path"):
        model.onnx  # noqa: B018


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd"])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = product(tmp_path / "inner" / "net.onnx")
    os.rename(tmp_path / "inner" / "w.bin", tmp_path / "w.bin")
    loaded = onnx.load_model(path, load_external_data=False)
    loaded.graph.initializer[0].external_data[0].value = location
    Path(path).write_bytes(loaded.SerializeToString())
    with pytest.raises(ModelError, match="outside its own folder"):
        open_model(path)


def test_weights_that_end_early_are_refused(tmp_path: Path) -> None:
    path = product(tmp_path / "net.onnx")
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"w.bin is too short for the weight 'w'"):
        open_model(path)


def test_dimensions_may_be_free_negative_or_zero(tmp_path: Path) -> None:
    node = helper.make_node("Concat", ["past", "x"], ["y"], axis=0)
    path = onnx_file(tmp_path / "zero.onnx", [node], {"past": (FLOAT, [0, 3]), "x": (FLOAT, [1, 3])})
    assert open_model(path).inputs["past"].shape == (0, 3)
    assert run(path).shape == (1, 3)
    path = onnx_file(tmp_path / "free.onnx", [node], {"past": (FLOAT, ["past_len", 3]), "x": (FLOAT, [-1, 3])})
    assert run(path, "past:0x3", "x:2x3").shape == (2, 3)
    with pytest.raises(ModelError, match=r"input 'past' .* \(\?x3\): give --input past:1x3:float32, or"):
        open_model(path, ["x:2x3"])


def test_names_may_hold_colons_and_nodes_come_in_any_order(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["r"], ["y"]), helper.make_node("Relu", ["serving:0"], ["r"])]
    path = onnx_file(tmp_path / "net.onnx", nodes, {"serving:0": (FLOAT, ["N"])})
    np.testing.assert_array_equal(run(path, "serving:0:3=2"), [-2, -2, -2])


def test_bfloat16_goes_in_and_comes_out(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    path = onnx_file(tmp_path / "net.onnx", [node], {"x": (TensorProto.BFLOAT16, [2])}, result=TensorProto.BFLOAT16)
    given = run(path, "x=1.5")
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, [1.5, 1.5])


@pytest.mark.parametrize("precision", sorted(TYPES))
def test_the_precision_of_a_file_is_that_of_its_weights(precision: str, tmp_path: Path) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[precision]))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": WEIGHT.astype(TYPES[precision])}
    path = onnx_file(tmp_path / "net.onnx", [node], {"x": (kind, [1, 4])}, weights, result=kind)
    assert read_onnx(path).precision == precision
    quantised = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("Cast", ["q"], ["y"], to=1),
    ]
    assert read_onnx(onnx_file(tmp_path / "q.onnx", quantised, {"x": (FLOAT, [4])})).precision == "int8"


def test_a_file_that_computes_nothing_from_its_inputs_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["w"], ["y"])
    with pytest.raises(ModelError, match=r"no output of .* depends on its inputs"):
        open_model(onnx_file(tmp_path / "net.onnx", [node], {"x": (FLOAT, [1])}, {"w": WEIGHT}))
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [], [helper.make_tensor_value_info("r", FLOAT, None)]
    )
    chosen = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    path = onnx_file(tmp_path / "if.onnx", [chosen], {"x": (FLOAT, [1])}, {"yes": np.bool_(True)})
    assert open_model(path).inputs["x"].shape == (1,)


def test_what_is_no_tensor_of_numbers_is_refused_by_its_kind(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    with pytest.raises(ModelError, match=r"input 'x' of .* is a tensor of another type, not a tensor of numbers"):
        open_model(onnx_file(tmp_path / "a.onnx", [node], {"x": (TensorProto.STRING, [1])}))
    for data in (b"", b"no model", b"\x08\x07"):
        (tmp_path / "b.onnx").write_bytes(data)
        with pytest.raises(ModelError, match="is not an ONNX model"):
            open_model(str(tmp_path / "b.onnx"))


def test_indices_are_followed_to_their_tables_also_in_branches_and_quantised(tmp_path: Path) -> None:
    weights = {"q": np.zeros((9, 2), np.int8), "scale": np.float32(1), "zero": np.int8(0), "small": np.zeros((3, 5))}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["table"]),
        helper.make_node("Gather", ["table", "a"], ["first"]),
        helper.make_node("Unsqueeze", ["b", "axis"], ["row"]),
        helper.make_node("Gather", ["small", "row"], ["second"], axis=1),
        helper.make_node("Cast", ["first"], ["y"], to=FLOAT),
    ]
    inputs = {"a": (INT64, [1]), "b": (INT64, [1]), "c": (INT64, [1])}
    path = onnx_file(tmp_path / "net.onnx", nodes, inputs, {**weights, "axis": np.zeros(1, np.int64)})
    assert [value.rows for value in read_onnx(path).inputs] == [9, 5, 0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_model(path)
    assert len(caught) == 3


def test_operators_that_no_runtime_has_are_its_own_business_to_refuse(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    assert run(onnx_file(tmp_path / "net.onnx", [node], {"x": (FLOAT, [3])})).shape == (3,)
    path = onnx_file(tmp_path / "own.onnx", [helper.make_node("Mine", ["x"], ["y"], domain="my")], {"x": (FLOAT, [3])})
    with pytest.raises(Exception, match=r"ONNX Runtime refuses own\.onnx"):
        OnnxRuntimeBackend().compile(open_model(path), CompileOptions())
