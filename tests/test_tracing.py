"""Tracing: calls in order, with the shapes that torch would give."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latbench.tracing import Trace, TraceError, trace
from latbench.tracing.rules import RULES

X = (2, 8, 9, 10)
W = (4, 8, 3, 2)


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


def traced(function: Callable[..., Tensor], *shapes: tuple[int, ...], dtype: type = np.float32) -> Trace:
    return trace(Calls(function), {f"x{i}": np.ones(shape, dtype) for i, shape in enumerate(shapes)})


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (F.conv2d, (X, W)),
        (lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), 2, 4), (X, (4, 2, 3, 2), (4,))),
        (lambda x, w: F.conv2d(x, w, padding="same", dilation=2), (X, (4, 8, 3, 3))),
        (lambda x, w: F.conv2d(x, w, padding="valid", stride=2), (X, W)),
        (lambda x, w: F.conv1d(x, w, padding=1), ((2, 8, 9), (4, 8, 3))),
        (F.conv2d, (X[1:], W)),
        (lambda x: F.max_pool2d(x, 3, 2, 1), (X,)),
        (lambda x: F.max_pool2d(x, (3, 2), (2, 3), (1, 0), (1, 2)), (X,)),
        (lambda x: F.max_pool2d(x, 3), (X,)),
        (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), (X,)),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (X,)),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, True), (X,)),
        (lambda x: F.adaptive_avg_pool2d(x, 1), (X,)),
        (lambda x: F.adaptive_avg_pool2d(x, (3, None)), (X,)),
        (F.linear, (X, (3, 10))),
        (F.batch_norm, (X, X[1:2], X[1:2])),
        (lambda *x: torch.cat(x, 1), (X, (2, 1, 9, 10), X)),
        (lambda *x: torch.cat(x, dim=-1), (X, X)),
        (torch.add, (X, X)),
        (lambda x: x * 2, (X,)),
        (lambda x: 1.0 - x, (X,)),
        (lambda x, y: x / y, (X, (9, 1))),
        (lambda x: x.mean((2, 3)), (X,)),
        (lambda x: torch.mean(x, -1, True), (X,)),
        (torch.mean, (X,)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rule_gives_the_shape_and_dtype_that_torch_gives(
    call: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...], dtype: type
) -> None:
    expected = call(*(torch.ones(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype) for shape in shapes))
    (node,) = traced(call, *shapes, dtype=dtype).nodes
    assert node.function in RULES
    assert (tuple(node.shape), node.dtype) == (tuple(expected.shape), expected.dtype)


@pytest.mark.parametrize("call", [F.relu, lambda x: x + 1.5, lambda x: x / 2, lambda x: torch.cat([x, x.float()])])
def test_a_rule_leaves_integers_and_mixed_dtypes_to_torch(call: Callable[..., Tensor]) -> None:
    trace_of_integers = traced(call, (2, 3), dtype=np.int64)
    expected = call(torch.ones(2, 3, dtype=torch.int64))
    assert trace_of_integers.nodes[-1].dtype == expected.dtype


def test_a_number_and_a_flag_of_equal_value_are_different_calls() -> None:
    assert [traced(lambda x, y=y: x * y, (2,), dtype=np.int64).nodes[0].dtype for y in (1, 1.0)] == [
        torch.int64,
        torch.float32,
    ]
    assert [traced(lambda x, y=y: x + y, (2,), dtype=np.bool_).nodes[0].dtype for y in (1, True)] == [
        torch.int64,
        torch.bool,
    ]


def test_calls_know_the_innermost_module_and_how_often_they_are_read() -> None:
    inner = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
    outer = Calls(lambda x: (y := inner(x)) + y)
    convolution, relu, add = trace(outer, {"x": np.ones(X, np.float32)}).nodes
    assert (convolution.owner, relu.owner, add.owner) == (inner[0], inner[1], outer)
    assert (convolution.users, relu.users, add.users) == (1, 2, 1)
    assert convolution.args[1] is inner[0].weight


def test_what_is_written_in_place_is_seen_by_all_that_share_it() -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 1
        z = y
        F.relu(y, inplace=True)
        z += 1
        return y

    found = traced(function, (2,))
    assert [node.function.__name__ for node in found.nodes if node.function] == ["mul", "relu", "add"]
    assert found.outputs == [found.nodes[-1]]


@pytest.mark.parametrize(
    "function",
    [lambda x: x if x.sum() > 0 else -x, lambda x: x * float(x[0, 0]), lambda x: x[x > 0], lambda x: x.numpy()],
)
def test_a_path_that_depends_on_values_is_an_error(function: Callable[..., Tensor]) -> None:
    with pytest.raises(TraceError, match="depends on values"):
        traced(function, (2, 3))


def test_the_networks_of_a_space_need_none_of_torchs_slow_imports() -> None:
    code = """
import sys
import numpy as np
from latbench.onnx_export import export_onnx
from latbench.spaces.darts import DartsSpace
space = DartsSpace(cells=3, channels=4, image=8)
export_onnx(space.build(space.sample(1, seed=0)[0]).eval(), {"x": np.ones((1, 3, 8, 8), np.float32)})
print([name for name in ("sympy", "torch._dynamo") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
