"""Writers of the operators that work element by element, of reductions, and of what does nothing in eval mode."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, writes
from latbench.onnx_export.protobuf import element_type
from latbench.tracing import Node

UNARY = {
    "Abs": (torch.abs, Tensor.abs, operator.abs),
    "Ceil": (torch.ceil, Tensor.ceil),
    "Cos": (torch.cos, Tensor.cos),
    "Erf": (torch.erf, Tensor.erf),
    "Exp": (torch.exp, Tensor.exp),
    "Floor": (torch.floor, Tensor.floor),
    "HardSwish": (F.hardswish,),
    "Log": (torch.log, Tensor.log),
    "Neg": (torch.neg, Tensor.neg, operator.neg),
    "Not": (torch.logical_not, Tensor.logical_not, operator.invert),
    "Reciprocal": (torch.reciprocal, Tensor.reciprocal),
    "Relu": (F.relu, torch.relu, Tensor.relu),
    "Round": (torch.round, Tensor.round),
    "Sigmoid": (torch.sigmoid, Tensor.sigmoid, F.sigmoid),
    "Sign": (torch.sign, Tensor.sign),
    "Sin": (torch.sin, Tensor.sin),
    "Softsign": (F.softsign,),
    "Sqrt": (torch.sqrt, Tensor.sqrt),
    "Tanh": (torch.tanh, Tensor.tanh, F.tanh),
}

ARITHMETIC = {
    "Add": (torch.add, Tensor.add, operator.add),
    "Div": (torch.div, Tensor.div, torch.true_divide, operator.truediv),
    "Max": (torch.maximum, Tensor.maximum),
    "Min": (torch.minimum, Tensor.minimum),
    "Mul": (torch.mul, Tensor.mul, torch.multiply, operator.mul),
    "Pow": (torch.pow, Tensor.pow, operator.pow),
    "Sub": (torch.sub, Tensor.sub, operator.sub),
}

COMPARISON = {
    "And": (torch.logical_and, Tensor.logical_and),
    "Equal": (torch.eq, Tensor.eq, operator.eq),
    "Greater": (torch.gt, Tensor.gt, operator.gt),
    "GreaterOrEqual": (torch.ge, Tensor.ge, operator.ge),
    "Less": (torch.lt, Tensor.lt, operator.lt),
    "LessOrEqual": (torch.le, Tensor.le, operator.le),
    "Or": (torch.logical_or, Tensor.logical_or),
}

REDUCTION = {
    "ReduceMax": (torch.amax, Tensor.amax),
    "ReduceMean": (torch.mean, Tensor.mean),
    "ReduceMin": (torch.amin, Tensor.amin),
}


def unary(kind: str, graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write an operator of one tensor; the tracer has already dealt with `inplace`."""
    return graph.add(kind, x)


def arithmetic(kind: str, graph: Graph, x: Input | float, y: Input | float, *, alpha: float = 1) -> Any:
    """Write an operator of two tensors or numbers, both as the dtype of the result."""
    if alpha != 1:
        raise UnknownOperatorError
    dtype = graph.node.dtype
    return graph.add(kind, operand(graph, x, dtype), operand(graph, y, dtype))


def comparison(kind: str, graph: Graph, x: Any, y: Any) -> Any:
    left, right = (value if isinstance(value, int | float) else torch.empty(1, dtype=value.dtype) for value in (x, y))
    dtype = torch.result_type(left, right)
    return graph.add(kind, operand(graph, x, dtype), operand(graph, y, dtype))


def operand(graph: Graph, value: Any, dtype: torch.dtype) -> Input:
    """Return a tensor or number as an operand of this dtype."""
    if isinstance(value, int | float):
        return graph.scalar(value, dtype)
    if value.dtype == dtype:
        return value  # type: ignore[no-any-return]
    return graph.add("Cast", value, to=element_type(dtype))  # type: ignore[no-any-return]


def reduction(kind: str, graph: Graph, x: Node, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
    return graph.add(kind, x, axes=_axes(x, dim), keepdims=int(keepdim))


@writes(torch.sum, Tensor.sum)
def sum_(graph: Graph, x: Node, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
    """Write a sum over some or all dimensions: the one reduction whose axes are an input in this opset."""
    return graph.add("ReduceSum", x, graph.integers(*_axes(x, dim)), keepdims=int(keepdim))


def _axes(x: Node, dim: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if dim is None or dim == ():
        return tuple(range(len(x.shape)))
    return (dim,) if isinstance(dim, int) else tuple(dim)


@writes(torch.matmul, Tensor.matmul, operator.matmul, torch.bmm, Tensor.bmm, torch.mm, Tensor.mm)
def matmul(graph: Graph, x: Input, y: Input) -> Any:
    return graph.add("MatMul", x, y)


@writes(torch.einsum)
def einsum(graph: Graph, equation: str, *tensors: Any) -> Any:
    return graph.add("Einsum", *tensors, equation=equation)


for table, writer in ((UNARY, unary), (ARITHMETIC, arithmetic), (COMPARISON, comparison), (REDUCTION, reduction)):
    for name, functions in table.items():
        writes(*functions)(partial(writer, name))
