"""Writers of indexing: slices, numbers, tensors of indices, and writes to places."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latbench.onnx_export.elementwise import choose, compute, operand
from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, homes, writes
from latbench.tracing import Node, Spec
from latbench.tracing.memory import viewed, written

Index = tuple[Any, ...]


@writes(operator.getitem)
def getitem(graph: Graph, x: Any, index: Any) -> Any:
    """Write ``x[index]``, or take one of several results."""
    if isinstance(x, Node) and not isinstance(x.spec, Spec):
        return graph.name(x)[index]
    parts = _without_masks(index if isinstance(index, tuple) else (index,), x.shape)
    name, shape, indices = _sliced(graph, x, parts)
    if indices:
        return _gathered(graph, name, shape, indices, graph.node.shape)
    return name


def _without_masks(parts: Index, shape: tuple[int, ...]) -> Index:
    """Return an index with numbers for constant masks and lists; a mask stands for as many dimensions as it has."""
    found: list[Any] = []
    for given in parts:
        part = torch.tensor(given) if isinstance(given, list) else given
        if isinstance(part, bool):
            raise UnknownOperatorError
        if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8):
            found += part.nonzero(as_tuple=True)
        else:
            found.append(part)
    used = sum(part is not None and part is not Ellipsis for part in found)
    ellipsis = next((place for place, part in enumerate(found) if part is Ellipsis), len(found))
    found[ellipsis : ellipsis + 1] = [slice(None)] * (len(shape) - used)
    return tuple(found)


def _sliced(graph: Graph, x: Any, parts: Index) -> tuple[Any, list[int], list[tuple[int, Any]]]:
    """Cut along the slices and numbers of an index; return the rest: the tensors, and the dimensions they index."""
    cuts = list(_cuts(parts, x.shape))
    moved = [cut for cut in cuts if cut[1:] != (0, x.shape[cut[0]], 1)]
    name: Any = x
    if moved:
        axes, starts, ends, steps = (graph.integers(*values) for values in zip(*moved, strict=True))
        name = graph.add("Slice", x, starts, ends, axes, steps)
    lengths = [len(range(*cut)) for cut in _whole(cuts, x.shape)]
    shape, indices, axis = [], [], 0
    for part in parts:
        if part is None:
            shape.append(1)
            continue
        if type(part) is not int:
            if not isinstance(part, slice):
                indices.append((len(shape), part))
            shape.append(lengths[axis])
        axis += 1
    if shape != lengths:
        name = _reshape(graph, name, shape)
    return (graph.name(x) if name is x else name), shape, indices


def _whole(cuts: list[tuple[int, int, int, int]], shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the slice of every dimension."""
    named = {axis: cut for axis, *cut in cuts}
    return [tuple(named.get(axis, (0, size, 1))) for axis, size in enumerate(shape)]  # type: ignore[misc]


