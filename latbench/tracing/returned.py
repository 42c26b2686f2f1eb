"""The tensors among what a module returns, whatever they come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def returned_tensors(result: Any) -> list[Tensor]:
    """Return the tensors that a module returns, in order.

    They may come in tuples, lists, dicts, dataclasses and other objects, such as a cache of keys and values or a
    distribution, whose attributes are looked through. None, numbers and texts beside them are left out: no runtime
    gives them.
    """
    return list(_tensors(result, set()))


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in seen:
        return
    for item in _items(value):
        yield from _tensors(item, seen | {id(value)})


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, tuple | list):
        return value
    if isinstance(value, nn.Module | type) or callable(value):
        return ()
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]
