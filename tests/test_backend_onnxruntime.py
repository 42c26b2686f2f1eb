"""What ONNX Runtime's backend does beyond the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from latbench.backend import CompileOptions
from latbench.errors import CompileError, ModelError, UsageError
from latbench.measure.verify import verify_outputs
from latbench.model import Model
from latbench_onnxruntime import OnnxRuntimeBackend

X = np.random.default_rng(0).standard_normal((1, 16, 32, 32), dtype=np.float32)


def convolutions(count: int = 8) -> Model:
    torch.manual_seed(0)
    return Model.from_module(nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(count))), {"x": X})


def identity(name: str, **inputs: np.ndarray) -> Model:
    """Return a model that came as an ONNX file with one input ``x``."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "g", [value], [result])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Model("net.onnx", inputs, onnx=lambda: data)


@pytest.mark.parametrize("optimization", ["all", "extended", "basic", "disabled"])
def test_every_optimisation_computes_the_same(optimization: str) -> None:
    options = CompileOptions(options={"optimization": optimization})
    model = convolutions()
    with OnnxRuntimeBackend().compile(model, options) as compiled:
        verify_outputs(compiled, model, "fp32")


def test_all_optimisations_are_the_default_and_faster_than_none() -> None:
    backend, model = OnnxRuntimeBackend(), convolutions()
    with (
        backend.compile(model, CompileOptions()) as fast,
        backend.compile(model, CompileOptions(options={"optimization": "disabled"})) as slow,
    ):
        assert min(fast.run() for _ in range(20)) < min(slow.run() for _ in range(20))


def test_a_misspelt_optimisation_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match="all, extended, basic, disabled"):
        OnnxRuntimeBackend().compile(convolutions(), CompileOptions(options={"optimization": "al"}))


def test_the_clock_is_the_callers_own_for_one_thread_and_the_walls_for_more() -> None:
    backend, model = OnnxRuntimeBackend(), convolutions()
    with (
        backend.compile(model, CompileOptions(threads=1)) as one,
        backend.compile(model, CompileOptions(threads=2)) as two,
    ):
        assert (one.clock, two.clock) == ("thread_cpu", "wall")
        assert one.run() > 0
        assert two.run() > 0


def test_a_refused_file_is_a_compile_error_that_names_the_model() -> None:
    with pytest.raises(CompileError, match=r"ONNX Runtime refuses net\.onnx: .*NoSuchOperator"):
        OnnxRuntimeBackend().compile(identity("NoSuchOperator", x=X[0, :1, 0, :4]), CompileOptions())


def test_an_input_without_sample_is_named() -> None:
    with pytest.raises(ModelError, match="no sample for its input 'x': give --input x:"):
        OnnxRuntimeBackend().compile(identity("Relu", image=X[0, :1, 0, :4]), CompileOptions())


def test_samples_belong_to_inputs_by_name_and_keep_their_values() -> None:
    left, right = np.float32([[1, 2]]), np.float32([[5, 7]])
    model = Model.from_module(Subtract(), {"left": left, "right": right})
    swapped = Model("swapped", {"right": right, "left": left}, onnx=lambda: model.onnx)
    with OnnxRuntimeBackend().compile(swapped, CompileOptions()) as compiled:
        del left, right
        compiled.run()
        np.testing.assert_array_equal(compiled.outputs()[0], [[-4, -5]])


class Subtract(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left - right


def test_inputs_that_are_not_contiguous_are_read_right() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    with OnnxRuntimeBackend().compile(Model.from_module(nn.ReLU(), {"x": x}), CompileOptions()) as compiled:
        np.testing.assert_array_equal(compiled.outputs()[0], x)
