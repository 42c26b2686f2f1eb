"""Operators of a module: shapes, FLOPs, parameters and bytes, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from latbench.spaces.darts import DartsSpace
from latbench.tracing.operators import Operator, operators


def only(module: nn.Module, *shapes: tuple[int, ...]) -> Operator:
    (operator,) = operators(module.eval(), {f"x{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)})
    return operator


def test_a_convolution() -> None:
    operator = only(nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=4), (2, 16, 8, 8))
    assert operator == Operator(
        name="/conv2d",
        type="conv2d",
        input_shapes=((2, 16, 8, 8),),
        output_shapes=((2, 32, 4, 4),),
        attributes=(("kernel", (3, 3)), ("stride", (2, 2)), ("padding", (1, 1)), ("dilation", (1, 1)), ("groups", 4)),
        flops=2 * (2 * 32 * 4 * 4) * (16 // 4 * 9),
        params=32 * 4 * 9 + 32,
        bytes=4 * (2 * 16 * 64 + 32 * 4 * 9 + 32 + 2 * 32 * 16),
    )
    assert operator.key == "conv2d 2x16x8x8->2x32x4x4 kernel=3x3 stride=2x2 padding=1x1 dilation=1x1 groups=4"


@pytest.mark.parametrize(
    ("module", "shape", "macs", "params"),
    [
        (nn.Conv1d(4, 8, 3), (2, 4, 10), 2 * 8 * 8 * 4 * 3, 8 * 4 * 3 + 8),
        (nn.ConvTranspose2d(4, 8, 2, stride=2, groups=2), (1, 4, 5, 5), 4 * 25 * 4 * 4, 4 * 4 * 4 + 8),
        (nn.Linear(6, 5), (3, 6), 3 * 6 * 5, 35),
        (nn.Linear(6, 5, bias=False), (3, 7, 6), 3 * 7 * 6 * 5, 30),
        (nn.BatchNorm2d(4), (1, 4, 5, 5), 0, 8),
        (nn.MaxPool2d(3, 2, 1), (1, 4, 5, 5), 0, 0),
    ],
)
def test_macs_and_parameters_of_layers(module: nn.Module, shape: tuple[int, ...], macs: int, params: int) -> None:
    operator = only(module, shape)
    assert (operator.flops, operator.params) == (2 * macs, params)


class Products(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v) + q @ k.transpose(1, 2) @ v


def test_products_of_matrices_and_attention() -> None:
    shapes = {"q": (2, 5, 8), "k": (2, 7, 8), "v": (2, 7, 8)}
    found = operators(Products(), {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert [(operator.type, operator.flops) for operator in found] == [
        ("scaled_dot_product_attention", 2 * (2 * 5 * 7) * (8 + 8)),
        ("transpose", 0),
        ("matmul", 2 * 2 * 5 * 7 * 8),
        ("matmul", 2 * 2 * 5 * 7 * 8),
        ("add", 0),
    ]
    assert found[-1].input_shapes == ((2, 5, 8), (2, 5, 8))
    assert found[-1].bytes == 3 * 4 * 2 * 5 * 8


def test_views_move_nothing_and_several_results_are_listed() -> None:
    class Chunks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            left, right = x.flatten(1).chunk(2, dim=1)
            return left * right

    flatten, chunk, product = operators(Chunks(), {"x": np.zeros((1, 2, 3), np.float32)})
    assert (flatten.bytes, chunk.bytes, product.bytes) == (0, 0, 3 * 3 * 4)
    assert chunk.output_shapes == ((1, 3), (1, 3))


def test_names_tell_the_module_and_equal_work_shares_a_key() -> None:
    layer = nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True))
    found = operators(nn.Sequential(layer, layer), {"x": np.zeros((1, 2), np.float32)})
    assert [operator.name for operator in found] == ["0.0/relu", "0.1/relu", "0.0/relu_2", "0.1/relu_2"]
    assert {operator.key for operator in found} == {"relu 1x2->1x2"}


def test_the_sums_are_those_of_the_network() -> None:
    space = DartsSpace(cells=3, channels=4, image=8)
    network = space.build(space.sample(1, seed=0)[0]).eval()
    found = operators(network, {"x": np.zeros((1, 3, space.image, space.image), np.float32)})
    assert sum(operator.params for operator in found) == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, space.image, space.image))
    assert sum(operator.flops for operator in found) == counter.get_total_flops()
