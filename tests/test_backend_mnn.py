"""What MNN's backend does beyond the contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from latbench.backend import CompileOptions
from latbench.errors import CompileError, ModelError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench.testing import BackendSuite

pytest.importorskip("MNN", reason="pip install 'latbench[mnn]'")
from latbench_mnn import MnnBackend

X = np.random.default_rng(0).standard_normal((1, 16, 8, 8), dtype=np.float32)
TABLE = np.random.default_rng(0).standard_normal((10, 4), dtype=np.float32)


class TestMnn(BackendSuite):
    backend = "latbench_mnn:MnnBackend"


def convolutions(count: int = 2) -> Model:
    torch.manual_seed(0)
    return Model.from_module(nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(count))), {"x": X})


def from_nodes(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, np.ndarray],
    outputs: dict[str, tuple[int, list[int]]],
    weights: dict[str, np.ndarray] | None = None,
) -> Model:
    """Return a model that came as an ONNX file; outputs are given by type and shape."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, *declared) for name, declared in outputs.items()]
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", values, results, initializers)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Model("net.onnx", inputs, onnx=lambda: data)


def test_it_computes_in_fp32() -> None:
    model = convolutions()
    with MnnBackend().compile(model, CompileOptions()) as compiled:
        assert np.abs(compiled.outputs()[0] - model.reference_outputs()[0]).max() < 1e-5


def test_runs_leave_the_samples_as_they_are() -> None:
    """MNN gives the memory of the inputs to later operators, so that a second run would compute something else."""
    model = convolutions(6)
    with MnnBackend().compile(model, CompileOptions()) as compiled:
        for _ in range(5):
            compiled.run()
        verify_outputs(compiled, model, "fp32")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_that_cannot_be_read_back_is_refused(precision: str) -> None:
    with pytest.raises(UsageError, match=f"runs fp32, not {precision}"):
        MnnBackend().compile(convolutions(), CompileOptions(precision=precision))


def test_the_clock_is_the_callers_own_for_one_thread_and_the_walls_for_more() -> None:
    backend, model = MnnBackend(), convolutions()
    with backend.compile(model, CompileOptions()) as one, backend.compile(model, CompileOptions(threads=2)) as two:
        assert (one.clock, two.clock) == ("thread_cpu", "wall")
        assert one.run() > 0
        assert two.run() > 0


def test_threads_that_mnn_does_not_give_are_refused() -> None:
    with pytest.raises(UsageError, match="not 4096: give --threads"):
        MnnBackend().compile(convolutions(), CompileOptions(threads=4096))


def test_an_operator_that_mnn_lacks_is_named() -> None:
    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"])]
    with pytest.raises(CompileError, match=r"MNN refuses net\.onnx: .*NoSuchOperator"):
        MnnBackend().compile(from_nodes(nodes, {"x": X}, {"y": (TensorProto.FLOAT, [1])}), CompileOptions())


def test_a_file_that_mnn_says_it_has_converted_but_cannot_run_is_refused() -> None:
    """Weights in the format QDQ: the converter takes the input's first dimension for its channels."""
    weights = np.random.default_rng(0).integers(-100, 100, (16, 16, 3, 3)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("Conv", ["d", "wd"], ["y"], pads=[1, 1, 1, 1]),
    ]
    constants = {"w": weights, "s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    model = from_nodes(nodes, {"x": X}, {"y": (TensorProto.FLOAT, list(X.shape))}, constants)
    with pytest.raises(CompileError, match=r"MNN refuses net\.onnx: .*convolution shape"):
        MnnBackend().compile(model, CompileOptions())


def test_an_input_without_sample_is_named() -> None:
    model = convolutions()
    other = Model("net", {"image": X}, onnx=lambda: model.onnx)
    with pytest.raises(ModelError, match="no sample for its input 'x': give --input x:"):
        MnnBackend().compile(other, CompileOptions())


def test_outputs_come_in_the_files_order_and_integers_are_taken_where_they_fit() -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["z:0"]), helper.make_node("Relu", ["z:0"], ["a"])]
    ids = np.array([[3, 1, 7]], np.int64)
    outputs = {"z:0": (TensorProto.FLOAT, [1, 3, 4]), "a": (TensorProto.FLOAT, [1, 3, 4])}
    model = from_nodes(nodes, {"ids": ids}, outputs, {"table": TABLE})
    with MnnBackend().compile(model, CompileOptions()) as compiled:
        gathered, positive = compiled.outputs()
    np.testing.assert_array_equal(gathered, TABLE[ids])
    np.testing.assert_array_equal(positive, np.maximum(TABLE[ids], 0))


def test_a_sample_that_mnns_type_does_not_hold_is_refused() -> None:
    nodes = [helper.make_node("Mul", ["n", "n"], ["y"])]
    model = from_nodes(nodes, {"n": np.array([2**40], np.int64)}, {"y": (TensorProto.INT64, [1])})
    with pytest.raises(ModelError, match="MNN has int32 for the input 'n'"):
        MnnBackend().compile(model, CompileOptions())


def test_free_dimensions_take_the_samples_shape() -> None:
    model = convolutions()
    wide = Model("net", {"x": np.concatenate([X, X])}, onnx=lambda: free_batch(model.onnx))
    with MnnBackend().compile(wide, CompileOptions()) as compiled:
        np.testing.assert_allclose(compiled.outputs()[0][1:], model.reference_outputs()[0], atol=1e-5)


def free_batch(data: bytes) -> bytes:
    model = onnx.load_model_from_string(data)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model.SerializeToString()


def test_inputs_that_are_not_contiguous_are_read_right() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    with MnnBackend().compile(Model.from_module(nn.ReLU(), {"x": x}), CompileOptions()) as compiled:
        np.testing.assert_array_equal(compiled.outputs()[0], x)


def test_nothing_that_mnn_prints_reaches_the_output_of_the_process(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import numpy as np\nfrom torch import nn\nfrom latbench.backend import CompileOptions\n"
        "from latbench.model import Model\nfrom latbench_mnn import MnnBackend\n"
        "print('before')\n"
        "model = Model.from_module(nn.ReLU(), {'x': np.zeros((1, 4), np.float32)})\n"
        "with MnnBackend().compile(model, CompileOptions()) as compiled:\n    compiled.run()\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "after"]
    assert done.stderr == ""
