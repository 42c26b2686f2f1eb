"""Writers of the layers with weights: convolutions and embeddings."""

from __future__ import annotations

from typing import Any

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


def unbatched(
    graph: Graph, x: Node, dimensions: int, kind: str, *weights: Any, outputs: int = 1, **attributes: Any
) -> Any:
    """Write an operator of images; one image alone is a batch of one, which ONNX demands."""
    if len(x.shape) == dimensions + 2:
        return graph.add(kind, x, *weights, outputs=outputs, **attributes)
    one = graph.add("Reshape", x, graph.integers(1, *x.shape))
    found = graph.add(kind, one, *weights, outputs=outputs, **attributes)
    spec = graph.node.spec
    shapes = [spec.shape] if outputs == 1 else [part.shape for part in spec]
    names = [found] if outputs == 1 else found
    alone = [graph.add("Reshape", name, graph.integers(*shape)) for name, shape in zip(names, shapes, strict=True)]
    return alone[0] if outputs == 1 else alone


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
