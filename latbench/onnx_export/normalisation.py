"""Writers of normalisations; one by known statistics becomes part of the layer before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.graph import Array, Graph, Operator, UnknownOperatorError, writes
from latbench.tracing import Node


@writes(F.batch_norm)
def batch_norm(
    graph: Graph,
    x: Node,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Fold a batch normalisation into the convolution or linear layer before it.

    After anything else it stays an operator: ONNX Runtime makes a convolution of it and keeps its fast memory layout.
    A Mul and an Add would leave that layout, and a DARTS network with pooling would take a third longer.
    """
    if training or running_mean is None or running_var is None:
        return _by_own_statistics(graph, x, (0, *range(2, len(x.shape))), weight, bias, eps)
    mean, variance = graph.array(running_mean), graph.array(running_var)
    scale = graph.array(weight) if weight is not None else graph.filled(1, mean.shape, x.dtype)
    shift = graph.array(bias) if bias is not None else graph.filled(0, mean.shape, x.dtype)
    convolution = graph.producer(x)
    if convolution is None or x.users > 1 or not _takes_scale(convolution):
        return graph.add("BatchNormalization", x, scale, shift, mean, variance, epsilon=eps)
    factor = scale / np.sqrt(variance + eps)
    _fold(graph, convolution, factor, shift - mean * factor, key=(*map(id, (scale, shift, mean, variance)), eps))
    return graph.name(x)


def _takes_scale(operator: Operator) -> bool:
    grouped = operator.kind == "ConvTranspose" and operator.attributes["group"] > 1
    return operator.kind in {"Conv", "ConvTranspose", "Gemm"} and not grouped


def _fold(graph: Graph, operator: Operator, factor: Array, shift: Array, *, key: Any) -> None:
    weight, *rest = operator.inputs[1:]
    assert isinstance(weight, np.ndarray)
    bias = rest[0] if rest else None
    output_axis = 1 if operator.kind == "ConvTranspose" else 0
    along_outputs = [-1 if axis == output_axis else 1 for axis in range(weight.ndim)]
    # A module that is called twice shares its folded weights too: the key names everything they are made of.
    key = (id(weight), id(bias), key)
    label = graph.label(weight)
    operator.inputs[1:] = [
        graph.once(("weight", key), label, lambda: weight * factor.reshape(along_outputs)),
        graph.once(("bias", key), f"{label}.bias", lambda: shift if bias is None else bias * factor + shift),
    ]


def _by_own_statistics(
    graph: Graph, x: Node, axes: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Any:
    """Write a normalisation by the mean and the variance over some dimensions."""
    deviation = graph.add("Sub", x, graph.add("ReduceMean", x, axes=axes, keepdims=1))
    variance = graph.add("ReduceMean", graph.add("Mul", deviation, deviation), axes=axes, keepdims=1)
    size = graph.add("Sqrt", graph.add("Add", variance, graph.scalar(eps, x.dtype)))
    return _scale_channels(graph, graph.add("Div", deviation, size), x, weight, bias)


@writes(F.layer_norm)
def layer_norm(
    graph: Graph,
    x: Node,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """Write a layer normalisation."""
    shape = tuple(normalized_shape)
    scale = weight if weight is not None else graph.filled(1, shape, x.dtype)
    return graph.add("LayerNormalization", x, scale, bias, axis=-len(shape), epsilon=eps)


@writes(F.group_norm)
def group_norm(
    graph: Graph,
    x: Node,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
    """Write a group normalisation as an instance normalisation of the groups (its own operator is new in opset 18)."""
    grouped = graph.add("Reshape", x, graph.integers(x.shape[0], num_groups, -1))
    ones, zeros = graph.filled(1, (num_groups,), x.dtype), graph.filled(0, (num_groups,), x.dtype)
    normal = graph.add("InstanceNormalization", grouped, ones, zeros, epsilon=eps)
    return _scale_channels(graph, graph.add("Reshape", normal, graph.integers(*x.shape)), x, weight, bias)


def _scale_channels(graph: Graph, name: str, x: Node, weight: Tensor | None, bias: Tensor | None) -> str:
    if weight is not None:
        name = graph.add("Mul", name, per_channel(graph, weight, x))
    if bias is not None:
        name = graph.add("Add", name, per_channel(graph, bias, x))
    return name


def per_channel(graph: Graph, tensor: Tensor, x: Node) -> Array:
    """Return one value for each channel of `x`, in a shape that broadcasts to it."""
    values = graph.array(tensor)
    shape = (-1, *(1,) * (len(x.shape) - 2))
    return graph.once(("per channel", id(values), shape), graph.label(values), lambda: values.reshape(shape))


@writes(F.instance_norm)
def instance_norm(
    graph: Graph,
    x: Node,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Write an instance normalisation by the input's own statistics."""
    if not use_input_stats:
        return batch_norm(graph, x, running_mean, running_var, weight, bias, eps=eps)
    if len(x.shape) < 3:
        raise UnknownOperatorError
    scale = weight if weight is not None else graph.filled(1, x.shape[1:2], x.dtype)
    shift = bias if bias is not None else graph.filled(0, x.shape[1:2], x.dtype)
    return graph.add("InstanceNormalization", x, scale, shift, epsilon=eps)


@writes(F.rms_norm, torch.rms_norm)
def rms_norm(graph: Graph, x: Node, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Write a division by the root of the mean square."""
    axes = tuple(range(-len(normalized_shape), 0))
    mean = graph.add("ReduceMean", graph.add("Mul", x, x), axes=axes, keepdims=1)
    least = torch.finfo(x.dtype).eps if eps is None else eps
    size = graph.add("Sqrt", graph.add("Add", mean, graph.scalar(least, x.dtype)))
    normal = graph.add("Div", x, size)
    return normal if weight is None else graph.add("Mul", normal, weight)
