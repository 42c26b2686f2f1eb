"""Writers of activation functions that take parameters or are made of several operators."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.graph import Graph, UnknownOperatorError, writes
from latbench.onnx_export.layers import per_channel
from latbench.tracing import Node


@writes(F.relu6)
def relu6(graph: Graph, x: Node, inplace: bool = False) -> Any:
    return clamp(graph, x, 0, 6)


@writes(F.hardtanh)
def hardtanh(graph: Graph, x: Node, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Any:
    """Write a clamp; `torch.nn.ReLU6` calls this too."""
    return clamp(graph, x, min_val, max_val)


@writes(torch.clamp, Tensor.clamp, torch.clip, Tensor.clip)
def clamp(graph: Graph, x: Node, min: float | None = None, max: float | None = None) -> Any:
    if min is None or not isinstance(max, int | float | None):
        raise UnknownOperatorError
    return graph.add("Clip", x, graph.scalar(min, x.dtype), None if max is None else graph.scalar(max, x.dtype))


@writes(F.leaky_relu)
def leaky_relu(graph: Graph, x: Node, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    return graph.add("LeakyRelu", x, alpha=float(negative_slope))


@writes(F.elu)
def elu(graph: Graph, x: Node, alpha: float = 1.0, inplace: bool = False) -> Any:
    return graph.add("Elu", x, alpha=float(alpha))


@writes(F.prelu, Tensor.prelu)
def prelu(graph: Graph, x: Node, weight: Tensor) -> Any:
    """Write a ReLU with a learned slope for each channel."""
    return graph.add("PRelu", x, per_channel(graph, weight, x))


@writes(F.hardsigmoid)
def hardsigmoid(graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write ``clamp(x / 6 + 1 / 2, 0, 1)``."""
    return graph.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@writes(F.silu)
def silu(graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write ``x * sigmoid(x)``."""
    return graph.add("Mul", x, graph.add("Sigmoid", x))


@writes(F.mish)
def mish(graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write ``x * tanh(softplus(x))``."""
    return graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x)))


@writes(F.softplus)
def softplus(graph: Graph, x: Node, beta: float = 1, threshold: float = 20) -> Any:
    """Write ``log(1 + exp(x))``."""
    if beta != 1:
        raise UnknownOperatorError
    return graph.add("Softplus", x)


@writes(F.gelu)
def gelu(graph: Graph, x: Node, approximate: str = "none") -> Any:
    """Write ``x * P(normal variable <= x)`` in a form that runtimes know (its own operator is new in opset 20)."""
    if approximate != "none":
        return _gelu_tanh(graph, x)
    gate = graph.add("Erf", graph.add("Div", x, graph.scalar(math.sqrt(2), x.dtype)))
    product = graph.add("Mul", x, graph.add("Add", gate, graph.scalar(1, x.dtype)))
    return graph.add("Mul", product, graph.scalar(0.5, x.dtype))


def _gelu_tanh(graph: Graph, x: Node) -> Any:
    cube = graph.add("Mul", graph.add("Pow", x, graph.scalar(3, x.dtype)), graph.scalar(0.044715, x.dtype))
    inner = graph.add("Mul", graph.add("Add", x, cube), graph.scalar(math.sqrt(2 / math.pi), x.dtype))
    gate = graph.add("Add", graph.add("Tanh", inner), graph.scalar(1, x.dtype))
    return graph.add("Mul", graph.add("Mul", x, graph.scalar(0.5, x.dtype)), gate)


def _softmax(kind: str, graph: Graph, x: Node, dim: int, *, _stacklevel: int = 3, dtype: None = None) -> Any:
    if dtype is not None:
        raise UnknownOperatorError
    return graph.add(kind, x, axis=dim)


writes(F.softmax, torch.softmax, Tensor.softmax)(partial(_softmax, "Softmax"))
writes(F.log_softmax, torch.log_softmax, Tensor.log_softmax)(partial(_softmax, "LogSoftmax"))


@writes(F.glu)
def glu(graph: Graph, x: Node, dim: int = -1) -> Any:
    """Write ``a * sigmoid(b)`` for the two halves of a tensor."""
    half = x.shape[dim] // 2
    left, right = graph.add("Split", x, graph.integers(half, half), outputs=2, axis=dim)
    return graph.add("Mul", left, graph.add("Sigmoid", right))


@writes(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
def dropout(graph: Graph, x: Node, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Leave a dropout out; one that also drops in eval mode is not supported."""
    if training and p > 0:
        raise UnknownOperatorError
    return graph.name(x)
