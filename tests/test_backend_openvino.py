"""What OpenVINO's backend does beyond the contract."""

from __future__ import annotations

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

pytest.importorskip("openvino", reason="pip install 'latbench[openvino]'")
from latbench_openvino import OpenVinoBackend, _check_what_came

X = np.random.default_rng(0).standard_normal((1, 16, 8, 8), dtype=np.float32)


class TestOpenVino(BackendSuite):
    backend = "latbench_openvino:OpenVinoBackend"


def convolutions(count: int = 2) -> Model:
    torch.manual_seed(0)
    return Model.from_module(nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(count))), {"x": X})


def from_nodes(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], dtype: type = np.float32) -> Model:
    """Return a model that came as an ONNX file from ``x`` to ``y``, both of one shape and type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, X.shape) for name in "xy")
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Model("net.onnx", {"x": X.astype(dtype)}, onnx=lambda: data)


def quantised() -> Model:
    """Return a convolution of int8 weights and inputs, in the format QDQ."""
    weights = np.random.default_rng(0).integers(-100, 100, (16, 16, 3, 3)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("Conv", ["d", "wd"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    return from_nodes(nodes, {"w": weights, "s": np.array(0.05, np.float32), "z": np.array(0, np.int8)})


def test_fp32_is_asked_for_and_read_back() -> None:
    """OpenVINO's own default is bf16 where the processor has it, with outputs off by 7e-3."""
    model = convolutions()
    with OpenVinoBackend().compile(model, CompileOptions()) as compiled:
        (error,) = np.abs(compiled.outputs()[0] - model.reference_outputs()[0]).max(keepdims=True).ravel()
        verify_outputs(compiled, model, "fp32")
    assert error < 1e-5


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_precision_that_the_processor_lacks_is_refused_and_one_that_it_has_is_run(precision: str) -> None:
    model, options = convolutions(), CompileOptions(precision=precision)
    has = precision.upper() in OpenVinoBackend().device().facts["capabilities"]  # type: ignore[operator]
    if has:
        with OpenVinoBackend().compile(model, options) as compiled:
            verify_outputs(compiled, model, precision)
    else:
        with pytest.raises(UsageError, match=f"no {precision} for OpenVINO, which would run fp32 instead"):
            OpenVinoBackend().compile(model, options)


class FakeNode:
    """A node of a compiled model, as OpenVINO describes it."""

    def __init__(self, kind: str, precision: str) -> None:
        self._facts = {"layerType": kind, "runtimePrecision": precision}

    def get_friendly_name(self) -> str:
        return "head/Conv"

    def get_rt_info(self) -> dict[str, object]:
        return {key: type("Any", (), {"value": value}) for key, value in self._facts.items()}


class FakeCompiled:
    """A compiled model of one thread whose nodes compute in given precisions."""

    def __init__(self, *nodes: FakeNode) -> None:
        self._nodes = nodes

    def get_property(self, name: str) -> object:
        return {"INFERENCE_NUM_THREADS": 1, "SCHEDULING_CORE_TYPE": type("Type", (), {"name": "ANY_CORE"})}[name]

    def get_runtime_model(self) -> FakeCompiled:
        return self

    def get_ops(self) -> tuple[FakeNode, ...]:
        return self._nodes


@pytest.mark.parametrize("kind", ["Convolution", "Subgraph"])
def test_another_precision_than_asked_for_is_refused_with_the_node(kind: str) -> None:
    """What bf16 hardware may do although fp32 was asked for."""
    compiled = FakeCompiled(FakeNode("Reorder", "bf16"), FakeNode("Input", "f32"), FakeNode(kind, "bf16"))
    with pytest.raises(CompileError, match=r"not compiled .* in fp32: head/Conv \(bf16\)"):
        _check_what_came(compiled, convolutions(), CompileOptions())


def test_bf16_that_runs_nowhere_is_refused() -> None:
    compiled = FakeCompiled(FakeNode("Convolution", "f32"))
    with pytest.raises(CompileError, match=r"runs nothing of .* in bf16"):
        _check_what_came(compiled, convolutions(), CompileOptions(precision="bf16"))


