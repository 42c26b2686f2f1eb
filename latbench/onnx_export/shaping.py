"""Writers of what moves, cuts and joins tensors. Shapes are static: whatever only regroups dimensions is a Reshape."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.elementwise import choose, operand
from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, element_type, homes, writes
from latbench.tracing import Node


@writes(
    *homes("reshape", "reshape_as", "view", "view_as", "flatten", "ravel", "unflatten", "squeeze", "unsqueeze"),
    *homes("atleast_1d", "atleast_2d", "atleast_3d"),
)
def reshape(graph: Graph, x: Node, *_: Any, **__: Any) -> Any:
    """Write anything that keeps the elements in order."""
    if graph.node.dtype != x.dtype:
        raise UnknownOperatorError
    return graph.add("Reshape", x, graph.integers(*graph.node.shape))


@writes(*homes("clone"), Tensor.to)
def cast(graph: Graph, x: Node, *_: Any, **__: Any) -> Any:
    """Write a change of dtype; what changes only the memory layout is left out."""
    return graph.name(x) if graph.node.dtype == x.dtype else graph.cast(x, graph.node.dtype)


@writes(*homes("permute"))
def permute(graph: Graph, x: Node, *dims: Any) -> Any:
    """Write a permutation, given as numbers or as one tuple."""
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return graph.add("Transpose", x, perm=tuple(axis % len(x.shape) for axis in order))


@writes(*homes("transpose", "swapaxes", "swapdims"))
def transpose(graph: Graph, x: Node, dim0: int, dim1: int) -> Any:
    order = list(range(len(x.shape)))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return graph.add("Transpose", x, perm=tuple(order))


@writes(Tensor.mT.__get__, Tensor.mH.__get__, *homes("adjoint"))  # type: ignore[attr-defined]
def transpose_last(graph: Graph, x: Node) -> Any:
    """Write the transpose of matrices."""
    return transpose(graph, x, -2, -1)


@writes(*homes("t"), Tensor.T.__get__, Tensor.H.__get__)  # type: ignore[attr-defined]
def reverse_dimensions(graph: Graph, x: Node) -> Any:
    """Write a reversal of the dimensions: of a matrix its transpose."""
    return graph.add("Transpose", x, perm=tuple(reversed(range(len(x.shape)))))


@writes(*homes("movedim", "moveaxis"))
def movedim(graph: Graph, x: Node, source: Any, destination: Any) -> Any:
    """Write a permutation, given as where dimensions come from and go to."""
    sources, targets = ((v,) if isinstance(v, int) else v for v in (source, destination))
    sources, targets = ([v % len(x.shape) for v in values] for values in (sources, targets))
    rest = [axis for axis in range(len(x.shape)) if axis not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        rest.insert(target, origin)
    return graph.add("Transpose", x, perm=tuple(rest))


@writes(*homes("cat", "concat", "concatenate"))
def cat(graph: Graph, tensors: Any, dim: int = 0) -> Any:
    """Write a concatenation; torch passes over empty vectors beside tensors of more dimensions."""
    dtype = graph.node.dtype
    parts = [tensor for tensor in tensors if len(tensor.shape) == len(graph.node.shape)]
    return graph.add("Concat", *(operand(graph, part, dtype) for part in parts), axis=dim)


@writes(*homes("stack"))
def stack(graph: Graph, tensors: Any, dim: int = 0) -> Any:
    """Write a concatenation along a new dimension."""
    shape = list(graph.node.shape)
    shape[dim] = 1
    dtype = graph.node.dtype
    columns = [graph.add("Reshape", operand(graph, part, dtype), graph.integers(*shape)) for part in tensors]
    return graph.add("Concat", *columns, axis=dim)


@writes(*homes("hstack", "vstack", "column_stack", "dstack"))
def stack_along(graph: Graph, tensors: Any) -> Any:
    """Write a concatenation of rows or columns of tensors that have as many dimensions as the result."""
    name = getattr(graph.node.function, "__name__", "")
    rank = len(graph.node.shape)
    axis = {"vstack": 0, "dstack": 2}.get(name, 0 if rank == 1 else 1)
    if any(len(tensor.shape) != rank for tensor in tensors):
        raise UnknownOperatorError
    return cat(graph, tensors, axis)


@writes(*homes("split", "chunk", "tensor_split", "split_with_sizes"))
def split(graph: Graph, x: Node, _: Any = None, dim: int = 0, **__: Any) -> list[str]:
    """Write a cut into several tensors, whose sizes torch has worked out."""
    sizes = [part.shape[dim] for part in graph.node.spec]
    names = graph.add("Split", x, graph.integers(*sizes), outputs=len(sizes), axis=dim)
    return [names] if len(sizes) == 1 else names


@writes(*homes("unbind"))
def unbind(graph: Graph, x: Node, dim: int = 0) -> list[str]:
    """Write a cut along a dimension that disappears."""
    count = len(graph.node.spec)
    columns = graph.add("Split", x, graph.integers(*[1] * count), outputs=count, axis=dim)
    shape = graph.integers(*graph.node.spec[0].shape)
    return [graph.add("Reshape", column, shape) for column in ([columns] if count == 1 else columns)]


@writes(*homes("narrow"))
def narrow(graph: Graph, x: Node, dim: int, start: int, length: int) -> Any:
    """Write a slice."""
    start %= x.shape[dim] or 1
    return graph.add("Slice", x, *(graph.integers(value) for value in (start, start + length, dim)))


@writes(*homes("select"))
def select(graph: Graph, x: Node, dim: int, index: int) -> Any:
    """Write one slice along a dimension that disappears."""
    start = index % x.shape[dim]
    cut = graph.add("Slice", x, *(graph.integers(value) for value in (start, start + 1, dim)))
    return graph.add("Reshape", cut, graph.integers(*graph.node.shape))


@writes(*homes("diagonal"))
def diagonal(graph: Graph, x: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Write a diagonal, as the last dimension."""
    rank = len(x.shape)
    dim1, dim2 = dim1 % rank, dim2 % rank
    others = [axis for axis in range(rank) if axis not in (dim1, dim2)]
    rows, columns = x.shape[dim1], x.shape[dim2]
    flat = [x.shape[axis] for axis in others]
    turned = graph.add("Transpose", x, perm=(*others, dim1, dim2))
    places = np.arange(rows * columns).reshape(rows, columns).diagonal(offset)
    key = ("diagonal", rows, columns, offset)
    merged = graph.add("Reshape", turned, graph.integers(*flat, rows * columns))
    return graph.add("Gather", merged, graph.once(key, "", places.copy), axis=len(flat))


