"""Sample inputs as a user hands them over, and how a network is called with them.

A network may take lists, dicts and plain values beside tensors, some of them by keyword. Runtimes of ONNX files know
tensors by name and nothing else: `Call` keeps what surrounds them.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latbench.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

Samples = Any
"""A tensor or an array, several of them in a tuple or a list in the order of ``forward``, or a mapping by name. In
place of each, ``forward`` may take a list, a tuple or a dict of them, or a plain value."""

_PLAIN = (bool, int, float, complex, str, type(None))
_PLAIN_TORCH = ("torch.dtype", "torch.device", "torch.Size", "torch.memory_format")


@dataclass(frozen=True, slots=True)
class _Slot:
    """Stands where a tensor goes."""

    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """How a network is called: its arguments, with a slot in place of every tensor."""

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]

    @classmethod
    def of(cls, named: Mapping[str, Samples], keywords: Collection[str] = ()) -> Call:
        """Return the call of a network that takes these samples in order, some of them by keyword."""
        slots = iter(range(sum(1 for _ in leaves(named))))
        emptied = {name: _emptied(value, slots) for name, value in named.items()}
        positional = tuple(value for name, value in emptied.items() if name not in keywords)
        return cls(positional, {name: value for name, value in emptied.items() if name in keywords})

    @property
    def is_plain(self) -> bool:
        """Whether the tensors themselves are the arguments."""
        return not self.keywords and all(type(value) is _Slot for value in self.positional)

    def filled(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with these tensors, in the order of `leaves`."""
        keywords = {name: _filled(value, tensors) for name, value in self.keywords.items()}
        return tuple(_filled(value, tensors) for value in self.positional), keywords


def named_samples(owner: str, names: Sequence[str] | None, given: Samples) -> dict[str, Samples]:
    """Return samples by the name of their argument, in the order in which they were given.

    Args:
        owner: of the samples, for messages.
        names: what the network calls its inputs, in order; None where it takes any number of them.
        given: by name, or in order: those are then named as the network does.

    Raises:
        ModelError: more samples than names, something that is neither a tensor nor a plain value, or no tensor at all.
    """
    if not isinstance(given, Mapping):
        values = list(given) if isinstance(given, tuple | list) else [given]
        if names is None:
            names = [f"input{index}" for index in range(len(values))]
        if len(values) > len(names):
            raise ModelError(f"{owner} gets {len(values)} samples: its forward takes {len(names)}")
        given = dict(zip(names, values, strict=False))
    named = {str(name): value for name, value in given.items()}
    for name, value in named.items():
        _check(owner, name, value)
    if named and not any(True for _ in leaves(named)):
        name, value = next(_plain_values(named))
        raise ModelError(f"the sample {name!r} of {owner} is a {type(value).__name__}: give a tensor or an array")
    return named


def leaves(named: Mapping[str, Samples]) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and arrays of samples, each by a name of its own: ``x``, ``features.0``, ``batch.image``."""
    for name, value in named.items():
        if _is_tensor(value):
            yield name, value
        elif isinstance(value, Mapping | tuple | list):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            yield from leaves({f"{name}.{key}": item for key, item in items})


def _plain_values(named: Mapping[str, Samples]) -> Iterator[tuple[str, Any]]:
    for name, value in named.items():
        if isinstance(value, Mapping | tuple | list) and len(value):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            yield from _plain_values({f"{name}.{key}": item for key, item in items})
        else:
            yield name, value


def replaced(named: Mapping[str, Samples], given: Mapping[str, Any]) -> dict[str, Samples]:
    """Return samples with other tensors in place of those that `leaves` names so."""
    call = Call.of(named)
    tensors = [given.get(name, value) for name, value in leaves(named)]
    return dict(zip(named, call.filled(tensors)[0], strict=True))


def parameter_names(module: nn.Module) -> list[str] | None:
    """Return what ``forward`` calls its inputs, in order; None where it takes any number of them."""
    parameters = _parameters(module)
    if parameters is None or any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def in_order(owner: str, module: nn.Module, named: Mapping[str, Samples]) -> tuple[dict[str, Samples], tuple[str, ...]]:
    """Sort samples as ``forward`` takes them; where it knows none of their names, they keep their order.

    Returns:
        The samples, and the names of those that are passed by keyword.

    Raises:
        ModelError: it knows some of the names only, or an input before the last one is missing.
    """
    parameters = _parameters(module) or []
    ordered = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = [p.name for p in parameters if p.name in named and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any_keyword = any(p.kind == p.VAR_KEYWORD for p in parameters)
    if not known:
        by_keyword = takes_any_keyword and not ordered and not any(p.kind == p.VAR_POSITIONAL for p in parameters)
        return dict(named), tuple(named) if by_keyword else ()
    unknown = [name for name in named if name not in known]
    listed = ", ".join(p.name for p in parameters)
    if unknown and not takes_any_keyword:
        raise ModelError(f"{owner} has no input {unknown[0]!r}: its forward takes {listed}, in this order")
    first_gap = next((index for index, p in enumerate(ordered) if p.name not in named), len(ordered))
    positional = [p.name for p in ordered[:first_gap]]
    rest = [name for name in (*known, *unknown) if name not in positional]
    behind = [index for index, p in enumerate(ordered) if p.name in rest]
    for p in ordered[: behind[-1]] if behind else ():
        if p.name not in named and p.default is p.empty:
            raise ModelError(f"{owner} also needs {p.name!r}: its forward takes {listed}, in this order")
    return {name: named[name] for name in (*positional, *rest)}, tuple(rest)


def _parameters(module: nn.Module) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # compiled code, such as TorchScript's, need not have a signature
        return None


def _is_tensor(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return True
    # A file for a runtime of ONNX needs no torch, and nobody has a tensor without it.
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numel")


def _emptied(value: Any, slots: Iterator[int]) -> Any:
    if _is_tensor(value):
        return _Slot(next(slots))
    if isinstance(value, Mapping):
        return {key: _emptied(item, slots) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return _like(value, [_emptied(item, slots) for item in value])
    return value


def _filled(value: Any, tensors: Sequence[Any]) -> Any:
    if type(value) is _Slot:
        return tensors[value.index]
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return _like(value, [_filled(item, tensors) for item in value])
    return value


def _like(value: Any, items: list[Any]) -> Any:
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _check(owner: str, name: str, value: Any) -> None:
    if isinstance(value, Mapping | tuple | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            _check(owner, f"{name}.{key}", item)
        return
    kind = type(value)
    if (
        not _is_tensor(value)
        and not isinstance(value, _PLAIN)
        and f"{kind.__module__}.{kind.__name__}" not in _PLAIN_TORCH
    ):
        raise ModelError(
            f"the sample {name!r} of {owner} is a {kind.__name__}: give a tensor or an array, "
            "or a list, a tuple or a dict of them; wrap a network that takes anything else"
        )
