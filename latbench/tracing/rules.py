"""Shapes of the results of common functions.

Torch's meta device knows every function, but its first use imports torch's compiler and SymPy: more than a second in
each process that measures, and each new call takes it milliseconds. These rules spare that for most networks. A rule
returns None where it does not apply, and the meta device answers instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.tracing.layouts import elementwise, like_image
from latbench.tracing.nodes import Spec

Rule = Callable[..., Spec | None]
RULES: dict[Any, Rule] = {}
"""The rule of each function that has one."""


def _rule(*functions: Any) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


def _both(*names: str) -> list[Any]:
    """Return what these are called as a function of torch, of torch.nn.functional and as a method."""
    return [getattr(home, name) for name in names for home in (torch, F, Tensor) if hasattr(home, name)]


@_rule(
    *_both("relu", "relu6", "hardtanh", "leaky_relu", "elu", "selu", "celu", "silu", "gelu", "mish", "softplus"),
    *_both("hardswish", "hardsigmoid", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "erf"),
    *_both("softsign", "logsigmoid", "reciprocal", "dropout"),
)
def _like_input(x: Spec, *_: Any, **kwargs: Any) -> Spec | None:
    if kwargs.get("dtype") is not None or not x.dtype.is_floating_point:
        return None
    return elementwise(Spec(x.shape, x.dtype), [x])


@_rule(*_both("neg", "abs", "square", "clamp", "clamp_min", "clamp_max", "round", "floor", "ceil"), operator.neg)
def _like_any_input(x: Spec, *bounds: Any, **named: Any) -> Spec | None:
    if any(isinstance(bound, Spec | float) for bound in (*bounds, *named.values())) and not x.dtype.is_floating_point:
        return None
    if any(isinstance(bound, Spec) for bound in (*bounds, *named.values())) or x.dtype == torch.bool:
        return None
    return elementwise(Spec(x.shape, x.dtype), [x])


@_rule(F.layer_norm, F.rms_norm, *_both("softmax", "log_softmax"))
def _contiguous(x: Spec, *given: Any, **named: Any) -> Spec | None:
    if any(isinstance(value, torch.dtype) for value in (*given, *named.values())):
        return None
    return Spec(x.shape, x.dtype)


@_rule(F.batch_norm, F.group_norm, F.instance_norm)
def _norm(x: Spec, *_: Any, **__: Any) -> Spec | None:
    return like_image(Spec(x.shape, x.dtype), x)


@_rule(*_both("add", "sub", "mul", "div", "true_divide", "multiply", "maximum", "minimum"))
@_rule(operator.add, operator.sub, operator.mul, operator.truediv)
def _broadcast(x: Any, y: Any, *, alpha: Any = 1) -> Spec | None:
    specs = [value for value in (x, y) if isinstance(value, Spec)]
    dtype = specs[0].dtype
    if not dtype.is_floating_point or specs[-1].dtype != dtype:
        return None
    if any(isinstance(value, complex) for value in (x, y)):
        return None
    return elementwise(Spec(np.broadcast_shapes(*(spec.shape for spec in specs)), dtype), specs)


@_rule(*_both("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"))
@_rule(Tensor.__eq__, Tensor.__ne__)
def _compare(x: Any, y: Any) -> Spec | None:
    specs = [value for value in (x, y) if isinstance(value, Spec)]
    return elementwise(Spec(np.broadcast_shapes(*(spec.shape for spec in specs)), torch.bool), specs)


@_rule(Tensor.pow, torch.pow, operator.pow, Tensor.__pow__)
def _power(x: Any, exponent: Any) -> Spec | None:
    return None if not isinstance(x, Spec) else _broadcast(x, exponent)


@_rule(torch.cat, torch.concat)
def _cat(tensors: Any, dim: int = 0) -> Spec | None:
    first = tensors[0]
    if any(tensor.dtype != first.dtype or len(tensor.shape) != len(first.shape) for tensor in tensors):
        return None
    shape = list(first.shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return like_image(Spec(tuple(shape), first.dtype), first)


@_rule(torch.stack)
def _stack(tensors: Any, dim: int = 0) -> Spec | None:
    first = tensors[0]
    if any(tensor.dtype != first.dtype for tensor in tensors):
        return None
    shape = list(first.shape)
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return Spec(tuple(shape), first.dtype)


@_rule(F.linear)
def _linear(x: Spec, weight: Spec, bias: Spec | None = None) -> Spec | None:
    if x.dtype != weight.dtype or len(weight.shape) != 2:
        return None
    return Spec((*x.shape[:-1], weight.shape[0]), x.dtype)


@_rule(*_both("matmul", "bmm", "mm"), operator.matmul)
def _matmul(x: Spec, y: Spec) -> Spec | None:
    if min(len(x.shape), len(y.shape)) < 2 or x.dtype != y.dtype:
        return None
    return Spec((*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]), x.dtype)


@_rule(F.scaled_dot_product_attention)
def _attention(query: Spec, key: Spec, value: Spec, *_: Any, enable_gqa: bool = False, **__: Any) -> Spec | None:
    if enable_gqa:
        return None
    batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    return Spec((*batch, query.shape[-2], value.shape[-1]), query.dtype)


@_rule(F.embedding)
def _embedding(indices: Spec, weight: Spec, *_: Any, **__: Any) -> Spec:
    return Spec((*indices.shape, weight.shape[1]), weight.dtype)


@_rule(F.conv1d, F.conv2d, F.conv3d)
def _conv(
    x: Spec,
    weight: Spec,
    bias: Spec | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Spec | None:
    kernel = weight.shape[2:]
    if len(x.shape) != len(kernel) + 2 or x.dtype != weight.dtype:
        return None
    if padding == "same":
        return like_image(Spec((x.shape[0], weight.shape[0], *x.shape[2:]), x.dtype), x, weight)
    sizes = _windows(x.shape[2:], kernel, stride, 0 if padding == "valid" else padding, dilation)
    return like_image(Spec((x.shape[0], weight.shape[0], *sizes), x.dtype), x, weight)


def _max_pool(
    dimensions: int,
    x: Spec,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Spec | None:
    if ceil_mode or return_indices or not stride or len(x.shape) != dimensions + 2:
        return None
    sizes = _windows(x.shape[2:], kernel_size, stride, padding, dilation)
    return like_image(Spec((*x.shape[:2], *sizes), x.dtype), x)


def _average_pool(
    dimensions: int,
    x: Spec,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *_: Any,
    **__: Any,
) -> Spec | None:
    return _max_pool(dimensions, x, kernel_size, stride, padding, ceil_mode=ceil_mode)


def _windows(sizes: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """Return how many windows fit along each spatial dimension."""
    numbers = (np.broadcast_to(value, len(sizes)).tolist() for value in (kernel, stride, padding, dilation))
    return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in zip(sizes, *numbers, strict=True))


def _adaptive_pool(dimensions: int, x: Spec, output_size: Any) -> Spec:
    # A tensor without batch is pooled along its last dimensions all the same.
    lead, sizes = x.shape[:-dimensions], x.shape[-dimensions:]
    wanted = (output_size,) * dimensions if isinstance(output_size, int | None) else tuple(output_size)
    wanted = wanted * dimensions if len(wanted) == 1 else wanted
    kept = (size if given is None else given for size, given in zip(sizes, wanted, strict=True))
    return like_image(Spec((*lead, *kept), x.dtype), x)


for _n in (1, 2, 3):
    RULES[getattr(F, f"max_pool{_n}d")] = partial(_max_pool, _n)
    RULES[getattr(F, f"avg_pool{_n}d")] = partial(_average_pool, _n)
    RULES[getattr(F, f"adaptive_avg_pool{_n}d")] = partial(_adaptive_pool, _n)


@_rule(torch.mean, Tensor.mean)
def _mean(x: Spec, dim: Any = None, keepdim: bool = False) -> Spec | None:
    if not x.dtype.is_floating_point:
        return None
    return _reduced(x, x.dtype, dim, keepdim)


@_rule(torch.sum, Tensor.sum)
def _sum(x: Spec, dim: Any = None, keepdim: bool = False) -> Spec | None:
    return _reduced(x, x.dtype if x.dtype.is_floating_point else torch.int64, dim, keepdim)


@_rule(*_both("var", "std"))
def _var(x: Spec, dim: Any = None, *_: Any, keepdim: bool = False, **__: Any) -> Spec | None:
    return None if isinstance(dim, bool) or _ else _reduced(x, x.dtype, dim, keepdim)


def _reduced(x: Spec, dtype: torch.dtype, dim: Any, keepdim: bool) -> Spec | None:
    if dim is None or dim == ():
        return None
    axes = {axis % len(x.shape) for axis in ((dim,) if isinstance(dim, int) else dim)}
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdim or axis not in axes]
    return Spec(tuple(kept), dtype)


@_rule(F.interpolate)
def _interpolate(
    x: Spec, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any, **__: Any
) -> Spec | None:
    if size is None or not isinstance(size, tuple) or len(size) != len(x.shape) - 2:
        return None
    return like_image(Spec((*x.shape[:2], *size), x.dtype), x)


@_rule(F.pad)
def _pad(x: Spec, pad: Any, mode: str = "constant", value: Any = None) -> Spec | None:
    if len(pad) % 2 or len(pad) // 2 > len(x.shape):
        return None
    shape = list(x.shape)
    for index in range(len(pad) // 2):
        shape[-1 - index] += pad[2 * index] + pad[2 * index + 1]
    return Spec(tuple(shape), x.dtype)


@_rule(Tensor.to)
def _to(x: Spec, dtype: torch.dtype) -> Spec | None:
    return elementwise(Spec(x.shape, dtype), [x]) if isinstance(dtype, torch.dtype) else None


@_rule(torch.where, Tensor.where)
def _where(condition: Spec, x: Any = None, y: Any = None) -> Spec | None:
    values = [value for value in (x, y) if isinstance(value, Spec)]
    if not values or x is None or y is None or not values[0].dtype.is_floating_point:
        return None
    if values[0].dtype != values[-1].dtype:
        return None
    shape = np.broadcast_shapes(condition.shape, *(value.shape for value in values))
    return elementwise(Spec(shape, values[0].dtype), [condition, *values])
