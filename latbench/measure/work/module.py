"""Count the multiply-accumulates of a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import nn

from latbench.measure.work.convolution import inside_share, least_share
from latbench.tracing.operators import Operator, operators

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_WORK_BYTES = 4
"""Bytes of an element in single precision: what is smaller may run on units that are many times faster."""


def products(module: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> tuple[int | None, float | None, int | None]:
    """Return the multiply-accumulates, the least operations and the least bytes of `latbench.measure.work.Work`.

    What the module raises when it is traced is passed on.
    """
    found = [operator for operator in operators(module, inputs) if operator.flops]
    macs = sum(operator.flops for operator in found) // 2
    if not _in_single_precision(module, inputs):
        return macs, None, None
    # One layer that is called twice reads its weights once, if a cache holds them.
    read = {operator.name.partition("/")[0]: operator.params for operator in found}
    return macs, sum(map(_least_flops, found)), _WORK_BYTES * sum(read.values())


def _in_single_precision(module: nn.Module, inputs: Mapping[str, NDArray[Any]]) -> bool:
    held = [tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    given = [value.dtype.itemsize for value in inputs.values() if value.dtype.kind == "f"]
    return all(dtype.itemsize >= _WORK_BYTES for dtype in held) and all(size >= _WORK_BYTES for size in given)


def _least_flops(operator: Operator) -> float:
    if operator.type == "scaled_dot_product_attention":
        return operator.flops / 2  # what a causal mask hides need not be computed
    if operator.type not in _CONVOLUTIONS:
        return operator.flops
    attributes = dict(operator.attributes)
    kernel = attributes["kernel"]
    stride, dilation = (_each(attributes.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    share = least_share(kernel, stride, dilation, attributes.get("groups", 1))
    inside = inside_share(
        operator.input_shapes[0][-len(kernel) :],
        operator.output_shapes[0][-len(kernel) :],
        kernel=kernel,
        stride=stride,
        padding=_padding(attributes, kernel, dilation),
        dilation=dilation,
    )
    return operator.flops * share * inside


def _padding(attributes: Mapping[str, Any], kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    padding = attributes.get("padding", 0)
    if padding == "same":
        return tuple(apart * (taps - 1) // 2 for taps, apart in zip(kernel, dilation, strict=True))
    return _each(0 if padding == "valid" else padding, len(kernel))


def _each(value: Any, dimensions: int) -> tuple[int, ...]:
    return (
        tuple(value) * (dimensions if len(value) == 1 else 1)
        if isinstance(value, tuple | list)
        else (value,) * dimensions
    )
