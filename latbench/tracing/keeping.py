"""What a module keeps: noted before it is traced, put back afterwards, bit for bit.

The forward pass of a user's module may set attributes, append to lists and count its calls. While it is traced it would
keep stand-ins of tensors, and compute with them when it runs next.
"""

from __future__ import annotations

import operator
import sys
from collections import deque
from collections.abc import Iterator
from functools import cached_property
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
        self._module = module
        self._held: list[Tensor] = []
        """The buffers of modules; what writes into a parameter is a call that everybody sees."""
        self._seen: set[int] = set()
        waiting: list[tuple[Any, _Path]] = [(module, ())]  # type: ignore[list-item]
        while waiting:
            item, path = waiting.pop()
            if id(item) not in self._seen:
                self._seen.add(id(item))
                note = self._note_module if isinstance(item, nn.Module) else self._note
                waiting += note(item, path)
        self._versions = _versions(self._held)

    def written(self) -> str:
        """Return the name of a tensor that was written since; empty if none was."""
        if self._versions != _versions(self._held):
            pairs = zip(self._held, self._versions, strict=True)
            return self._name_of(next(tensor for tensor, version in pairs if _version(tensor) != version))
        found = (path for tensor, version, path in self._tensors if _version(tensor) != version)
        return next(map(_name, found), "")

    def _name_of(self, wanted: Tensor) -> str:
        for path, module in self._module.named_modules():
            for name, tensor in module._buffers.items():
                if tensor is wanted:
                    return f"{path}.{name}" if path else name
        return "a tensor"

    def replaced(self) -> Iterator[tuple[str, Any]]:
        """Yield the names of attributes and items that are another object since, with what they were."""
        for container, before, path in self._changed:
            now = dict(_items(container))
            for key, value in _items(before):
                if now.get(key, self) is not value:
                    yield _name((path, key)), value

    def restore(self) -> None:
        """Put everything back in its place, once and for all."""
        for container, before, _ in self._changed:
            container.clear()
            if isinstance(container, dict | set):
                container.update(before)
            else:
                container.extend(before)

    @cached_property
    def _changed(self) -> list[tuple[Any, Any, _Path]]:
        return [note for note in self._notes if (note[0] or note[1]) and not _unchanged(note[0], note[1])]

    def _note(self, item: Any, path: _Path) -> list[tuple[Any, _Path]]:
        """Note what something is now; return what it holds."""
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
        attributes = module.__dict__
        self._notes.append((attributes, attributes.copy(), path))
        if attributes["_buffers"]:
            self._held += [tensor for tensor in attributes["_buffers"].values() if tensor is not None]
        held = [(child, (path, key)) for key, child in attributes["_modules"].items() if child is not None]
        if type(module).__module__.startswith("torch.nn."):
            return held  # torch's own layers set nothing, though hooks may set something on them
        self._notes += [(attributes[name], attributes[name].copy(), path) for name in _HELD]
        own = attributes.keys() - _BASE
        return held + [(value, (path, key)) for key in own if type(value := attributes[key]) not in _PLAIN]


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    return iter(container.items()) if isinstance(container, dict) else enumerate(container)


def _unchanged(container: Any, before: Any) -> bool:
    if len(container) != len(before):
        return False
    if isinstance(container, dict):
        return all(map(operator.is_, container.values(), before.values())) and list(container) == list(before)
    return bool(container == before) if isinstance(container, set) else all(map(operator.is_, container, before))


def _name(path: _Path) -> str:
    parts = []
    while path:
        path, key = path
        parts.append(str(key))
    return ".".join(reversed(parts))


def _versions(tensors: list[Tensor]) -> list[int]:
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return list(map(_version, tensors))


def _version(tensor: Tensor) -> int:
    # Inference tensors do not count their writes.
    return 0 if tensor.is_inference() else tensor._version
