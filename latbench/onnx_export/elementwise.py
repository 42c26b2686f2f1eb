"""Writers of the operators that work element by element, and of casts and choices."""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, homes, writes
from latbench.tracing import Node

UNARY = {
    "Abs": (*homes("abs"), operator.abs),
    "Acos": homes("acos"),
    "Asin": homes("asin"),
    "Atan": homes("atan"),
    "Ceil": homes("ceil"),
    "Cos": homes("cos"),
    "Cosh": homes("cosh"),
    "Erf": homes("erf"),
    "Exp": homes("exp"),
    "Floor": homes("floor"),
    "HardSwish": (F.hardswish,),
    "Log": homes("log"),
    "Neg": (*homes("neg", "negative"), operator.neg),
    "Reciprocal": homes("reciprocal"),
    "Relu": homes("relu"),
    "Round": homes("round"),
    "Sigmoid": homes("sigmoid"),
    "Sign": homes("sign"),
    "Sin": homes("sin"),
    "Sinh": homes("sinh"),
    "Softsign": (F.softsign,),
    "Sqrt": homes("sqrt"),
    "Tan": homes("tan"),
    "Tanh": homes("tanh"),
}

ARITHMETIC = {
    "Add": (*homes("add"), operator.add),
    "Max": homes("maximum"),
    "Min": homes("minimum"),
    "Mul": (*homes("mul", "multiply"), operator.mul),
    "Pow": (*homes("pow"), operator.pow),
    "Sub": (*homes("sub", "subtract"), operator.sub),
}

COMPARISON = {
    "Equal": (*homes("eq"), operator.eq, Tensor.__eq__),
    "Greater": (*homes("gt", "greater"), operator.gt),
    "GreaterOrEqual": (*homes("ge", "greater_equal"), operator.ge),
    "Less": (*homes("lt", "less"), operator.lt),
    "LessOrEqual": (*homes("le", "less_equal"), operator.le),
}

LOGIC = {"And": homes("logical_and"), "Or": homes("logical_or"), "Xor": homes("logical_xor")}

_BOOLEAN = {"Add": "Or", "Mul": "And", "Max": "Or", "Min": "And", "Abs": "Identity"}
"""What arithmetic is among flags, in torch."""

_SMALL = {torch.int8, torch.int16, torch.uint8}
"""Integers that runtimes move and compare, but do not compute with."""

