"""What kind of call a function is: a view, a write, a question about a tensor, a factory, or ordinary work."""

from __future__ import annotations

import functools
import inspect
import operator
import types
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload

Function = Callable[..., Any]


def _both(*names: str) -> frozenset[Any]:
    """Return what these are called as a function of torch and as a method."""
    return frozenset(getattr(home, name) for name in names for home in (torch, Tensor) if hasattr(home, name))


VIEWS: frozenset[Any] = _both(
    *(
        "permute",
        "transpose",
        "swapaxes",
        "swapdims",
        "movedim",
        "moveaxis",
        "t",
        "adjoint",
        "view_as_real",
        "as_strided",
    ),
    *("squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "view", "view_as", "unflatten"),
    *("chunk", "split", "tensor_split", "unbind", "narrow", "select", "diagonal", "split_with_sizes"),
    *(
        "reshape",
        "reshape_as",
        "flatten",
        "ravel",
        "hsplit",
        "vsplit",
        "dsplit",
        "atleast_1d",
        "atleast_2d",
        "atleast_3d",
    ),
) | {Tensor.unfold, Tensor.T.__get__, Tensor.mT.__get__, Tensor.H.__get__, Tensor.mH.__get__, operator.getitem}  # type: ignore[attr-defined]
"""Functions whose result is another look at their argument's memory (reshape and its kin: where strides allow it)."""

RESHAPES = _both("reshape", "reshape_as", "flatten", "ravel") | {Tensor.view, Tensor.view_as}
"""Views that copy where strides do not allow them."""

VALUES: frozenset[Any] = _both("item", "equal", "allclose", "is_nonzero", "nonzero", "argwhere", "masked_select") | {
    *(Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.__contains__, Tensor.tolist),
    *(Tensor.numpy, Tensor.data_ptr, Tensor.untyped_storage, Tensor.__array__, Tensor.__complex__, Tensor.__dlpack__),
    *(torch.unique, Tensor.unique, torch.unique_consecutive, torch.bincount, Tensor.bincount),
}
"""Functions whose result depends on values: a trace has none."""

FACTORIES = _both(
    *("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"),
    *("new_tensor", "new_empty_strided"),
)
"""Functions that look at no values of their argument, and return constants."""

RANDOM = _both("rand_like", "randn_like", "randint_like", "bernoulli", "multinomial", "poisson", "normal") | {
    *(torch.rand, torch.randn, torch.randint, torch.randperm),
    *(Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_, Tensor.random_, Tensor.exponential_),
}
"""Functions that draw random numbers."""

DROPOUTS = frozenset({F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout})

HARMLESS = frozenset({Tensor.requires_grad_, Tensor.detach_, Tensor.retain_grad, Tensor.requires_grad.__set__})  # type: ignore[attr-defined]
"""Functions that are named like writes and write no values."""

CASTS: dict[Any, torch.dtype] = {
    Tensor.float: torch.float32,
    Tensor.double: torch.float64,
    Tensor.half: torch.float16,
    Tensor.bfloat16: torch.bfloat16,
    Tensor.int: torch.int32,
    Tensor.long: torch.int64,
    Tensor.short: torch.int16,
    Tensor.char: torch.int8,
    Tensor.byte: torch.uint8,
    Tensor.bool: torch.bool,
}

COMPOSITES = frozenset(
    {
        F.multi_head_attention_forward,
        F.normalize,
        F.local_response_norm,
        F.softmin,
        F.tanhshrink,
        F.lp_pool1d,
        F.lp_pool2d,
    }
    | {torch.norm, Tensor.norm, Tensor.__reversed__, F.upsample, F.upsample_nearest, F.upsample_bilinear}
)
"""Python functions of torch that are recorded as the calls that they are made of."""


def _swapped(function: Function) -> Function:
    return lambda recorder, x, y: recorder.call(function, (y, x), {})


def _named(name: str) -> Function:
    return lambda recorder, *args, **kwargs: recorder.call(getattr(torch, name), args, kwargs)


CANONICAL: dict[Any, Function] = {
    Tensor.__rsub__: _swapped(operator.sub),
    Tensor.__rdiv__: _swapped(operator.truediv),
    Tensor.__rpow__: _swapped(operator.pow),
    Tensor.__rmatmul__: _swapped(torch.matmul),
    Tensor.__rfloordiv__: _swapped(operator.floordiv),
    Tensor.__rmod__: _swapped(operator.mod),
    Tensor.__floordiv__: lambda recorder, x, y: recorder.call(operator.floordiv, (x, y), {}),
    Tensor.__pow__: lambda recorder, x, y: recorder.call(torch.pow, (x, y), {}),
    Tensor.__getitem__: lambda recorder, x, index: recorder.call(operator.getitem, (x, index), {}),
    torch.split: lambda recorder, x, *args, **kwargs: recorder.call(Tensor.split, (x, *args), kwargs),
    torch.rsub: lambda recorder, x, y, **kwargs: recorder.call(torch.sub, (y, x), kwargs),
    **{getattr(Tensor, f"__{name}__"): _named(f"bitwise_{name}") for name in ("and", "or", "xor")},
    **{getattr(Tensor, f"__r{name}__"): _named(f"bitwise_{name}") for name in ("and", "or", "xor")},
    Tensor.__invert__: _named("bitwise_not"),
}
"""Spellings of a call that are recorded under another name."""


class Kind(Enum):
    """What a recorder does with a call."""

    WORK = auto()
    ANOTHER_NAME = auto()
    ANSWER = auto()
    VALUE = auto()
    COMPOSITE = auto()
    ATEN = auto()
    WRITE = auto()
    VIEW = auto()
    RANDOM = auto()


@functools.cache
def kind(function: Function) -> Kind:  # noqa: PLR0911 - one line for each kind
    """Return what kind of call a function is; whether one that takes ``out`` or ``inplace`` writes, its call tells."""
    from latbench.tracing.answers import ANSWERS

    if function in CANONICAL:
        return Kind.ANOTHER_NAME
    if function in ANSWERS:
        return Kind.ANSWER
    if function in VALUES:
        return Kind.VALUE
    if function in COMPOSITES:
        return Kind.COMPOSITE
    if isinstance(function, OpOverload):
        return Kind.ATEN
    if function in RANDOM and not is_write(function):
        return Kind.RANDOM
    if is_write(function):
        return Kind.WRITE
    if function in VIEWS:
        return Kind.VIEW
    return Kind.WORK if inplace_position(function) is None else Kind.WRITE


@functools.cache
def is_write(function: Function) -> bool:
    """Whether a function changes its first argument, by its name: ``add_``, ``__setitem__``, ``x.data = y``."""
    if function in (Tensor.__setitem__, Tensor.data.__set__):  # type: ignore[attr-defined]
        return True
    name = getattr(function, "__name__", "")
    if not name.endswith("_") or name.startswith("_") or function in HARMLESS:
        return False
    return any(hasattr(home, name) for home in (Tensor, torch, F))


@functools.cache
def out_of_place(function: Function) -> Function | None:
    """``torch.Tensor.add_`` -> ``torch.Tensor.add``; None where there is no such form."""
    name = getattr(function, "__name__", "")
    if name in FILLS:
        return FILLS[name]
    if function in RANDOM:
        return None
    return next((found for home in (Tensor, torch, F) if (found := getattr(home, name[:-1], None))), None)


FILLS: dict[str, Function] = {
    "zero_": lambda x: torch.zeros(x.shape, dtype=x.dtype),
    "fill_": lambda x, value: value,
    "copy_": lambda x, source, non_blocking=False: source,
}
"""What is written by methods without a form out of place."""


@functools.cache
def inplace_position(function: Function) -> int | None:
    """Where a function of Python takes ``inplace``; None if it does not."""
    if not isinstance(function, types.FunctionType):
        return None
    names = list(inspect.signature(function, follow_wrapped=False).parameters)
    return names.index("inplace") if "inplace" in names else None


@functools.cache
def body(function: types.FunctionType) -> Function:
    """Return a function of torch that does not ask its arguments for ``__torch_function__`` first."""
    asks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**function.__globals__, **dict.fromkeys(asks, lambda *_: False)}
    bare = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    bare.__kwdefaults__ = function.__kwdefaults__
    return bare
