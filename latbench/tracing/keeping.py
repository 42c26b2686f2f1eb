"""What a module keeps: noted before it is traced, put back afterwards, bit for bit.

The forward pass of a user's module may set attributes, append to lists and count its calls. While it is traced it would
keep stand-ins of tensors, and compute with them when it runs next.
"""

from __future__ import annotations

import operator
import sys
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_BASE = frozenset(vars(nn.Module()))
"""Attributes of every module: hooks and flags, which no forward pass writes."""

_PLAIN = frozenset(
    {int, float, str, bool, bytes, complex, type(None), type, range, slice, torch.dtype, torch.device, torch.Size}
    | {FunctionType, BuiltinFunctionType, MethodType, ModuleType}
)
_FOREIGN = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}
"""Packages whose objects are left alone: executors, locks, arrays."""


_HELD = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that hold others; a parameter is named without them, as in the state dict."""

_Path = tuple[Any, Any]
"""Where something is kept: the path of what holds it, and its key there. Most are never written out."""


class Keepsake:
    """What a module keeps, as it was when this was made: attributes, lists and dicts, and the tensors in them."""

    def __init__(self, module: nn.Module) -> None:
        self._notes: list[tuple[Any, Any, _Path]] = []
        self._tensors: list[tuple[Tensor, int, _Path]] = []
        self._seen: set[int] = set()
        waiting: list[tuple[Any, _Path]] = [(module, ())]  # type: ignore[list-item]
        while waiting:
            item, path = waiting.pop()
            if id(item) not in self._seen:
                self._seen.add(id(item))
                waiting += self._note(item, path)

    def written(self) -> str:
        """Return the name of a tensor that was written since; empty if none was."""
        found = (path for tensor, version, path in self._tensors if _version(tensor) != version)
        return next(map(_name, found), "")

    def replaced(self) -> Iterator[tuple[str, Any]]:
        """Yield the names of attributes and items that are another object since, with what they were."""
        for container, before, path in self._changed():
            now = dict(_items(container))
            for key, value in _items(before):
                if now.get(key, self) is not value:
                    yield _name((path, key)), value

    def restore(self) -> None:
        """Put everything back in its place."""
        for container, before, _ in self._changed():
            container.clear()
            if isinstance(container, dict | set):
                container.update(before)
            else:
                container.extend(before)

    def _changed(self) -> list[tuple[Any, Any, _Path]]:
        return [note for note in self._notes if (note[0] or note[1]) and not _unchanged(note[0], note[1])]

    def _note(self, item: Any, path: _Path) -> list[tuple[Any, _Path]]:
        """Note what something is now; return what it holds."""
        if isinstance(item, nn.Module):
            return self._note_module(item, path)
        if isinstance(item, Tensor):
            self._tensors.append((item, _version(item), path))
            return []
        if isinstance(item, dict | list | set | deque):
            self._notes.append((item, item.copy(), path))
            return [(value, (path, key)) for key, value in _items(item) if type(value) not in _PLAIN]
        if isinstance(item, tuple | frozenset):
            return [(value, (path, key)) for key, value in enumerate(item) if type(value) not in _PLAIN]
        if hasattr(item, "__dict__") and type(item).__module__.partition(".")[0] not in _FOREIGN:
            return [(vars(item), path)] if isinstance(vars(item), dict) else []
        return []

    def _note_module(self, module: nn.Module, path: _Path) -> list[tuple[Any, _Path]]:
        if isinstance(module, torch.jit.ScriptModule):
            return [(tensor, (path, "")) for tensor in (*module.parameters(), *module.buffers())]
        attributes = vars(module)
        self._notes.append((attributes, attributes.copy(), path))
        held = [(value, (path, key)) for name in _HELD for key, value in attributes[name].items() if value is not None]
        if type(module).__module__.startswith("torch.nn."):
            return held  # torch's own layers set nothing, though hooks may set something on them
        self._notes += [(attributes[name], attributes[name].copy(), path) for name in _HELD]
        own = attributes.keys() - _BASE
        return held + [(value, (path, key)) for key in own if type(value := attributes[key]) not in _PLAIN]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    return iter(container.items()) if isinstance(container, dict) else enumerate(container)


def _unchanged(container: Any, before: Any) -> bool:
    if len(container) != len(before):
        return False
    if isinstance(container, dict):
        return all(map(operator.is_, container.values(), before.values())) and all(map(operator.eq, container, before))
    return bool(container == before) if isinstance(container, set) else all(map(operator.is_, container, before))


def _name(path: _Path) -> str:
    parts = []
    while path:
        path, key = path
        parts.append(str(key))
    return ".".join(reversed(parts))


def _version(tensor: Tensor) -> int:
    # Inference tensors do not count their writes.
    return 0 if tensor.is_inference() else tensor._version