def _cuts(parts: Index, shape: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the slice of each dimension that an index names; a number is a slice of length one."""
    axis = 0
    for part in parts:
        if part is None:
            continue
        if type(part) is int:
            start = part % shape[axis]
            yield axis, start, start + 1, 1
        elif isinstance(part, slice):
            yield axis, *part.indices(shape[axis])
        axis += 1


def _gathered(
    graph: Graph, name: Any, shape: list[int], indices: list[tuple[int, Any]], result: tuple[int, ...]
) -> Any:
    """Write an index by tensors: those dimensions become one, from which a Gather takes the elements."""
    axes = [axis for axis, _ in indices]
    if len(axes) == 1:
        return graph.add("Gather", name, _integer(graph, indices[0][1]), axis=axes[0])
    adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
    first = axes[0] if adjacent else 0  # torch puts the indexed dimensions first where others lie between them
    if not adjacent:
        others = [axis for axis in range(len(shape)) if axis not in axes]
        name = graph.add("Transpose", name, perm=(*axes, *others))
        shape = [shape[axis] for axis in (*axes, *others)]
    sizes = shape[first : first + len(axes)]
    merged = _reshape(graph, name, (*shape[:first], int(np.prod(sizes)), *shape[first + len(axes) :]))
    return graph.add("Gather", merged, _flat_index(graph, [index for _, index in indices], sizes), axis=first)


def _flat_index(graph: Graph, indices: list[Any], sizes: list[int]) -> Input:
    """Return one index into dimensions that have become one, for an index into each of them."""
    steps = [int(np.prod(sizes[place + 1 :])) for place in range(len(sizes))]
    if all(isinstance(index, Tensor) for index in indices):
        flat = torch.tensor(0)
        for index, size, step in zip(indices, sizes, steps, strict=True):
            flat = flat + (index % size) * step
        return graph.array(flat)
    total: Any = None
    for index, size, step in zip(indices, sizes, steps, strict=True):
        term = compute(graph, "Mul", _not_negative(graph, index, size), step, dtype=torch.int64)
        total = term if total is None else graph.add("Add", total, term)
    return total  # type: ignore[no-any-return]


def _not_negative(graph: Graph, index: Any, size: int) -> Input:
    index = _integer(graph, index)
    wrapped = graph.add("Add", index, graph.scalar(size, torch.int64))
    negative = graph.add("Less", index, graph.scalar(0, torch.int64))
    return graph.add("Where", negative, wrapped, index)  # type: ignore[no-any-return]


def _integer(graph: Graph, index: Any) -> Input:
    if isinstance(index, Node) and index.dtype in (torch.bool, torch.uint8):
        raise UnknownOperatorError  # how many elements a mask takes is not known before it is computed
    return operand(graph, index, torch.int64)


def _reshape(graph: Graph, name: Any, shape: Any) -> Any:
    return graph.add("Reshape", name, graph.integers(*shape))


@writes(*homes("index_select"))
def index_select(graph: Graph, x: Node, dim: int, index: Any) -> Any:
    """Write a choice of slices along a dimension."""
    return graph.add("Gather", x, _integer(graph, index), axis=dim)


@writes(*homes("gather"))
def gather(graph: Graph, x: Node, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """Write a choice of an element for each place of an index."""
    return graph.add("GatherElements", _trimmed(graph, x, dim, index.shape), _integer(graph, index), axis=dim)


def _trimmed(graph: Graph, x: Node, dim: int, shape: tuple[int, ...]) -> Input:
    """Cut a tensor to the shape of an index, which may be smaller: ONNX wants equal sizes but along `dim`."""
    axes = [axis for axis in range(len(shape)) if axis != dim % len(shape) and shape[axis] != x.shape[axis]]
    if not axes:
        return x
    ends, starts = [shape[axis] for axis in axes], [0] * len(axes)
    return graph.add("Slice", x, *(graph.integers(*values) for values in (starts, ends, axes)))  # type: ignore[no-any-return]


@writes(*homes("take_along_dim"))
def take_along_dim(graph: Graph, x: Node, indices: Any, dim: int | None = None) -> Any:
    """Write a choice of elements along a dimension, the other ones broadcast."""
    if dim is None:
        return _reshape(graph, graph.add("Gather", _reshape(graph, x, (-1,)), _integer(graph, indices), axis=0), (-1,))
    if len(x.shape) != len(indices.shape):
        raise UnknownOperatorError
    shape = list(graph.node.shape)
    index = graph.add("Expand", _integer(graph, indices), graph.integers(*shape))
    shape[dim] = x.shape[dim]
    return graph.add("GatherElements", graph.add("Expand", x, graph.integers(*shape)), index, axis=dim)


@writes(*homes("take"))
def take(graph: Graph, x: Node, index: Any) -> Any:
    """Write a choice of elements of the flattened tensor."""
    return graph.add("Gather", _reshape(graph, x, (-1,)), _integer(graph, index), axis=0)


@writes(*homes("scatter"))
def scatter(graph: Graph, x: Any, dim: int, index: Any, src: Any, *, reduce: str | None = None) -> Any:
    """Write elements to the places of an index."""
    reductions = {None: "none", "add": "add", "multiply": "mul"}
    return _scatter(graph, x, dim, index, src, reductions[reduce])


@writes(*homes("scatter_add"))
def scatter_add(graph: Graph, x: Any, dim: int, index: Any, src: Any) -> Any:
    """Add elements at the places of an index."""
    return _scatter(graph, x, dim, index, src, "add")


def _scatter(graph: Graph, x: Any, dim: int, index: Any, src: Any, reduction: str) -> Any:
    shape = tuple(index.shape)
    if isinstance(src, Node | Tensor):
        start, end = graph.integers(*[0] * len(shape)), graph.integers(*shape)
        source = operand(graph, src, x.dtype)
        updates = source if tuple(src.shape) == shape else graph.add("Slice", source, start, end)
    else:
        updates = graph.filled(src, shape, x.dtype)
    attributes: dict[str, Any] = {} if reduction == "none" else {"reduction": reduction}
    return graph.add("ScatterElements", x, _integer(graph, index), updates, axis=dim, **attributes)


@writes(*homes("index_add"))
def index_add(graph: Graph, x: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """Add slices at the places of an index along a dimension."""
    values = source if alpha == 1 else compute(graph, "Mul", source, alpha, dtype=x.dtype)
    spread = _spread(graph, index, dim, source.shape)
    return graph.add("ScatterElements", x, spread, values, axis=dim, reduction="add")


@writes(*homes("index_copy"))
def index_copy(graph: Graph, x: Any, dim: int, index: Any, source: Any) -> Any:
    """Write slices to the places of an index along a dimension."""
    return graph.add("ScatterElements", x, _spread(graph, index, dim, source.shape), source, axis=dim)


@writes(*homes("index_fill"))
def index_fill(graph: Graph, x: Any, dim: int, index: Any, value: Any) -> Any:
    """Fill the slices at the places of an index along a dimension."""
    shape = list(x.shape)
    shape[dim] = index.shape[0]
    values = graph.filled(value, tuple(shape), x.dtype)
    return graph.add("ScatterElements", x, _spread(graph, index, dim, shape), values, axis=dim)


def _spread(graph: Graph, index: Any, dim: int, shape: Any) -> Any:
    """Return an index along one dimension as one for each element of slices."""
    along = [1] * len(shape)
    along[dim] = -1
    return graph.add("Expand", _reshape(graph, _integer(graph, index), along), graph.integers(*shape))


@writes(torch.index_put, Tensor.index_put)
def index_put(graph: Graph, x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """Write values to the places of tensors of indices: ``x[i, j] = values``."""
    parts = tuple(slice(None) if index is None else index for index in indices)
    mask = parts[0] if len(parts) == 1 else None
    if isinstance(mask, Node) and mask.dtype == torch.bool:
        if int(np.prod(values.shape)) != 1 or accumulate:
            raise UnknownOperatorError
        spread = _reshape(graph, mask, (*mask.shape, *(1,) * (len(x.shape) - len(mask.shape))))
        return choose(graph, spread, _reshape(graph, operand(graph, values, x.dtype), ()), x, x.dtype)
    places = torch.arange(int(np.prod(x.shape))).reshape(tuple(x.shape))
    parts = _without_masks(parts, x.shape)
    if not all(isinstance(part, Tensor | slice) for part in parts):
        return _put_computed(graph, x, parts, values, accumulate)
    found = places[parts]
    updates = operand(graph, values, x.dtype)
    if tuple(values.shape) != tuple(found.shape):
        updates = graph.add("Expand", updates, graph.integers(*found.shape))
    return _scattered(graph, x, found, updates, "add" if accumulate else "none")


def _put_computed(graph: Graph, x: Any, parts: Index, values: Any, accumulate: bool) -> Any:
    """Write rows to computed places: the tensors index the leading dimensions."""
    lead = [part for part in parts if not isinstance(part, slice)]
    if any(isinstance(part, slice) for part in parts[: len(lead)]) or any(
        part != slice(None) for part in parts[len(lead) :]
    ):
        raise UnknownOperatorError
    shape = np.broadcast_shapes(*(tuple(part.shape) for part in lead))
    columns = [
        _reshape(graph, graph.add("Expand", _not_negative(graph, part, size), graph.integers(*shape)), (*shape, 1))
        for part, size in zip(lead, x.shape, strict=False)
    ]
    places = graph.add("Concat", *columns, axis=-1)
    updates = graph.add("Expand", operand(graph, values, x.dtype), graph.integers(*shape, *x.shape[len(lead) :]))
    attributes: dict[str, Any] = {"reduction": "add"} if accumulate else {}
    return graph.add("ScatterND", x, places, updates, **attributes)


def _scattered(graph: Graph, x: Any, places: Tensor, updates: Any, reduction: str = "none") -> Any:
    """Write elements to constant places of the flattened tensor."""
    flat = [_reshape(graph, value, (-1,)) for value in (x, updates)]
    attributes: dict[str, Any] = {} if reduction == "none" else {"reduction": reduction}
    index = graph.array(places.flatten())
    return _reshape(graph, graph.add("ScatterElements", flat[0], index, flat[1], axis=0, **attributes), x.shape)


@writes(viewed)
def write_viewed(graph: Graph, base: Any, places: Tensor) -> Any:
    """Write a look at another tensor's memory: a slice where it is one, else a choice of elements."""
    box = _box(places, base.shape)
    if box is not None:
        axes, starts, ends = range(len(box)), [start for start, _ in box], [end for _, end in box]
        cut = graph.add("Slice", base, graph.integers(*starts), graph.integers(*ends), graph.integers(*axes))
        return _reshape(graph, cut, places.shape)
    return graph.add("Gather", _reshape(graph, base, (-1,)), graph.array(places), axis=0)


@writes(written)
def write_written(graph: Graph, base: Any, value: Any, places: Tensor) -> Any:
    """Write a tensor with some elements replaced: joined where they are a box of it, else put one by one."""
    box = _box(places, base.shape)
    if box is None:
        return _scattered(graph, base, places, value)
    inner = _reshape(graph, value, tuple(end - start for start, end in box))
    return _joined(graph, base, tuple(base.shape), inner, box, 0)


def _joined(graph: Graph, base: Any, shape: tuple[int, ...], inner: Any, box: list[tuple[int, int]], axis: int) -> Any:
    """Write `base` with `inner` in a box of it, one dimension after the other from `axis` on."""
    while axis < len(box) and box[axis] == (0, shape[axis]):
        axis += 1
    if axis == len(box):
        return inner
    start, end = box[axis]

    def cut(first: int, last: int) -> Any:
        return graph.add("Slice", base, *(graph.integers(value) for value in (first, last, axis)))

    rest = (*shape[:axis], end - start, *shape[axis + 1 :])
    covers = all(side == (0, size) for side, size in zip(box[axis + 1 :], shape[axis + 1 :], strict=True))
    middle = (
        inner
        if covers
        else _joined(graph, cut(start, end), rest, inner, [*box[:axis], (0, end - start), *box[axis + 1 :]], axis + 1)
    )
    parts = [cut(0, start)] * (start > 0) + [middle] + [cut(end, shape[axis])] * (end < shape[axis])
    return graph.add("Concat", *parts, axis=axis)


def _box(places: Tensor, shape: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return start and end along each dimension, if places of the flattened tensor are all those of a box, in order."""
    if not places.numel():
        return None
    flat = places.flatten().numpy()
    first, last = (np.unravel_index(int(place), tuple(shape)) for place in (flat[0], flat[-1]))
    box = [(int(start), int(end) + 1) for start, end in zip(first, last, strict=True)]
    if any(start >= end for start, end in box):
        return None
    whole = np.arange(int(np.prod(shape))).reshape(tuple(shape))
    inside = whole[tuple(slice(start, end) for start, end in box)].ravel()
    return box if np.array_equal(inside, flat) else None