@writes(*homes("expand", "expand_as", "broadcast_to"))
def expand(graph: Graph, x: Node, *_: Any, **__: Any) -> Any:
    """Write a broadcast to a larger shape."""
    return graph.add("Expand", x, graph.integers(*graph.node.shape))


@writes(*homes("repeat", "tile"))
def repeat(graph: Graph, x: Node, *sizes: Any, **named: Any) -> Any:
    """Write repetitions along each dimension, leading ones new."""
    given = sizes or tuple(named.values())
    repeats = given[0] if len(given) == 1 and not isinstance(given[0], int) else given
    missing = len(x.shape) - len(repeats)
    repeats = (*(1,) * missing, *repeats)
    shape = (1,) * -missing + tuple(x.shape)
    return graph.add("Tile", graph.add("Reshape", x, graph.integers(*shape)), graph.integers(*repeats))


@writes(*homes("repeat_interleave"))
def repeat_interleave(graph: Graph, x: Node, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Any:
    """Write repetitions of each element."""
    value: Input = x
    size = math.prod(x.shape) if dim is None else x.shape[dim]
    if dim is None:
        value, dim = graph.add("Reshape", x, graph.integers(-1)), 0
    places = np.arange(size).repeat(repeats)
    return graph.add("Gather", value, graph.array(torch.from_numpy(places)), axis=dim)


@writes(*homes("roll"))
def roll(graph: Graph, x: Node, shifts: Any, dims: Any = None) -> Any:
    """Write a rotation: the end comes first."""
    if dims is None or dims in ((), []):
        flat = graph.add("Reshape", x, graph.integers(-1))
        size = math.prod(x.shape)
        shift = shifts if isinstance(shifts, int) else shifts[0]
        return graph.add("Reshape", _rotated(graph, flat, shift, 0, size), graph.integers(*x.shape))
    pairs = zip(*((v,) if isinstance(v, int) else v for v in (shifts, dims)), strict=True)
    value: Input = x
    for shift, dim in pairs:
        value = _rotated(graph, value, shift, dim, x.shape[dim])
    return graph.name(x) if value is x else value


def _rotated(graph: Graph, x: Input, shift: int, axis: int, size: int) -> Input:
    cut = -shift % max(size, 1)
    if cut == 0:
        return x
    front, back = graph.add("Split", x, graph.integers(cut, size - cut), outputs=2, axis=axis)
    return graph.add("Concat", back, front, axis=axis)  # type: ignore[no-any-return]


@writes(*homes("flip"))
def flip(graph: Graph, x: Node, *dims: Any) -> Any:
    """Write a reversal of dimensions."""
    given = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    axes = [axis % len(x.shape) for axis in given]
    if not axes:
        return graph.name(x)
    starts, ends, steps = ([value] * len(axes) for value in (-1, -(2**31), -1))
    return graph.add("Slice", x, *(graph.integers(*values) for values in (starts, ends, axes, steps)))


def triangle(upper: int, graph: Graph, x: Node, diagonal: int = 0) -> Any:
    """Write a matrix with zeros below or above a diagonal."""
    keep = (torch.triu if upper else torch.tril)(torch.ones(x.shape[-2:], dtype=torch.bool), diagonal)
    return choose(graph, keep, x, 0, x.dtype)


@writes(*homes("pad"), F.pad)
def pad(graph: Graph, x: Node, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Write a padding; torch names the last dimension first."""
    if mode == "circular":
        return _circular(graph, x, pad)
    if mode not in (modes := {"constant": "constant", "reflect": "reflect", "replicate": "edge"}):
        raise UnknownOperatorError
    untouched = [0] * (len(x.shape) - len(pad) // 2)
    starts, ends = (untouched + list(pad[side::2])[::-1] for side in (0, 1))
    flags = x.dtype == torch.bool
    fill = graph.scalar(value or 0, torch.int32 if flags else x.dtype) if mode == "constant" else None
    source: Any = graph.cast(x, torch.int32) if flags else x
    padded = graph.add("Pad", source, graph.integers(*starts, *ends), fill, mode=modes[mode])
    return graph.cast(padded, x.dtype) if flags else padded


def _circular(graph: Graph, x: Node, pad: Any) -> Any:
    value: Any = x
    shape = list(x.shape)
    for index in range(len(pad) // 2):
        before, after, axis = pad[2 * index], pad[2 * index + 1], len(shape) - 1 - index
        size = shape[axis]
        if min(before, after) < 0:
            raise UnknownOperatorError
        ends = [(size - before, size), (0, size), (0, after)]
        parts = [
            graph.add("Slice", value, *(graph.integers(v) for v in (start, end, axis)))
            for start, end in ends
            if end > start
        ]
        value = graph.add("Concat", *parts, axis=axis)
        shape[axis] = size + before + after
    return value


@writes(F.pixel_shuffle)
def pixel_shuffle(graph: Graph, x: Node, upscale_factor: int) -> Any:
    """Write a move of channels into space."""
    if len(x.shape) != 4:
        raise UnknownOperatorError
    return graph.add("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@writes(F.pixel_unshuffle)
def pixel_unshuffle(graph: Graph, x: Node, downscale_factor: int) -> Any:
    """Write a move of space into channels."""
    *batch, channels, height, width = x.shape
    r, lead = downscale_factor, len(batch)
    apart = graph.add("Reshape", x, graph.integers(*batch, channels, height // r, r, width // r, r))
    order = (*range(lead), *(lead + axis for axis in (0, 2, 4, 1, 3)))
    return graph.add("Reshape", graph.add("Transpose", apart, perm=order), graph.integers(*graph.node.shape))


@writes(*homes("channel_shuffle"))
def channel_shuffle(graph: Graph, x: Node, groups: int) -> Any:
    """Write an exchange of channels between groups."""
    batch, channels, *rest = x.shape
    apart = graph.add("Reshape", x, graph.integers(batch, groups, channels // groups, math.prod(rest)))
    return graph.add("Reshape", graph.add("Transpose", apart, perm=(0, 2, 1, 3)), graph.integers(*x.shape))


@writes(F.one_hot)
def one_hot(graph: Graph, x: Node, num_classes: int = -1) -> Any:
    """Write a one at the place that each element names."""
    depth = graph.node.shape[-1]
    values = graph.once(("one hot",), "", lambda: np.array([0, 1], np.int64))
    return graph.add("OneHot", x, graph.integers(depth), values, axis=-1)


@writes(torch.randn, torch.randn_like)
def randn(graph: Graph, *_: Any, **__: Any) -> Any:
    """Write normal random numbers; which ones, nobody can say."""
    return graph.add("RandomNormal", shape=tuple(graph.node.shape), dtype=element_type(graph.node.dtype))


@writes(torch.rand, torch.rand_like)
def rand(graph: Graph, *_: Any, **__: Any) -> Any:
    """Write uniform random numbers; which ones, nobody can say."""
    return graph.add("RandomUniform", shape=tuple(graph.node.shape), dtype=element_type(graph.node.dtype))


for upper, name in enumerate(("tril", "triu")):
    writes(*homes(name))(partial(triangle, upper))
