"""Writers of what moves, cuts and joins tensors. Shapes are static: whatever only regroups dimensions is a Reshape."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.elementwise import operand
from latbench.onnx_export.graph import Graph, UnknownOperatorError, writes
from latbench.onnx_export.protobuf import element_type
from latbench.tracing import Node, Spec


@writes(
    *(torch.reshape, Tensor.reshape, Tensor.view, Tensor.view_as, Tensor.reshape_as),
    *(torch.flatten, Tensor.flatten, torch.unflatten, Tensor.unflatten),
    *(torch.squeeze, Tensor.squeeze, torch.unsqueeze, Tensor.unsqueeze),
)
def reshape(graph: Graph, x: Node, *_: Any, **__: Any) -> Any:
    """Write anything that keeps the elements in order."""
    if graph.node.dtype != x.dtype:
        raise UnknownOperatorError
    return graph.add("Reshape", x, graph.integers(*graph.node.shape))


@writes(
    *(Tensor.contiguous, torch.clone, Tensor.clone, torch.detach, Tensor.detach),
    *(Tensor.to, Tensor.type_as, Tensor.float, Tensor.double, Tensor.half, Tensor.int, Tensor.long, Tensor.bool),
)
def cast(graph: Graph, x: Node, *_: Any, **__: Any) -> Any:
    """Write a change of dtype; what changes only the memory layout is left out."""
    if graph.node.dtype == x.dtype:
        return graph.name(x)
    return graph.add("Cast", x, to=element_type(graph.node.dtype))


@writes(torch.permute, Tensor.permute)
def permute(graph: Graph, x: Node, *dims: Any) -> Any:
    """Write a permutation, given as numbers or as one tuple."""
    order = dims if isinstance(dims[0], int) else dims[0]
    return graph.add("Transpose", x, perm=tuple(axis % len(x.shape) for axis in order))


@writes(torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes)
def transpose(graph: Graph, x: Node, dim0: int, dim1: int) -> Any:
    order = list(range(len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return graph.add("Transpose", x, perm=tuple(order))


@writes(torch.t, Tensor.t, Tensor.T.__get__, Tensor.mT.__get__)  # type: ignore[attr-defined]
def transpose_last(graph: Graph, x: Node) -> Any:
    return transpose(graph, x, -2, -1)


@writes(torch.cat, torch.concat)
def cat(graph: Graph, tensors: Any, dim: int = 0) -> Any:
    return graph.add("Concat", *tensors, axis=dim)


@writes(torch.stack)
def stack(graph: Graph, tensors: Any, dim: int = 0) -> Any:
    """Write a concatenation along a new dimension."""
    shape = list(graph.node.shape)
    shape[dim] = 1
    columns = [graph.add("Reshape", tensor, graph.integers(*shape)) for tensor in tensors]
    return graph.add("Concat", *columns, axis=dim)


@writes(torch.split, Tensor.split, torch.chunk, Tensor.chunk)
def split(graph: Graph, x: Node, _: Any, dim: int = 0) -> list[str]:
    """Write a cut into several tensors, whose sizes torch has worked out."""
    sizes = [part.shape[dim] for part in graph.node.spec]
    names = graph.add("Split", x, graph.integers(*sizes), outputs=len(sizes), axis=dim)
    return [names] if len(sizes) == 1 else names


@writes(torch.unbind, Tensor.unbind)
def unbind(graph: Graph, x: Node, dim: int = 0) -> list[str]:
    """Write a cut along a dimension that disappears."""
    count = len(graph.node.spec)
    columns = graph.add("Split", x, graph.integers(*[1] * count), outputs=count, axis=dim)
    shape = graph.integers(*graph.node.spec[0].shape)
    return [graph.add("Reshape", column, shape) for column in ([columns] if count == 1 else columns)]


@writes(operator.getitem, Tensor.__getitem__)
def getitem(graph: Graph, x: Any, index: Any) -> Any:
    """Write ``x[index]`` for numbers, slices, None, Ellipsis or one tensor, or take one of several results."""
    if isinstance(index, Node):
        return graph.add("Gather", x, index, axis=0)
    if not isinstance(x.spec, Spec):
        return graph.name(x)[index]
    parts = index if isinstance(index, tuple) else (index,)
    cuts = [(axis, *part.indices(x.shape[axis])) for axis, part in _slices(parts, x.shape)]
    cuts = [cut for cut in cuts if cut[1:] != (0, x.shape[cut[0]], 1)]
    name = graph.name(x)
    if cuts:
        axes, starts, ends, steps = (graph.integers(*values) for values in zip(*cuts, strict=True))
        name = graph.add("Slice", name, starts, ends, axes, steps)
    if any(part is None or isinstance(part, int) for part in parts):
        name = graph.add("Reshape", name, graph.integers(*graph.node.shape))
    return name


def _slices(parts: tuple[Any, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, slice]]:
    """Yield the slice of each dimension that an index names; a number is a slice of length one."""
    axis = 0
    for part in parts:
        if part is None:
            continue
        if part is Ellipsis:
            axis = len(shape) - sum(other is not None for other in parts[parts.index(Ellipsis) + 1 :])
            continue
        if type(part) is int:
            start = part % shape[axis]
            yield axis, slice(start, start + 1)
        elif isinstance(part, slice):
            yield axis, part
        else:
            raise UnknownOperatorError
        axis += 1


@writes(Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to)
def expand(graph: Graph, x: Node, *_: Any) -> Any:
    return graph.add("Expand", x, graph.integers(*graph.node.shape))


@writes(Tensor.repeat)
def repeat(graph: Graph, x: Node, *sizes: Any) -> Any:
    """Write repetitions along each dimension, leading ones new."""
    repeats = sizes if isinstance(sizes[0], int) else sizes[0]
    shape = (1,) * (len(repeats) - len(x.shape)) + tuple(x.shape)
    return graph.add("Tile", graph.add("Reshape", x, graph.integers(*shape)), graph.integers(*repeats))


@writes(F.pad)
def pad(graph: Graph, x: Node, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Any:
    """Write a padding; torch names the last dimension first."""
    if mode not in (modes := {"constant": "constant", "reflect": "reflect", "replicate": "edge"}):
        raise UnknownOperatorError
    untouched = [0] * (len(x.shape) - len(pad) // 2)
    amounts = [*untouched, *pad[-2::-2], *untouched, *pad[::-2]]
    return graph.add("Pad", x, graph.integers(*amounts), graph.scalar(value or 0, x.dtype), mode=modes[mode])


@writes(torch.where, Tensor.where)
def where(graph: Graph, condition: Node, x: Any, y: Any) -> Any:
    dtype = graph.node.dtype
    return graph.add("Where", condition, operand(graph, x, dtype), operand(graph, y, dtype))


@writes(F.pixel_shuffle)
def pixel_shuffle(graph: Graph, x: Node, upscale_factor: int) -> Any:
    return graph.add("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@writes(F.interpolate)
def interpolate(
    graph: Graph,
    x: Node,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Write a nearest or bilinear resize by a whole factor."""
    sizes = graph.node.shape
    if antialias or any(after % before for before, after in zip(x.shape, sizes, strict=True)):
        raise UnknownOperatorError
    attributes: dict[str, Any]
    if mode == "nearest":
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif mode in ("linear", "bilinear"):
        attributes = {"coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}
    else:
        raise UnknownOperatorError
    mode = "nearest" if mode == "nearest" else "linear"
    return graph.add("Resize", x, "", "", graph.integers(*sizes), mode=mode, **attributes)
