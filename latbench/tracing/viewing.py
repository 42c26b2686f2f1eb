"""Views: another look at the memory of a tensor, or its copy where strides do not allow the look."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latbench.tracing import calls
from latbench.tracing.answers import without_values
from latbench.tracing.memory import storage
from latbench.tracing.nodes import Node, TraceError
from latbench.tracing.specs import spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latbench.tracing.memory import Value
    from latbench.tracing.recorder import Recorder

_MASKS = (torch.bool, torch.uint8)


def view(recorder: Recorder, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Record a call of a function that gives views; return what stands for its result."""
    if function is operator.getitem and not _is_basic(args[1]):
        if is_mask(recorder, args[1]):
            raise TraceError("its path depends on values: it takes as many elements as a mask has set")
        return recorder.work(function, (args[0], places(args[1])), kwargs)
    source, rest = args[0], tuple(map(without_values, args[1:]))
    parent = recorder.value(source)
    if parent is None:
        return recorder.run(function, (source, *rest), kwargs)
    result = function(source, *rest, **kwargs)
    if result is source:
        return source
    plain = tuple(map(_shape_only, rest))
    if isinstance(result, Tensor) and function in calls.RESHAPES and storage(result) != storage(source):
        node = recorder.record(function, (parent.read(recorder.record), *plain), kwargs, spec_of(result))
        return recorder.stand_in(node, result)

    def look(parent: Value = parent) -> Node:
        content = parent.read(recorder.record)
        spec = tuple(map(spec_of, result)) if isinstance(result, tuple | list) else spec_of(result)
        return recorder.record(function, (content, *plain), kwargs, spec)

    node = look()
    if isinstance(result, Tensor):
        return recorder.known(result, parent.memory, node, look).tensor
    for index, item in enumerate(result):
        recorder.known(item, parent.memory, recorder.item(node, index), partial(_item_of, recorder, look, index))
    return tuple(result)


def _item_of(recorder: Recorder, look: Callable[[], Node], index: int) -> Node:
    return recorder.item(look(), index)


def is_mask(recorder: Recorder, index: Any) -> bool:
    """Whether an index has a mask of computed values: how many elements it takes depends on them."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype in _MASKS and recorder.stands(part) for part in parts)


def places(index: Any) -> tuple[Any, ...]:
    """Return an index with the places of constant masks for them: how many they are is known."""
    found: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, list):
            part = torch.tensor(part)  # noqa: PLW2901 - what torch makes of it too
        found += part.nonzero(as_tuple=True) if isinstance(part, Tensor) and part.dtype in _MASKS else [part]
    return tuple(found)


def _shape_only(argument: Any) -> Any:
    # A view's other tensor argument (view_as, expand_as) gives its shape, which the result has.
    return tuple(argument.shape) if isinstance(argument, Tensor) else argument


def _is_basic(index: Any) -> bool:
    """Whether an index makes a view: numbers, slices, None, Ellipsis; tensors, lists and flags make copies."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or type(part) is int or isinstance(part, slice) for part in parts)