def test_comparisons_in_bytes_are_no_quantisation() -> None:
    _check_what_came(
        FakeCompiled(FakeNode("Subgraph", "f32"), FakeNode("Eltwise", "u8")), quantised(), CompileOptions()
    )


def test_a_quantised_file_is_refused_as_fp32_and_runs_as_int8() -> None:
    with pytest.raises(CompileError, match=r"not compiled net\.onnx in fp32: .*int8"):
        OpenVinoBackend().compile(quantised(), CompileOptions())
    with OpenVinoBackend().compile(quantised(), CompileOptions(precision="int8")) as compiled:
        assert compiled.run() > 0


def test_int8_of_a_file_without_quantised_nodes_is_refused() -> None:
    with pytest.raises(CompileError, match="runs nothing of Sequential in int8"):
        OpenVinoBackend().compile(convolutions(), CompileOptions(precision="int8"))


def test_a_half_precision_file_runs_in_the_precision_asked_for() -> None:
    weights = {"w": np.ones((16, 16, 1, 1), np.float16)}
    model = from_nodes([helper.make_node("Conv", ["x", "w"], ["y"])], weights, np.float16)
    with OpenVinoBackend().compile(model, CompileOptions()) as compiled:
        assert compiled.outputs()[0].dtype == np.float16


def test_the_clock_is_the_callers_own_for_one_thread_and_the_walls_for_more() -> None:
    backend, model = OpenVinoBackend(), convolutions()
    with backend.compile(model, CompileOptions()) as one, backend.compile(model, CompileOptions(threads=2)) as two:
        assert (one.clock, two.clock) == ("thread_cpu", "wall")
        assert one.run() > 0
        assert two.run() > 0


def test_threads_that_openvino_does_not_give_are_refused() -> None:
    with pytest.raises(UsageError, match="not 4096: give --threads"):
        OpenVinoBackend().compile(convolutions(), CompileOptions(threads=4096))


def test_cores_of_a_kind_that_the_processor_lacks_are_refused() -> None:
    backend, options = OpenVinoBackend(), CompileOptions(options={"cores": "efficiency"})
    compiled = FakeCompiled(FakeNode("Convolution", "f32"))
    with pytest.raises(UsageError, match="no efficiency cores"):
        _check_what_came(compiled, convolutions(), options)
    with pytest.raises(UsageError, match="any, performance, efficiency"):
        backend.compile(convolutions(), CompileOptions(options={"cores": "big"}))


def test_a_refused_file_is_a_compile_error_that_names_the_operator_and_not_openvinos_sources() -> None:
    model = from_nodes([helper.make_node("NoSuchOperator", ["x"], ["y"])], {})
    with pytest.raises(CompileError, match=r"OpenVINO refuses net\.onnx: .*NoSuchOperator") as caught:
        OpenVinoBackend().compile(model, CompileOptions())
    assert ".cpp" not in str(caught.value)


def test_an_input_without_sample_or_with_one_that_does_not_fit_is_named() -> None:
    model = convolutions()
    other = Model("net", {"image": X}, onnx=lambda: model.onnx)
    with pytest.raises(ModelError, match="no sample for its input 'x': give --input x:"):
        OpenVinoBackend().compile(other, CompileOptions())
    narrow = Model("net", {"x": X[..., :4]}, onnx=lambda: model.onnx)
    with pytest.raises(ModelError, match="sample of 'x' does not fit net"):
        OpenVinoBackend().compile(narrow, CompileOptions())


def test_inputs_that_are_not_contiguous_are_read_right_and_scalars_stay_scalars() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    with OpenVinoBackend().compile(Model.from_module(nn.ReLU(), {"x": x}), CompileOptions()) as compiled:
        np.testing.assert_array_equal(compiled.outputs()[0], x)
    scalar = helper.make_tensor_value_info("s", TensorProto.FLOAT, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    graph = helper.make_graph([helper.make_node("Relu", ["s"], ["y"])], "g", [scalar], [y])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    model = Model("net.onnx", {"s": np.array(2, np.float32)}, onnx=lambda: data)
    with OpenVinoBackend().compile(model, CompileOptions()) as compiled:
        assert compiled.outputs()[0].shape == ()
