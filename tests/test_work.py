"""What a model computes: counted alike from its module and from its ONNX file, and unknown where nothing can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from latbench.measure.work import Work, work_of
from latbench.measure.work.convolution import WINOGRAD
from latbench.model import Model


def from_file(model: Model) -> Model:
    return Model(model.name, model.inputs, onnx=lambda: model.onnx)


def network(*layers: nn.Module, shape: tuple[int, ...]) -> Model:
    return Model.from_module(nn.Sequential(*layers), {"x": np.zeros(shape, np.float32)})


def file(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int]) -> Model:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(weight, name) for name, weight in weights.items()]
    graph = helper.make_graph(nodes, "g", [value], [out], initializers)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Model("file", {"x": np.zeros(shape, np.float32)}, onnx=lambda: data)


@pytest.mark.parametrize(
    ("model", "macs", "least_share"),
    [
        (network(nn.Conv2d(3, 8, 1), shape=(2, 3, 8, 8)), 2 * 64 * 3 * 8, 1),
        (network(nn.Conv2d(3, 8, 3), shape=(1, 3, 10, 10)), 64 * 27 * 8, 1 / WINOGRAD),
        (network(nn.Conv2d(3, 8, 3, stride=2), shape=(1, 3, 11, 11)), 25 * 27 * 8, 1),
        # Of nine taps, the one in the middle meets the only element.
        (network(nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=1), shape=(1, 3, 1, 1)), 27 * 8, 1 / 9),
        (network(nn.Conv2d(8, 8, 3, padding=24, dilation=24), shape=(1, 8, 8, 8)), 64 * 72 * 8, 1 / 9),
        (network(nn.Conv2d(8, 8, 3, groups=8), shape=(1, 8, 6, 6)), 16 * 9 * 8, 1),
        (network(nn.Conv1d(4, 8, 3, padding="same"), shape=(1, 4, 3)), 3 * 12 * 8, 7 / 9),
        (network(nn.ConvTranspose2d(4, 8, 2, stride=2), shape=(1, 4, 5, 5)), 4 * 25 * 8 * 4, 1),
        (network(nn.Linear(16, 4), shape=(3, 16)), 3 * 16 * 4, 1),
    ],
    ids=lambda value: "" if isinstance(value, Model) else str(value),
)
def test_a_module_and_its_file_do_the_same_work(model: Model, macs: int, least_share: float) -> None:
    for counted in (work_of(model), work_of(from_file(model))):
        assert counted.macs == macs
        assert counted.least_flops == pytest.approx(2 * macs * least_share)
        assert counted.parameters == sum(p.numel() for p in model.module.parameters())
        assert counted.weights_mib == pytest.approx(counted.parameters * 4 / 2**20)


def test_what_a_runtime_need_not_do_is_not_counted() -> None:
    weight = np.zeros((4, 4), np.float32)
    nodes = [
        helper.make_node("MatMul", ["w", "w"], ["folded"]),
        helper.make_node("MatMul", ["x", "folded"], ["a"]),
        helper.make_node("MatMul", ["x", "folded"], ["again"]),
        helper.make_node("MatMul", ["x", "w"], ["unused"]),
        helper.make_node("Add", ["a", "again"], ["y"]),
    ]
    assert work_of(file(nodes, {"w": weight}, [3, 4])).macs == 3 * 4 * 4


def test_a_branch_need_not_be_taken() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        inputs = ["x", "w"] if operator == "MatMul" else ["x"]
        return helper.make_graph([helper.make_node(operator, inputs, [name])], name, [], [out])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ReduceSum", ["z"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("t", "MatMul"), else_branch=branch("e", "Relu")),
    ]
    counted = work_of(file(nodes, {"w": np.zeros((4, 4), np.float32)}, [3, 4]))
    assert counted.macs == 3 * 4 * 4


def test_half_precision_has_no_least_as_units_for_it_may_be_many_times_faster() -> None:
    half = Model("half", {"x": np.zeros((2, 16), np.float16)}, module=lambda: nn.Linear(16, 4).half())
    counted = work_of(half)
    assert (counted.macs, counted.least_flops) == (128, None)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_what_cannot_be_counted_is_unknown(tmp_path: Path) -> None:
    counted = work_of(Model.from_module(Branching(), torch.ones(3)))
    assert (counted.parameters, counted.macs, counted.least_flops) == (0, None, None)
    assert work_of(Model("broken", {"x": np.zeros(1)}, onnx=lambda: b"not ONNX")) == Work()
    odd = file([helper.make_node("Unknown", ["x"], ["z"], domain="d"), helper.make_node("MatMul", ["z", "w"], ["y"])],
               {"w": np.zeros((4, 4), np.float32)}, [3, 4])  # fmt: skip
    assert (work_of(odd).parameters, work_of(odd).macs) == (16, None)
