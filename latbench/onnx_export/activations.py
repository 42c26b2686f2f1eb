"""Writers of activation functions that take parameters or are made of several operators."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from latbench.onnx_export.elementwise import choose, clip, operand
from latbench.onnx_export.graph import Graph, Input, element_type, homes, writes
from latbench.onnx_export.normalisation import per_channel
from latbench.tracing import Node


@writes(F.relu6)
def relu6(graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write a ReLU that is cut off at 6."""
    return clip(graph, x, 0, 6, x.dtype)


@writes(F.hardtanh)
def hardtanh(graph: Graph, x: Node, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Any:
    """Write a clamp; `torch.nn.ReLU6` calls this too."""
    return clip(graph, x, min_val, max_val, x.dtype)


@writes(F.leaky_relu)
def leaky_relu(graph: Graph, x: Node, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    return graph.add("LeakyRelu", x, alpha=float(negative_slope))


@writes(*homes("rrelu"))
def rrelu(
    graph: Graph, x: Node, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Any:
    """Write a leaky ReLU whose slope is the middle of the range that training draws from."""
    return graph.add("LeakyRelu", x, alpha=(lower + upper) / 2)


@writes(F.elu)
def elu(graph: Graph, x: Node, alpha: float = 1.0, inplace: bool = False) -> Any:
    return graph.add("Elu", x, alpha=float(alpha))


@writes(*homes("selu"))
def selu(graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write a SELU."""
    return graph.add("Selu", x)


@writes(*homes("celu"))
def celu(graph: Graph, x: Node, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Write a CELU."""
    return graph.add("Celu", x, alpha=float(alpha))


@writes(*homes("threshold"))
def threshold(graph: Graph, x: Node, threshold: float, value: float, inplace: bool = False) -> Any:
    """Write a constant for what is not above a threshold."""
    above = graph.add("Greater", x, graph.scalar(threshold, x.dtype))
    return choose(graph, above, x, value, x.dtype)


@writes(*homes("hardshrink"))
def hardshrink(graph: Graph, x: Node, lambd: float = 0.5) -> Any:
    """Write zero for what is small."""
    large = graph.add("Greater", graph.add("Abs", x), graph.scalar(lambd, x.dtype))
    return choose(graph, large, x, 0.0, x.dtype)


@writes(F.softshrink)
def softshrink(graph: Graph, x: Node, lambd: float = 0.5) -> Any:
    """Write everything closer to zero, and zero for what is small."""
    return graph.add("Shrink", x, lambd=float(lambd), bias=float(lambd))


@writes(*homes("prelu"))
def prelu(graph: Graph, x: Node, weight: Any) -> Any:
    """Write a ReLU with a learned slope for each channel."""
    if isinstance(weight, Node):
        shape = (-1, *(1,) * max(len(x.shape) - 2, 0)) if len(x.shape) > 1 else (-1,)
        return graph.add("PRelu", x, graph.add("Reshape", weight, graph.integers(*shape)))
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


@writes(F.logsigmoid)
def logsigmoid(graph: Graph, x: Node) -> Any:
    """Write ``-softplus(-x)``."""
    return graph.add("Neg", graph.add("Softplus", graph.add("Neg", x)))


@writes(F.softplus)
def softplus(graph: Graph, x: Node, beta: float = 1, threshold: float = 20) -> Any:
    """Write ``log(1 + exp(beta * x)) / beta``, and `x` itself where ``beta * x`` is above the threshold."""
    scaled: Input = x if beta == 1 else graph.add("Mul", x, graph.scalar(beta, x.dtype))
    smooth = graph.add("Softplus", scaled)
    if beta != 1:
        smooth = graph.add("Div", smooth, graph.scalar(beta, x.dtype))
    if threshold >= 20:  # both agree there to the last digit
        return smooth
    return choose(graph, graph.add("Greater", scaled, graph.scalar(threshold, x.dtype)), x, smooth, x.dtype)


@writes(F.gelu)
def gelu(graph: Graph, x: Node, approximate: str = "none") -> Any:
    """Write ``x * P(normal variable <= x)`` in a form that runtimes know (its own operator is new in opset 20)."""
    if approximate != "none":
        return _gelu_tanh(graph, x)
    scaled = graph.add("Div", x, graph.scalar(math.sqrt(2), x.dtype))
    single = x.dtype != torch.float64  # runtimes have the error function in single precision only
    gate = graph.add("Erf", scaled if single else graph.cast(scaled, torch.float32))
    gate = gate if single else graph.cast(gate, x.dtype)
    product = graph.add("Mul", x, graph.add("Add", gate, graph.scalar(1, x.dtype)))
    return graph.add("Mul", product, graph.scalar(0.5, x.dtype))


def _gelu_tanh(graph: Graph, x: Node) -> Any:
    cube = graph.add("Mul", graph.add("Pow", x, graph.scalar(3, x.dtype)), graph.scalar(0.044715, x.dtype))
    inner = graph.add("Mul", graph.add("Add", x, cube), graph.scalar(math.sqrt(2 / math.pi), x.dtype))
    gate = graph.add("Add", graph.add("Tanh", inner), graph.scalar(1, x.dtype))
    return graph.add("Mul", graph.add("Mul", x, graph.scalar(0.5, x.dtype)), gate)


def _softmax(kind: str, graph: Graph, x: Node, dim: int | None = None, *rest: Any, **named: Any) -> Any:
    """Write a softmax; the other arguments say the dtype, which the result has."""
    if dim is None:  # what torch takes, with a warning
        dim = 0 if len(x.shape) in (0, 1, 3) else 1
    return graph.add(kind, operand(graph, x, graph.node.dtype), axis=dim)


writes(*homes("softmax"))(partial(_softmax, "Softmax"))
writes(*homes("log_softmax"))(partial(_softmax, "LogSoftmax"))


@writes(F.glu)
def glu(graph: Graph, x: Node, dim: int = -1) -> Any:
    """Write ``a * sigmoid(b)`` for the two halves of a tensor."""
    half = x.shape[dim] // 2
    left, right = graph.add("Split", x, graph.integers(half, half), outputs=2, axis=dim)
    return graph.add("Mul", left, graph.add("Sigmoid", right))


@writes(F.dropout)
def dropout(graph: Graph, x: Node, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Write a dropout that drops, without ONNX's operator, which runtimes leave out."""
    drawn = graph.add("RandomUniform", shape=tuple(x.shape), dtype=element_type(torch.float32))
    kept = graph.add("GreaterOrEqual", drawn, graph.scalar(p, torch.float32))
    return choose(graph, kept, graph.add("Mul", x, graph.scalar(1 / max(1 - p, 1e-9), x.dtype)), 0.0, x.dtype)
