"""Shape, dtype and strides of what a call returns: by a rule, or from torch's meta device; worked out once each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from latbench.tracing.layouts import contiguous_stride
from latbench.tracing.nodes import Node, Signature, Spec
from latbench.tracing.rules import RULES


def signature(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Signature:
    """Return what a call shares with all calls of equal shapes, dtypes and plain arguments."""
    return signature_of(function, tuple(map(freeze, args)), freeze_keywords(kwargs))


def freeze_keywords(kwargs: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return keyword arguments as part of a cache key."""
    return tuple((name, freeze(value)) for name, value in kwargs.items()) if kwargs else ()


def spec_of(tensor: torch.Tensor) -> Spec:
    """Return the spec of a tensor."""
    if tensor.layout != torch.strided or tensor.is_contiguous():
        return _contiguous(tensor.shape, tensor.dtype)
    return Spec(tuple(tensor.shape), tensor.dtype, tensor.stride())


@functools.lru_cache(maxsize=1 << 12)
def _contiguous(shape: torch.Size, dtype: torch.dtype) -> Spec:
    return Spec(tuple(shape), dtype)


class _Frozen(NamedTuple):
    """A list, slice, float or bool as part of a cache key: ``kind(*items)``, but its hash tells 1 from 1.0 and True."""

    kind: type
    items: tuple[Any, ...]


PLAIN = frozenset({int, str, type(None)})
"""Types of arguments that hold no tensor and are their own cache key: most arguments."""

_FLAGS = {flag: _Frozen(bool, (flag,)) for flag in (False, True)}


def freeze(argument: Any) -> Any:  # noqa: PLR0911 - one line for each kind of argument
    """Return an argument as part of a cache key: a tensor as its spec."""
    kind = type(argument)
    if kind in PLAIN:
        return argument
    if kind is Node:
        return argument.spec
    if kind is tuple:
        return argument if PLAIN.issuperset(map(type, argument)) else tuple(map(freeze, argument))
    if kind is bool:
        return _FLAGS[argument]
    if kind is float:
        return _number(argument)
    if isinstance(argument, torch.Tensor):
        return spec_of(argument)
    if kind is list:
        return _Frozen(list, tuple(map(freeze, argument)))
    if kind is slice:
        return _Frozen(slice, (argument.start, argument.stop, argument.step))
    return argument


@functools.lru_cache(maxsize=1 << 10)
def _number(value: float) -> _Frozen:
    return _Frozen(float, (value,))


def _thaw(argument: Any, tensor: Callable[[Spec], Any]) -> Any:
    if isinstance(argument, Spec):
        return tensor(argument)
    if isinstance(argument, _Frozen):
        items = [_thaw(item, tensor) for item in argument.items]
        return items if argument.kind is list else argument.kind(*items)
    if isinstance(argument, tuple):
        return tuple(_thaw(item, tensor) for item in argument)
    return argument


@functools.lru_cache(maxsize=1 << 14)
def signature_of(function: Callable[..., Any], args: Any, kwargs: Any) -> Signature:
    """Return the signature of a call whose arguments are frozen."""
    rule = RULES.get(function)
    if rule is not None:
        try:
            spec = rule(*_thaw(args, _itself), **{name: _thaw(value, _itself) for name, value in kwargs})
        except TypeError:  # arguments that the rule does not know
            spec = None
        if spec is not None:
            return Signature(spec, stand_in(spec))
    result = function(*_thaw(args, stand_in), **{name: _thaw(value, stand_in) for name, value in kwargs})
    spec = _spec(result)
    return Signature(spec, stand_in(spec) if type(spec) is Spec else None)


def _itself(spec: Spec) -> Spec:
    return spec


def stand_in(spec: Spec) -> torch.Tensor:
    """Return a tensor that has a spec's shape, dtype and strides, and no values."""
    stride = spec.stride if spec.stride is not None else contiguous_stride(spec.shape)
    return torch.empty_strided(spec.shape, stride, dtype=spec.dtype, device="meta")


def _spec(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return spec_of(result)
    if isinstance(result, tuple | list) and any(isinstance(item, torch.Tensor) for item in result):
        specs = tuple(map(_spec, result))
        return type(result)(specs) if is_named(result) else specs
    return result


def is_named(result: Any) -> bool:
    """Whether the results of a call have names, as those of ``x.max(1)``."""
    return type(result).__module__ == "torch.return_types"
