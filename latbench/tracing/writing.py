"""Writes into tensors: ``x.add_(y)``, ``F.relu(x, inplace=True)``, ``torch.add(x, y, out=z)``, ``x[:, 1] = y``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from latbench.tracing import calls
from latbench.tracing.memory import Memory, Value, same_layout, storage
from latbench.tracing.nodes import TraceError
from latbench.tracing.specs import spec_of
from latbench.tracing.viewing import is_mask, places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latbench.tracing.recorder import Recorder


def writes(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call changes its first argument, or what it is given as `out`."""
    if calls.is_write(function) or kwargs.get("out") is not None or kwargs.get("inplace"):
        return True
    position = calls.inplace_position(function)
    return position is not None and len(args) > position and args[position] is True


def write(recorder: Recorder, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Record a call that writes; return the written tensor."""
    kwargs = dict(kwargs)
    target = kwargs.pop("out", args[0] if args else None)
    if not isinstance(target, Tensor) or function is Tensor.data.__set__:  # type: ignore[attr-defined]
        raise TraceError(f"it has {resolve_name(function)} write into something else than one tensor")
    value = _writable(recorder, target)
    if function is Tensor.__setitem__:
        _set_item(recorder, value, args[1], args[2])
        return None
    work = function
    if calls.is_write(function):
        work = calls.out_of_place(function)
        if work is None:
            raise TraceError(f"it calls {resolve_name(function)} of a computed tensor")
    else:
        kwargs.pop("inplace", None)
        position = calls.inplace_position(function)
        if position is not None and len(args) > position:
            args = (*args[:position], False, *args[position + 1 :])
    filling = work in calls.FILLS.values()
    _put(recorder, value, work(*args, **kwargs) if filling else recorder.call(work, args, kwargs))
    return target


def _writable(recorder: Recorder, target: Tensor) -> Value:
    """Return what is known of a tensor that is written; of a constant one made by this forward pass from now on."""
    value = recorder.value(target)
    if value is None:
        key = storage(target)
        if key not in recorder.fresh:
            raise TraceError("it writes what it computes into a tensor that it keeps")
        whole = target if target._base is None else target._base
        recorder.written[key] = memory = Memory(whole, whole.detach().clone())
        value = recorder.known(target, memory, memory.content, stale=True)
    return value


def _set_item(recorder: Recorder, whole: Value, index: Any, value: Any) -> None:
    target = whole.tensor
    computed_mask = is_mask(recorder, index)
    parts = places(index) if not computed_mask else index if isinstance(index, tuple) else (index,)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if not tensors:
        part = _part(recorder, whole, index)
        given = recorder.value(value) if isinstance(value, Tensor) else None
        if given is None or given.memory is not part.memory or not same_layout(given.tensor, part.tensor):
            _put(recorder, part, value)  # ``x[:, 1:] *= 2`` puts back the view that it has written: that is no write
        return
    if any(not isinstance(part, Tensor) for part in parts):
        # The slices and numbers first: what is left is a tensor indexed by tensors alone.
        spans = [slice(None)] * (tensors[0].dim() if computed_mask else 1)
        lead = [p for part in parts for p in (spans if isinstance(part, Tensor) else [part])]
        whole = _part(recorder, whole, tuple(lead))
        target = whole.tensor
        used = sum(part is not None and part is not Ellipsis for part in lead)
        rest = [slice(None)] * (
            len(target.shape) + sum(type(p) is int for p in lead) - sum(p is None for p in lead) - used
        )
        kept = [p for part in parts if type(part) is not int for p in (rest if part is Ellipsis else [part])]
        parts = tuple(part if isinstance(part, Tensor) else None for part in kept)
    if isinstance(value, int | float):
        value = torch.tensor(value, dtype=target.dtype)
    arguments = tuple(map(recorder.read, (target, parts, value)))
    # Its spec is known; torch.index_put itself takes no None for a whole dimension.
    node = recorder.record(torch.index_put, arguments, {}, spec_of(target))
    whole.write(node, recorder.record)


def _part(recorder: Recorder, whole: Value, index: Any) -> Value:
    """Return a view of a tensor that is about to be written: nothing is read for it."""
    return recorder.known(whole.tensor[index], whole.memory, whole.node, stale=True)


def _put(recorder: Recorder, value: Value, result: Any) -> None:
    """Write a tensor or number into a tensor, in the dtype and the shape of that."""
    target = value.tensor
    if not isinstance(result, Tensor):
        result = torch.full(target.shape, result, dtype=target.dtype)
    if result.dtype != target.dtype:
        result = recorder.call(Tensor.to, (result, target.dtype), {})
    if result.shape != target.shape:
        missing = result.dim() - target.dim()
        if missing > 0:  # leading dimensions of size one
            result = recorder.call(Tensor.reshape, (result, tuple(result.shape[missing:])), {})
        if result.shape != target.shape:
            result = recorder.call(Tensor.expand, (result, tuple(target.shape)), {})
    value.write(recorder.read(result), recorder.record)
