"""Shapes of the results of common functions.

Torch's meta device knows every function, but its first use imports torch's compiler and SymPy: more than a second in
each process that measures. These rules avoid that for the networks of most search spaces. A rule returns None where it
does not apply, and the meta device answers instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.tracing.nodes import Spec

Rule = Callable[..., Spec | None]
RULES: dict[Any, Rule] = {}
"""The rule of each function that has one."""


def _rule(*functions: Any) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


@_rule(
    *(F.relu, torch.relu, Tensor.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.silu, F.gelu, F.mish),
    *(F.hardswish, F.hardsigmoid, torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh),
    *(F.batch_norm, F.layer_norm, F.group_norm, F.dropout),
)
def _like_input(x: Spec, *_: Any, **__: Any) -> Spec | None:
    return x if x.dtype.is_floating_point else None


@_rule(
    *(torch.add, Tensor.add, operator.add, torch.sub, Tensor.sub, operator.sub),
    *(torch.mul, Tensor.mul, operator.mul, torch.div, Tensor.div, operator.truediv),
)
def _broadcast(x: Any, y: Any) -> Spec | None:
    specs = [value for value in (x, y) if isinstance(value, Spec)]
    dtype = specs[0].dtype
    if not dtype.is_floating_point or specs[-1].dtype != dtype:
        return None
    return Spec(np.broadcast_shapes(*(spec.shape for spec in specs)), dtype)


@_rule(torch.cat)
def _cat(tensors: Any, dim: int = 0) -> Spec | None:
    first = tensors[0]
    if any(tensor.dtype != first.dtype for tensor in tensors):
        return None
    shape = list(first.shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return Spec(tuple(shape), first.dtype)


@_rule(F.linear)
def _linear(x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
    return Spec((*x.shape[:-1], weight.shape[0]), x.dtype)


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
    if len(x.shape) != len(kernel) + 2:
        return None
    if padding == "same":
        return Spec((x.shape[0], weight.shape[0], *x.shape[2:]), x.dtype)
    sizes = _windows(x.shape[2:], kernel, stride, 0 if padding == "valid" else padding, dilation)
    return Spec((x.shape[0], weight.shape[0], *sizes), x.dtype)


@_rule(F.max_pool1d, F.max_pool2d, F.max_pool3d)
def _max_pool(
    x: Spec,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Spec | None:
    if ceil_mode or return_indices or not stride:
        return None
    return Spec((*x.shape[:2], *_windows(x.shape[2:], kernel_size, stride, padding, dilation)), x.dtype)


@_rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def _average_pool(
    x: Spec, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, *_: Any, **__: Any
) -> Spec | None:
    return _max_pool(x, kernel_size, stride, padding, ceil_mode=ceil_mode)


def _windows(sizes: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """Return how many windows fit along each spatial dimension."""
    numbers = (np.broadcast_to(value, len(sizes)).tolist() for value in (kernel, stride, padding, dilation))
    return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in zip(sizes, *numbers, strict=True))


@_rule(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
def _adaptive_pool(x: Spec, output_size: Any) -> Spec | None:
    sizes = np.broadcast_to(output_size, len(x.shape) - 2).tolist()
    if None in sizes:
        return None
    return Spec((*x.shape[:2], *sizes), x.dtype)


@_rule(torch.mean, Tensor.mean)
def _mean(x: Spec, dim: Any = None, keepdim: bool = False) -> Spec | None:
    if dim is None:
        return None
    axes = {axis % len(x.shape) for axis in ((dim,) if isinstance(dim, int) else dim)}
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdim or axis not in axes]
    return Spec(tuple(kept), x.dtype)