_SINGLE = {"Erf", "Softsign", "HardSwish", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tan"}
"""Operators that runtimes have in single precision only."""


def compute(graph: Graph, kind: str, *values: Any, dtype: torch.dtype, **attributes: Any) -> Any:
    """Write an operator whose operands and result are of one dtype, by way of one that runtimes compute in."""
    if dtype == torch.bool:
        kind = _BOOLEAN[kind]
    working = torch.int32 if dtype in _SMALL else dtype
    if dtype == torch.float64 and kind in _SINGLE:
        working = torch.float32
    values = tuple(graph.cast(v, working) if isinstance(v, str) and working != dtype else v for v in values)
    result = graph.add(kind, *(operand(graph, value, working) for value in values), **attributes)
    return result if working == dtype else graph.cast(result, dtype)


def operand(graph: Graph, value: Any, dtype: torch.dtype) -> Input:
    """Return a tensor or number as an operand of this dtype; the name of a result is taken for one of it."""
    if isinstance(value, bool | int | float):
        return graph.scalar(value, dtype)
    if isinstance(value, str) or value.dtype == dtype:
        return value  # type: ignore[no-any-return]
    if isinstance(value, Tensor):
        return graph.converted(value, dtype)
    return graph.cast(value, dtype)  # type: ignore[no-any-return]


def unary(kind: str, graph: Graph, x: Node, inplace: bool = False) -> Any:
    """Write an operator of one tensor; the tracer has already dealt with `inplace`."""
    dtype = graph.node.dtype
    if not dtype.is_floating_point and kind in ("Ceil", "Floor", "Round"):
        return graph.name(x)
    if kind == "Relu" and not dtype.is_floating_point:
        return compute(graph, "Max", x, 0, dtype=dtype)
    return compute(graph, kind, x, dtype=dtype)


def arithmetic(kind: str, graph: Graph, x: Any, y: Any, *, alpha: float = 1) -> Any:
    """Write an operator of two tensors or numbers, both as the dtype of the result."""
    dtype = graph.node.dtype
    if alpha != 1:
        y = compute(graph, "Mul", y, alpha, dtype=dtype)
    return compute(graph, kind, x, y, dtype=dtype)


def comparison(kind: str, graph: Graph, x: Any, y: Any) -> Any:
    """Write a comparison of two tensors or numbers."""
    dtype = _common(x, y)
    if dtype == torch.bool and kind != "Equal":
        dtype = torch.int32
    working = torch.int32 if dtype in _SMALL else dtype
    return graph.add(kind, operand(graph, x, working), operand(graph, y, working))


def _common(*values: Any) -> torch.dtype:
    """Return the dtype in which torch brings tensors and numbers together."""
    left, right = (
        value if isinstance(value, bool | int | float) else torch.empty((1,) * len(value.shape), dtype=value.dtype)
        for value in values
    )
    return torch.result_type(left, right)


@writes(*homes("ne", "not_equal"), operator.ne, Tensor.__ne__)
def not_equal(graph: Graph, x: Any, y: Any) -> Any:
    """Write a comparison that has no operator of its own."""
    return graph.add("Not", comparison("Equal", graph, x, y))


def logic(kind: str, graph: Graph, x: Any, y: Any) -> Any:
    """Write an operator of flags; other numbers are true unless they are zero."""
    return graph.add(kind, flags(graph, x), flags(graph, y))


def flags(graph: Graph, x: Any) -> Input:
    """Return a tensor as flags."""
    return operand(graph, x, torch.bool)


@writes(*homes("logical_not"))
def logical_not(graph: Graph, x: Any) -> Any:
    """Write a negation of flags."""
    return graph.add("Not", flags(graph, x))


@writes(*homes("bitwise_not"), operator.invert)
def bitwise_not(graph: Graph, x: Node) -> Any:
    """Write ``~x``: of flags their negation, of a signed integer ``-x - 1``."""
    if x.dtype == torch.bool:
        return graph.add("Not", x)
    minus = compute(graph, "Mul", x, -1, dtype=torch.int32 if x.dtype in _SMALL else x.dtype)
    working = torch.int32 if x.dtype in _SMALL else x.dtype
    return graph.cast(graph.add("Sub", minus, graph.scalar(1, working)), x.dtype)


def bitwise(kind: str, graph: Graph, x: Any, y: Any) -> Any:
    """Write ``x & y`` of flags; of integers it has no operator in this opset."""
    if graph.node.dtype != torch.bool:
        raise UnknownOperatorError
    return logic(kind, graph, x, y)


@writes(*homes("div", "divide", "true_divide"), operator.truediv)
def divide(graph: Graph, x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    """Write a division: of real numbers, or rounded down or towards zero."""
    dtype = graph.node.dtype
    if rounding_mode is None:
        return compute(graph, "Div", x, y, dtype=dtype)
    working = dtype if dtype.is_floating_point else torch.float64
    quotient = graph.add("Div", operand(graph, x, working), operand(graph, y, working))
    rounded = graph.add("Floor", quotient) if rounding_mode == "floor" else _truncated(graph, quotient)
    return rounded if working == dtype else graph.cast(rounded, dtype)


@writes(*homes("floor_divide"), operator.floordiv)
def floor_divide(graph: Graph, x: Any, y: Any) -> Any:
    """Write ``x // y``."""
    return divide(graph, x, y, rounding_mode="floor")


@writes(*homes("trunc", "fix"))
def truncate(graph: Graph, x: Node) -> Any:
    """Write a rounding towards zero."""
    return _truncated(graph, x) if x.dtype.is_floating_point else graph.name(x)


def _truncated(graph: Graph, x: Input) -> Any:
    return graph.add("Mul", graph.add("Sign", x), graph.add("Floor", graph.add("Abs", x)))


@writes(*homes("remainder"), operator.mod)
def remainder(graph: Graph, x: Any, y: Any) -> Any:
    """Write ``x % y`` with the sign of `y`, as Python has it."""
    dtype = graph.node.dtype
    if not dtype.is_floating_point:
        return compute(graph, "Mod", x, y, dtype=dtype)
    left, right = operand(graph, x, dtype), operand(graph, y, dtype)
    whole = graph.add("Mul", graph.add("Floor", graph.add("Div", left, right)), right)
    return graph.add("Sub", left, whole)


@writes(*homes("rsqrt"))
def rsqrt(graph: Graph, x: Any) -> Any:
    """Write ``1 / sqrt(x)``."""
    return graph.add("Reciprocal", graph.add("Sqrt", operand(graph, x, graph.node.dtype)))


@writes(*homes("square"))
def square(graph: Graph, x: Node) -> Any:
    """Write ``x * x``."""
    return compute(graph, "Mul", x, x, dtype=graph.node.dtype)


@writes(*homes("expm1"))
def expm1(graph: Graph, x: Node) -> Any:
    """Write ``exp(x) - 1``."""
    return graph.add("Sub", graph.add("Exp", x), graph.scalar(1, x.dtype))


@writes(*homes("log1p"))
def log1p(graph: Graph, x: Node) -> Any:
    """Write ``log(1 + x)``."""
    return graph.add("Log", graph.add("Add", x, graph.scalar(1, x.dtype)))


@writes(*homes("exp2"))
def exp2(graph: Graph, x: Node) -> Any:
    """Write ``2 ** x``."""
    return graph.add("Exp", graph.add("Mul", x, graph.scalar(math.log(2), x.dtype)))


def _scaled_log(base: float, graph: Graph, x: Node) -> Any:
    return graph.add("Mul", graph.add("Log", x), graph.scalar(1 / math.log(base), x.dtype))


@writes(*homes("lerp"))
def lerp(graph: Graph, x: Any, y: Any, weight: Any) -> Any:
    """Write ``x + weight * (y - x)``."""
    dtype = graph.node.dtype
    step = graph.add("Sub", operand(graph, y, dtype), operand(graph, x, dtype))
    return graph.add("Add", operand(graph, x, dtype), graph.add("Mul", operand(graph, weight, dtype), step))


def _combined(kind: str, graph: Graph, x: Any, y: Any, z: Any, *, value: float = 1) -> Any:
    dtype = graph.node.dtype
    term = compute(graph, kind, y, z, dtype=dtype)
    if value != 1:
        term = compute(graph, "Mul", term, value, dtype=dtype)
    return compute(graph, "Add", x, term, dtype=dtype)


@writes(*homes("where"))
def where(graph: Graph, condition: Any, x: Any, y: Any) -> Any:
    """Write ``x where condition else y``; as a method the tensor comes first and the condition second."""
    if graph.node.function is Tensor.where:
        condition, x = x, condition
    return choose(graph, condition, x, y, graph.node.dtype)


def choose(graph: Graph, condition: Any, x: Any, y: Any, dtype: torch.dtype) -> Any:
    """Write a choice between two tensors or numbers."""
    working = torch.int32 if dtype in _SMALL or dtype == torch.bool else dtype
    chosen = graph.add("Where", flags(graph, condition), operand(graph, x, working), operand(graph, y, working))
    return chosen if working == dtype else graph.cast(chosen, dtype)


@writes(*homes("masked_fill"))
def masked_fill(graph: Graph, x: Any, mask: Any, value: Any) -> Any:
    """Write a constant where a mask is set."""
    return choose(graph, mask, value, x, graph.node.dtype)


@writes(*homes("clamp", "clip"))
def clamp(graph: Graph, x: Any, min: Any = None, max: Any = None) -> Any:
    """Write a clamp to numbers or tensors."""
    dtype = graph.node.dtype
    if isinstance(min, int | float) and isinstance(max, int | float | None) and dtype.is_floating_point:
        return clip(graph, operand(graph, x, dtype), min, max, dtype)
    result = x
    if min is not None:
        result = compute(graph, "Max", result, min, dtype=dtype)
    if max is not None:
        result = compute(graph, "Min", result, max, dtype=dtype)
    return result


@writes(*homes("clamp_min"))
def clamp_min(graph: Graph, x: Any, min: Any) -> Any:
    """Write a lower bound."""
    return clamp(graph, x, min)


@writes(*homes("clamp_max"))
def clamp_max(graph: Graph, x: Any, max: Any) -> Any:
    """Write an upper bound."""
    return clamp(graph, x, None, max)


def clip(graph: Graph, x: Input, low: float, high: float | None, dtype: torch.dtype) -> Any:
    """Write a clamp to two numbers."""
    return graph.add("Clip", x, graph.scalar(low, dtype), None if high is None else graph.scalar(high, dtype))


@writes(torch.isnan, Tensor.isnan)
def isnan(graph: Graph, x: Node) -> Any:
    """Write a test for what is no number."""
    return graph.add("IsNaN", x)


@writes(torch.isinf, Tensor.isinf)
def isinf(graph: Graph, x: Node) -> Any:
    """Write a test for infinity of either sign."""
    return graph.add("IsInf", graph.cast(x, torch.float32) if x.dtype == torch.float64 else x)


@writes(torch.nan_to_num, Tensor.nan_to_num)
def nan_to_num(
    graph: Graph, x: Node, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """Write a replacement of what is no number, and of infinities."""
    info = torch.finfo(x.dtype)
    known = choose(graph, graph.add("IsNaN", x), nan or 0.0, x, x.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    known = choose(graph, graph.add("Equal", x, graph.scalar(math.inf, x.dtype)), high, known, x.dtype)
    return choose(graph, graph.add("Equal", x, graph.scalar(-math.inf, x.dtype)), low, known, x.dtype)


for table, writer in ((UNARY, unary), (ARITHMETIC, arithmetic), (COMPARISON, comparison), (LOGIC, logic)):
    for name, functions in table.items():
        writes(*functions)(partial(writer, name))
for name in LOGIC:
    writes(*homes(f"bitwise_{name.lower()}"))(partial(bitwise, name))
for base, functions in ((2, homes("log2")), (10, homes("log10"))):
    writes(*functions)(partial(_scaled_log, base))
writes(*homes("addcmul"))(partial(_combined, "Mul"))
writes(*homes("addcdiv"))(partial(_combined, "Div"))
