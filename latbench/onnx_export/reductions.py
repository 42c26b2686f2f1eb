"""Writers of reductions: sums, means, variances, norms, extremes and their places."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latbench.onnx_export.elementwise import choose, compute, flags, operand
from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, homes, writes
from latbench.tracing import Node

Axes = int | tuple[int, ...] | list[int] | None


def axes_of(x: Node, dim: Axes) -> tuple[int, ...]:
    """Return the dimensions that a reduction runs over: all of them for None and for an empty tuple."""
    if dim is None or dim in ((), []):
        return tuple(range(len(x.shape)))
    return tuple(axis % max(len(x.shape), 1) for axis in ((dim,) if isinstance(dim, int) else dim))


def mean(graph: Graph, x: Input, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Write the mean of something floating."""
    return graph.add("ReduceMean", x, axes=axes, keepdims=int(keepdim))


def total(graph: Graph, x: Input, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Write a sum: the one reduction whose axes are an input in this opset."""
    return graph.add("ReduceSum", x, graph.integers(*axes), keepdims=int(keepdim))


@writes(*homes("mean"))
def mean_(graph: Graph, x: Node, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Write a mean over some or all dimensions."""
    return mean(graph, operand(graph, x, graph.node.dtype), axes_of(x, dim), keepdim)


@writes(*homes("sum"))
def sum_(graph: Graph, x: Node, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Write a sum over some or all dimensions; that of flags and small integers is one of 64-bit integers."""
    return total(graph, operand(graph, x, graph.node.dtype), axes_of(x, dim), keepdim)


@writes(*homes("prod"))
def prod(graph: Graph, x: Node, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Write a product over one or all dimensions."""
    value = operand(graph, x, graph.node.dtype)
    return graph.add("ReduceProd", value, axes=axes_of(x, dim), keepdims=int(keepdim))


def extreme(kind: str, graph: Graph, x: Node, dim: Axes = (), keepdim: bool = False) -> Any:
    """Write the largest or smallest element over some or all dimensions."""
    return compute(graph, kind, x, dtype=x.dtype, axes=axes_of(x, dim), keepdims=int(keepdim))


def extreme_and_place(kind: str, graph: Graph, x: Node, dim: Any = None, keepdim: bool = False) -> Any:
    """Write ``x.max()``, ``x.max(dim)`` with its indices, or ``torch.max(x, y)``."""
    if isinstance(dim, Node | Tensor):
        return compute(graph, kind, x, dim, dtype=graph.node.dtype)
    if dim is None:
        return extreme(f"Reduce{kind}", graph, x)
    found = extreme(f"Reduce{kind}", graph, x, dim, keepdim)
    return [found, place(f"Arg{kind}", graph, x, dim, keepdim)]


def place(kind: str, graph: Graph, x: Node, dim: int | None = None, keepdim: bool = False) -> Any:
    """Write where the largest or smallest element is."""
    value: Input = operand(graph, x, torch.int32) if x.dtype in (torch.int64, torch.int16, torch.bool) else x
    if dim is None:
        value = graph.add("Reshape", value, graph.integers(-1))
        found = graph.add(kind, value, axis=0, keepdims=0)
        return found if not keepdim else graph.add("Reshape", found, graph.integers(*graph.node.shape))
    return graph.add(kind, value, axis=dim, keepdims=int(keepdim))


def quantified(kind: str, graph: Graph, x: Node, dim: Axes = None, keepdim: bool = False) -> Any:
    """Write whether any or all elements are true."""
    numbers = graph.cast(flags(graph, x), torch.int32)
    found = graph.add(kind, numbers, axes=axes_of(x, dim), keepdims=int(keepdim))
    return graph.cast(found, torch.bool)


@writes(*homes("var"))
def var(graph: Graph, x: Node, *args: Any, **kwargs: Any) -> Any:
    """Write a variance."""
    return _variance(graph, x, *args, **kwargs)[0]


@writes(*homes("std"))
def std(graph: Graph, x: Node, *args: Any, **kwargs: Any) -> Any:
    """Write a standard deviation."""
    return graph.add("Sqrt", _variance(graph, x, *args, **kwargs)[0])


@writes(torch.var_mean)
def var_mean(graph: Graph, x: Node, *args: Any, **kwargs: Any) -> list[str]:
    """Write a variance, and the mean that it is about."""
    variance, centre = _variance(graph, x, *args, **kwargs)
    return [variance, graph.add("Reshape", centre, graph.integers(*graph.node.spec[1].shape))]


@writes(torch.std_mean)
def std_mean(graph: Graph, x: Node, *args: Any, **kwargs: Any) -> list[str]:
    """Write a standard deviation, and the mean that it is about."""
    variance, average = var_mean(graph, x, *args, **kwargs)
    return [graph.add("Sqrt", variance), average]


def _variance(
    graph: Graph,
    x: Node,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> list[str]:
    """Write a variance and the mean that it is about, whose dimensions are kept."""
    if isinstance(dim, bool):  # ``x.var(False)``
        dim, unbiased = None, dim
    axes = axes_of(x, dim)
    less = correction if correction is not None else 0 if unbiased is False else 1
    centre = mean(graph, x, axes, True)
    deviation = graph.add("Sub", x, centre)
    average = mean(graph, graph.add("Mul", deviation, deviation), axes, keepdim)
    count = math.prod(x.shape[axis] for axis in axes)
    if less:
        average = graph.add("Mul", average, graph.scalar(count / (count - less), x.dtype))
    return [average, centre]


@writes(torch.linalg.vector_norm)
def vector_norm(
    graph: Graph, x: Node, ord: float = 2, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Write a norm of vectors: the p-th root of a sum of p-th powers, or an extreme."""
    if dtype not in (None, x.dtype):
        raise UnknownOperatorError
    axes, keep = axes_of(x, dim), int(keepdim)
    if ord in (1, 2):
        return graph.add(f"ReduceL{int(ord)}", x, axes=axes, keepdims=keep)
    size = graph.add("Abs", x)
    if ord in (math.inf, -math.inf):
        return graph.add("ReduceMax" if ord > 0 else "ReduceMin", size, axes=axes, keepdims=keep)
    if ord == 0:
        some = graph.cast(graph.add("Greater", size, graph.scalar(0, x.dtype)), x.dtype)
        return total(graph, some, axes, keepdim)
    powers = total(graph, graph.add("Pow", size, graph.scalar(ord, x.dtype)), axes, keepdim)
    return graph.add("Pow", powers, graph.scalar(1 / ord, x.dtype))


@writes(torch.linalg.norm, torch.norm_except_dim)
def linalg_norm(
    graph: Graph, x: Node, ord: Any = None, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Write the norm of vectors; matrices have another one, unless it is that of their elements."""
    alone = isinstance(dim, int) or (isinstance(dim, tuple) and len(dim) == 1) or len(x.shape) == 1
    if ord not in (None, "fro") and not alone:
        raise UnknownOperatorError
    return vector_norm(graph, x, 2 if ord in (None, "fro") else ord, dim, keepdim, dtype=dtype)


@writes(*homes("logsumexp"))
def logsumexp(graph: Graph, x: Node, dim: Axes, keepdim: bool = False) -> Any:
    """Write the logarithm of a sum of exponentials."""
    return graph.add("ReduceLogSumExp", x, axes=axes_of(x, dim), keepdims=int(keepdim))


@writes(*homes("cumsum"))
def cumsum(graph: Graph, x: Node, dim: int, *, dtype: Any = None) -> Any:
    """Write running sums."""
    return graph.add("CumSum", operand(graph, x, graph.node.dtype), graph.scalar(dim, torch.int64))


@writes(*homes("topk"))
def topk(graph: Graph, x: Node, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[str]:
    """Write the largest or smallest elements and their places."""
    return _extremes(graph, x, k, dim, largest=largest, sorted=sorted)


def _extremes(graph: Graph, x: Node, k: int, dim: int, *, largest: bool, sorted: bool = True) -> list[str]:
    value = graph.cast(x, torch.int64) if x.dtype in (torch.uint8, torch.int8, torch.int16) else x
    names: list[str] = graph.add(
        "TopK", value, graph.integers(k), outputs=2, axis=dim, largest=int(largest), sorted=int(sorted)
    )
    found: str = graph.cast(names[0], x.dtype) if value is not x else names[0]
    return [found, names[1]]


@writes(*homes("sort"))
def sort(graph: Graph, x: Node, dim: int = -1, descending: bool = False) -> list[str]:
    """Write a sort: all elements as the largest or smallest ones."""
    return _extremes(graph, x, x.shape[dim], dim, largest=descending)


@writes(*homes("argsort"))
def argsort(graph: Graph, x: Node, dim: int = -1, descending: bool = False) -> str:
    """Write the places that a sort takes elements from."""
    return _extremes(graph, x, x.shape[dim], dim, largest=descending)[1]


@writes(*homes("cosine_similarity"))
def cosine_similarity(graph: Graph, x: Node, y: Node, dim: int = 1, eps: float = 1e-8) -> Any:
    """Write the product of two vectors by that of their lengths, each of which is at least `eps`."""
    dtype = graph.node.dtype
    left, right = operand(graph, x, dtype), operand(graph, y, dtype)
    rank = max(len(x.shape), len(y.shape))
    axis = (dim % rank - rank,)
    lengths = [
        graph.add("Max", graph.add("ReduceL2", value, axes=axis, keepdims=0), graph.scalar(eps, dtype))
        for value in (left, right)
    ]
    return graph.add("Div", total(graph, graph.add("Mul", left, right), axis, False), graph.add("Mul", *lengths))


@writes(torch.count_nonzero, Tensor.count_nonzero)
def count_nonzero(graph: Graph, x: Node, dim: Axes = None) -> Any:
    """Write how many elements are not zero."""
    ones = choose(graph, flags(graph, x), 1, 0, torch.int64)
    return total(graph, ones, axes_of(x, dim), False)


for kind in ("Max", "Min"):
    lower = kind.lower()
    writes(*homes(f"a{lower}"))(partial(extreme, f"Reduce{kind}"))
    writes(*homes(lower))(partial(extreme_and_place, kind))
    writes(*homes(f"arg{lower}"))(partial(place, f"Arg{kind}"))
writes(*homes("any"))(partial(quantified, "ReduceMax"))
writes(*homes("all"))(partial(quantified, "ReduceMin"))
