"""Writers of products of matrices and what is made of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.elementwise import compute, operand
from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, homes, writes
from latbench.tracing import Node


@writes(*homes("matmul", "bmm", "mm", "mv"))
def matmul(graph: Graph, x: Input, y: Input) -> Any:
    """Write a product of matrices, or of stacks of them."""
    return graph.add("MatMul", x, y)


@writes(*homes("dot", "inner", "vdot"))
def dot(graph: Graph, x: Node, y: Node) -> Any:
    """Write the product of two vectors."""
    if len(x.shape) != 1 or len(y.shape) != 1:
        raise UnknownOperatorError
    return graph.add("MatMul", x, y)


@writes(*homes("outer", "ger"))
def outer(graph: Graph, x: Any, y: Any) -> Any:
    """Write all products of the elements of two vectors."""
    column = graph.add("Reshape", x, graph.integers(-1, 1))
    return compute(graph, "Mul", column, y, dtype=graph.node.dtype)


@writes(F.linear)
def linear(graph: Graph, x: Node, weight: Tensor | Node, bias: Any = None) -> Any:
    """Write ``x @ weight.T + bias``: one Gemm for a matrix, a MatMul for other numbers of dimensions."""
    if len(x.shape) == 2 and len(weight.shape) == 2:
        return graph.add("Gemm", x, weight, bias, transB=1)
    turned: Any
    if isinstance(weight, Node):
        turned = graph.add("Transpose", weight, perm=tuple(reversed(range(len(weight.shape)))))
    else:
        values = graph.array(weight)
        turned = graph.once(("transposed", id(values)), graph.label(values), values.T.copy)
    product = graph.add("MatMul", x, turned)
    return product if bias is None else graph.add("Add", product, bias)


@writes(*homes("addmm", "addmv"))
def addmm(graph: Graph, x: Any, y: Any, z: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """Write ``beta * x + alpha * y @ z``."""
    if len(y.shape) == 2 and len(z.shape) == 2 and y.dtype.is_floating_point:
        return graph.add("Gemm", y, z, None if beta == 0 else x, alpha=float(alpha), beta=float(beta))
    return _sum_of_products(graph, x, graph.add("MatMul", y, z), beta, alpha)


@writes(*homes("baddbmm"))
def baddbmm(graph: Graph, x: Any, y: Any, z: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """Write ``beta * x + alpha * y @ z`` of stacks of matrices."""
    return _sum_of_products(graph, x, graph.add("MatMul", y, z), beta, alpha)


def _sum_of_products(graph: Graph, x: Any, product: str, beta: float, alpha: float) -> Any:
    dtype = graph.node.dtype
    if alpha != 1:
        product = graph.add("Mul", product, graph.scalar(alpha, dtype))
    if beta == 0:  # torch does not look at x then, not even for NaN
        return product
    return graph.add("Add", x if beta == 1 else graph.add("Mul", x, graph.scalar(beta, dtype)), product)


@writes(torch.einsum)
def einsum(graph: Graph, equation: Any, *tensors: Any) -> Any:
    """Write a sum of products in Einstein's notation; as text, or as a list of numbers after each tensor."""
    if not isinstance(equation, str):
        operands = (equation, *tensors)
        tensors, lists = operands[0::2], operands[1::2]
        if len(operands) % 2:
            tensors, result = tensors[:-1], operands[-1]
            equation = f"{','.join(map(_letters, lists))}->{_letters(result)}"
        else:
            equation = ",".join(map(_letters, lists))
    elif len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    dtype = graph.node.dtype
    return graph.add("Einsum", *(operand(graph, tensor, dtype) for tensor in tensors), equation=equation)


def _letters(numbers: Any) -> str:
    return "".join("..." if number is Ellipsis else chr(ord("a") + number) for number in numbers)


@writes(F.bilinear)
def bilinear(graph: Graph, x: Node, y: Node, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Write ``x @ weight[k] @ y`` for each output `k`."""
    product = graph.add("Einsum", x, weight, y, equation="...i,kij,...j->...k")
    return product if bias is None else graph.add("Add", product, bias)
