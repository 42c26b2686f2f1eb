"""Writers of pooling, and of what moves windows into rows."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.graph import Array, Graph, UnknownOperatorError, numpy_dtype, writes
from latbench.onnx_export.layers import Ints, per_dimension, unbatched
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
    kernel, strides, pads = _windows(dimensions, kernel_size, stride, padding)
    dilations = per_dimension(dilation, dimensions)
    sizes, output = x.shape[-dimensions:], (graph.node.spec[0] if return_indices else graph.node.spec).shape
    ends = _end_padding(output[-dimensions:], sizes, kernel, strides, pads, dilations)
    outputs = 2 if return_indices else 1
    found = unbatched(
        graph,
        x,
        dimensions,
        "MaxPool",
        outputs=outputs,
        kernel_shape=kernel,
        strides=strides,
        pads=pads + ends,
        dilations=dilations,
    )
    if not return_indices:
        return found
    # ONNX counts the places through the whole tensor, torch anew in each image.
    return [found[0], graph.add("Mod", found[1], graph.scalar(math.prod(sizes), torch.int64))]


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
    kernel, strides, pads = _windows(dimensions, kernel_size, stride, padding)
    sizes, output = x.shape[-dimensions:], graph.node.shape[-dimensions:]
    ends = _end_padding(output, sizes, kernel, strides, pads, (1,) * dimensions)
    # Windows that ceil_mode lets hang over the padding count only what is inside it, and a divisor counts as it likes:
    # no ONNX attribute says that. Every window's own count is a constant.
    plain = divisor_override is None and not (count_include_pad and ends != pads)
    found = unbatched(
        graph,
        x,
        dimensions,
        "AveragePool",
        kernel_shape=kernel,
        strides=strides,
        pads=pads + ends,
        count_include_pad=int(count_include_pad or not plain),
    )
    if plain:
        return found
    key = ("window counts", sizes, kernel, strides, pads, output, divisor_override, x.dtype)
    counted = partial(_correction, sizes, kernel, strides, pads, output, divisor_override, x.dtype)
    return graph.add("Mul", found, graph.once(key, "", counted))


def _correction(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    output: tuple[int, ...],
    divisor: int | None,
    dtype: torch.dtype,
) -> Array:
    """Return, for each window, the number of elements that ONNX divides by, over the one that torch divides by."""
    whole = math.prod(kernel)
    if divisor is not None:
        return np.array(whole / divisor, numpy_dtype(dtype))
    inside = np.ones(1)
    for n_out, n, k, s, p in zip(output, sizes, kernel, strides, pads, strict=True):
        starts = np.arange(n_out) * s - p
        inside = np.multiply.outer(inside, np.minimum(starts + k, n + p) - starts)
    return np.asarray(whole / inside[0], numpy_dtype(dtype))


def _windows(dimensions: int, kernel: Ints, stride: Ints | None, padding: Ints) -> tuple[tuple[int, ...], ...]:
    # torch takes None and an empty tuple for "as wide as the kernel".
    values = kernel, stride if stride not in (None, (), []) else kernel, padding
    return tuple(per_dimension(value, dimensions) for value in values)


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
    for n_out, n, k, s, p, d in zip(output, size, kernel, stride, pads, dilation, strict=True):
        reach = (n_out - 1) * s + d * (k - 1) + 1
        ends.append(max(p, reach - n - p))
    return tuple(ends)


def _adaptive(dimensions: int, kind: str, graph: Graph, x: Node, output_size: Any, return_indices: bool = False) -> Any:
    if return_indices:
        raise UnknownOperatorError
    sizes, wanted = x.shape[-dimensions:], graph.node.shape[-dimensions:]
    if all(size == 1 for size in wanted):
        return unbatched(graph, x, dimensions, f"Global{kind}Pool")
    if not any(n % m for n, m in zip(sizes, wanted, strict=True)):
        ratios = tuple(n // m for n, m in zip(sizes, wanted, strict=True))
        return unbatched(graph, x, dimensions, f"{kind}Pool", kernel_shape=ratios, strides=ratios)
    reduce = _averaged if kind == "Average" else _largest
    value: Any = x
    for axis, (n, m) in enumerate(zip(sizes, wanted, strict=True), start=-dimensions):
        if n != m:
            value = reduce(graph, value, axis, n, m, len(x.shape))
    return value


def _bounds(n: int, m: int) -> list[tuple[int, int]]:
    """Return where each of `m` windows over `n` elements starts and ends: they overlap where m does not divide n."""
    return [(index * n // m, -(-(index + 1) * n // m)) for index in range(m)]


def _averaged(graph: Graph, value: Any, axis: int, n: int, m: int, rank: int) -> Any:
    """Average windows along a dimension: a product with a constant matrix."""
    weights = np.zeros((n, m), numpy_dtype(graph.node.dtype))
    for index, (start, end) in enumerate(_bounds(n, m)):
        weights[start:end, index] = 1 / (end - start)
    if axis == -1:
        return graph.add("MatMul", value, graph.once(("windows", n, m, graph.node.dtype), "", lambda: weights))
    if axis == -2:
        rows = graph.once(("windows of rows", n, m, graph.node.dtype), "", weights.T.copy)
        return graph.add("MatMul", rows, value)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    turned = graph.add("Transpose", value, perm=tuple(order))
    return graph.add("Transpose", _averaged(graph, turned, -1, n, m, rank), perm=tuple(order))


def _largest(graph: Graph, value: Any, axis: int, n: int, m: int, rank: int) -> Any:
    """Take the largest of windows along a dimension, one window after the other."""
    parts = []
    for start, end in _bounds(n, m):
        cut = graph.add("Slice", value, *(graph.integers(v) for v in (start, end, axis)))
        parts.append(graph.add("ReduceMax", cut, axes=(axis,), keepdims=1))
    return graph.add("Concat", *parts, axis=axis)


@writes(F.unfold)
def unfold(graph: Graph, x: Node, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Any:
    """Write windows as columns: a choice of elements of the padded image."""
    height, width, places = _places(x.shape[-2:], kernel_size, dilation, padding, stride)
    pads = per_dimension(padding, 2)
    lead = x.shape[:-2]
    padded: Any = x
    if any(pads):
        around = (*(0,) * len(lead), *pads)
        padded = graph.add("Pad", x, graph.integers(*around, *around), graph.scalar(0, x.dtype), mode="constant")
    flat = graph.add("Reshape", padded, graph.integers(*lead, height * width))
    key = ("windows", height, width, places.tobytes())
    taken = graph.add("Gather", flat, graph.once(key, "", lambda: places), axis=len(lead))
    return graph.add("Reshape", taken, graph.integers(*graph.node.shape))


@writes(F.fold)
def fold(
    graph: Graph,
    x: Node,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> Any:
    """Write the sum of windows at their places in an image."""
    size, (top, left) = per_dimension(output_size, 2), per_dimension(padding, 2)
    height, width, places = _places(size, kernel_size, dilation, padding, stride)
    *batch, channels, _, _ = graph.node.shape
    planes = math.prod(batch) * channels
    rows = graph.add("Reshape", x, graph.integers(planes, places.size))
    index = graph.add(
        "Expand",
        graph.once(("fold", places.tobytes()), "", lambda: places.reshape(1, -1)),
        graph.integers(planes, places.size),
    )
    empty = graph.add("Expand", graph.scalar(0, x.dtype), graph.integers(planes, height * width))
    summed = graph.add("ScatterElements", empty, index, rows, axis=1, reduction="add")
    image = graph.add("Reshape", summed, graph.integers(planes, height, width))
    inner = graph.add(
        "Slice", image, graph.integers(top, left), graph.integers(top + size[0], left + size[1]), graph.integers(1, 2)
    )
    return graph.add("Reshape", inner, graph.integers(*graph.node.shape))


def _places(
    sizes: tuple[int, ...], kernel: Ints, dilation: Ints, padding: Ints, stride: Ints
) -> tuple[int, int, Array]:
    """Return the size of a padded image, and where in it the elements of each window lie: (kernel, windows)."""
    whole, along = [], []
    numbers = (per_dimension(value, 2) for value in (kernel, dilation, padding, stride))
    for n, k, d, p, s in zip(sizes, *numbers, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1) // s + 1
        along.append(np.add.outer(np.arange(k) * d, np.arange(count) * s))
        whole.append(n + 2 * p)
    rows, columns = along
    places = rows[:, None, :, None] * whole[1] + columns[None, :, None, :]
    return whole[0], whole[1], places.reshape(rows.shape[0] * columns.shape[0], -1).astype(np.int64)


@writes(Tensor.unfold)
def unfold_dimension(graph: Graph, x: Node, dimension: int, size: int, step: int) -> Any:
    """Write windows along a dimension, their elements as the last one."""
    axis = dimension % len(x.shape)
    count = graph.node.shape[axis]
    places = np.add.outer(np.arange(count) * step, np.arange(size))
    key = ("windows along", count, step, size)
    taken = graph.add("Gather", x, graph.once(key, "", lambda: places), axis=axis)
    rank = len(x.shape) + 1
    order = [place for place in range(rank) if place != axis + 1]
    return graph.add("Transpose", taken, perm=(*order, axis + 1))


for dimensions in (1, 2, 3):
    writes(getattr(F, f"max_pool{dimensions}d"), getattr(torch, f"max_pool{dimensions}d"))(
        partial(_max_pool, dimensions)
    )
    writes(getattr(F, f"max_pool{dimensions}d_with_indices"))(partial(_max_pool, dimensions))
    writes(getattr(F, f"avg_pool{dimensions}d"))(partial(_average_pool, dimensions))
    writes(getattr(F, f"adaptive_avg_pool{dimensions}d"))(partial(_adaptive, dimensions, "Average"))
    writes(getattr(F, f"adaptive_max_pool{dimensions}d"))(partial(_adaptive, dimensions, "Max"))
