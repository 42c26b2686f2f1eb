"""The operators of an exported program as the torch functions that a module would have called in their place.

`torch.export` writes ``torch.ops.aten.conv2d.default(x, weight)`` where the module said ``F.conv2d(x, weight)``. Most
operators take the arguments of their function; those that do not are translated here, so that one table of ONNX writers
and one of FLOPs serve both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

Function = Callable[..., Any]


@functools.cache
def as_called(function: Function) -> Function | None:
    """Return what a module calls for an aten operator; None for any other function.

    Raises:
        TypeError: no function of torch has the operator's name.
    """
    if not isinstance(function, OpOverload):
        return None
    name = function.overloadpacket.__name__
    if name in _TRANSLATED:
        return _TRANSLATED[name]
    if name.endswith("_") and not hasattr(Tensor, name):
        return functools.partial(_call, getattr(F, name[:-1]), inplace=True)
    homes = (Tensor,) if name.endswith("_") else (F, torch, Tensor)
    found = next((getattr(home, name) for home in homes if hasattr(home, name)), None)
    if found is None:
        raise TypeError(f"torch has no function called {name!r}")
    if found is getattr(Tensor, name, None):
        return functools.partial(_call, lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs))
    return functools.partial(_call, found)


def _call(function: Function, *args: Any, **kwargs: Any) -> Any:
    """Call a function with tuples in place of lists: modules say ``(3, 3)`` where a program says ``[3, 3]``."""
    return function(*map(_tuple, args), **{key: _tuple(value) for key, value in kwargs.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, int) for item in value) else value


def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: Any) -> Any:
    momentum, eps, _ = rest
    return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)


def _instance_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, of_input: bool, *rest: Any) -> Any:
    momentum, eps, _ = rest
    return F.instance_norm(x, mean, variance, weight, bias, of_input, momentum, eps)


def _layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Any:
    return F.layer_norm(x, tuple(shape), weight, bias, eps)


def _group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Any:
    return F.group_norm(x, groups, weight, bias, eps)


def _embedding(weight: Any, indices: Any, *_: Any) -> Any:
    return F.embedding(indices, weight)


def _slice(x: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    return x[(*(slice(None),) * (dim % len(x.shape)), slice(start, end, step))]


def _select(x: Any, dim: int, index: int) -> Any:
    return x[(*(slice(None),) * (dim % len(x.shape)), index)]


def _nearest(x: Any, size: Any, scales: Any = None) -> Any:
    return F.interpolate(x, size, scales, mode="nearest")


def _bilinear(x: Any, size: Any, align_corners: bool, scales: Any = None) -> Any:
    return F.interpolate(x, size, scales, mode="bilinear", align_corners=align_corners)


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing in place of an assertion that the exporter added to the program."""


_TRANSLATED: dict[str, Function] = {
    "_assert_tensor_metadata": _nothing,
    "batch_norm": _batch_norm,
    "embedding": _embedding,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "select": _select,
    "slice": _slice,
    "split_with_sizes": torch.split,
    "sym_size": lambda x, dim: x.shape[dim],
    "upsample_bilinear2d": _bilinear,
    "upsample_nearest2d": _nearest,
}
"""Operators whose arguments differ from those of the function of the same name."""
