"""Writers of pooling."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from latbench.onnx_export.graph import Graph, UnknownOperatorError, writes
from latbench.onnx_export.layers import Ints, batched, per_dimension
from latbench.tracing import Node


def _max_pool(
    dimensions: int,
    graph: Graph,
    x: Node,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if return_indices:
        raise UnknownOperatorError
    kernel, strides, pads = _windows(batched(x, dimensions), kernel_size, stride, padding)
    dilations = per_dimension(dilation, dimensions)
    ends = _end_padding(graph.node.shape, x.shape, kernel, strides, pads, dilations)
    return graph.add(
        "MaxPool",
        x,
        kernel_shape=kernel,
        strides=strides,
        pads=pads + ends,
        dilations=dilations,
    )


def _average_pool(
    dimensions: int,
    graph: Graph,
    x: Node,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    kernel, strides, pads = _windows(batched(x, dimensions), kernel_size, stride, padding)
    ends = _end_padding(graph.node.shape, x.shape, kernel, strides, pads, (1,) * dimensions)
    # Windows that ceil_mode lets reach past the padding average only what is inside: no ONNX attribute says that.
    if divisor_override is not None or (count_include_pad and ends != pads):
        raise UnknownOperatorError
    return graph.add(
        "AveragePool",
        x,
        kernel_shape=kernel,
        strides=strides,
        pads=pads + ends,
        count_include_pad=int(count_include_pad),
    )


def _windows(x: Node, kernel: Ints, stride: Ints | None, padding: Ints) -> tuple[tuple[int, ...], ...]:
    # torch takes None and an empty tuple for "as wide as the kernel".
    values = kernel, stride if stride not in (None, (), []) else kernel, padding
    return tuple(per_dimension(value, len(x.shape) - 2) for value in values)


def _end_padding(
    output: tuple[int, ...],
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """Return the padding after each dimension that makes the windows reach as far as torch's `ceil_mode` does.

    Runtimes disagree about ONNX's own ``ceil_mode``: they differ in whether the last window may start in the padding.
    """
    ends = []
    for n_out, n, k, s, p, d in zip(output[2:], size[2:], kernel, stride, pads, dilation, strict=True):
        reach = (n_out - 1) * s + d * (k - 1) + 1
        ends.append(max(p, reach - n - p))
    return tuple(ends)


def _global(kind: str, window: str, graph: Graph, x: Node, output_size: Any, return_indices: bool = False) -> Any:
    sizes, wanted = x.shape[2:], graph.node.shape[2:]
    ratios = [n // m for n, m in zip(sizes, wanted, strict=True)]
    if return_indices or any(n % m for n, m in zip(sizes, wanted, strict=True)):
        raise UnknownOperatorError
    if all(size == 1 for size in wanted):
        return graph.add(kind, x)
    return graph.add(window, x, kernel_shape=tuple(ratios), strides=tuple(ratios))


for dimensions in (1, 2, 3):
    writes(getattr(F, f"max_pool{dimensions}d"), getattr(torch, f"max_pool{dimensions}d"))(
        partial(_max_pool, dimensions)
    )
    writes(getattr(F, f"avg_pool{dimensions}d"))(partial(_average_pool, dimensions))
    writes(getattr(F, f"adaptive_avg_pool{dimensions}d"))(partial(_global, "GlobalAveragePool", "AveragePool"))
    writes(getattr(F, f"adaptive_max_pool{dimensions}d"))(partial(_global, "GlobalMaxPool", "MaxPool"))
