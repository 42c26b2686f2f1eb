"""Writers of the layers with weights: convolutions and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.graph import Graph, UnknownOperatorError, writes
from latbench.tracing import Node

Ints = int | tuple[int, ...]


def per_dimension(value: Ints, dimensions: int) -> tuple[int, ...]:
    """Return one number for each spatial dimension."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dimensions if len(values) == 1 else values


@writes(F.conv1d, F.conv2d, F.conv3d)
def conv(
    graph: Graph,
    x: Node,
    weight: Tensor | Node,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Any:
    """Write a convolution; ``padding="same"`` becomes numbers, the larger one at the end."""
    kernel = tuple(weight.shape[2:])
    dilations = per_dimension(dilation, len(kernel))
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = (*(total // 2 for total in totals), *(total - total // 2 for total in totals))
    else:
        pads = 2 * per_dimension(0 if isinstance(padding, str) else padding, len(kernel))
    strides = per_dimension(stride, len(kernel))
    return unbatched(
        graph,
        x,
        len(kernel),
        "Conv",
        weight,
        bias,
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=groups,
    )


@writes(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def conv_transpose(
    graph: Graph,
    x: Node,
    weight: Tensor | Node,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Any:
    kernel = tuple(weight.shape[2:])
    return unbatched(
        graph,
        x,
        len(kernel),
        "ConvTranspose",
        weight,
        bias,
        kernel_shape=kernel,
        strides=per_dimension(stride, len(kernel)),
        pads=2 * per_dimension(padding, len(kernel)),
        output_padding=per_dimension(output_padding, len(kernel)),
        dilations=per_dimension(dilation, len(kernel)),
        group=groups,
    )


def batched(x: Node, dimensions: int) -> Node:
    """Return a tensor of shape (batch, channels, spatial...) as it is.

    Raises:
        UnknownOperatorError: it has no batch dimension, which ONNX requires.
    """
    if len(x.shape) != dimensions + 2:
        raise UnknownOperatorError
    return x


@writes(F.linear)
def linear(graph: Graph, x: Node, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Write ``x @ weight.T + bias``: one Gemm for a matrix, a MatMul for more dimensions."""
    if len(x.shape) == 2:
        return graph.add("Gemm", x, weight, bias, transB=1)
    values = graph.array(weight)
    transposed = graph.once(("transposed", id(values)), graph.label(values), values.T.copy)
    product = graph.add("MatMul", x, transposed)
    return product if bias is None else graph.add("Add", product, bias)


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
        raise UnknownOperatorError
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


@writes(F.layer_norm)
def layer_norm(
    graph: Graph,
    x: Node,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Any:
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
    """Write an instance normalisation that uses the input's own statistics."""
    if not use_input_stats:
        raise UnknownOperatorError
    scale = weight if weight is not None else graph.filled(1, x.shape[1:2], x.dtype)
    shift = bias if bias is not None else graph.filled(0, x.shape[1:2], x.dtype)
    return graph.add("InstanceNormalization", x, scale, shift, epsilon=eps)


@writes(F.embedding)
def embedding(
    graph: Graph,
    x: Node,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    *_: Any,
    **__: Any,
) -> Any:
    """Write a table look-up; the other arguments matter in training only."""
    if max_norm is not None:
        raise UnknownOperatorError
    return graph.add("Gather", weight, x, axis=0)
