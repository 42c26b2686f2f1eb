"""What a trace is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn


class TraceError(Exception):
    """A module cannot be followed: its path depends on values, or it keeps what it computes for its next call."""


class Spec(NamedTuple):
    """What is known of a tensor without computing it; a stride of None is that of a contiguous tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stride: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What calls share that are equal in function, shapes, dtypes and plain arguments: one object for all of them.

    Args:
        spec: shape and dtype of the result; a tuple of them where the function returns several tensors.
        tensor: a tensor of that spec without values; None where the result is anything else than one tensor.
    """

    spec: Any
    tensor: torch.Tensor | None


@dataclass(slots=True, eq=False)
class Node:
    """One call of a torch function or method, or an input of the network.

    Args:
        function: what is called: ``torch.nn.functional.relu``, ``torch.Tensor.add``, ``torch.Tensor.view``, or one of
            `latbench.tracing.memory`; None: an input.
        args: its arguments: nodes, weights (tensors) and plain values, also inside lists and tuples.
        kwargs: its keyword arguments.
        spec: shape and dtype of the result; a tuple of them where the function returns several tensors.
        owner: the innermost module that makes the call.
        users: how often later calls and the outputs refer to the result.
        signature: what it shares with calls that are equal to it; None where that has not been worked out.
    """

    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    spec: Any
    owner: nn.Module | None = None
    users: int = 0
    signature: Signature | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        shape: tuple[int, ...] = self.spec.shape
        return shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the result."""
        dtype: torch.dtype = self.spec.dtype
        return dtype

    def reads(self) -> Iterator[Node]:
        """Yield the nodes among its arguments, one as often as it is read."""
        yield from nodes_in(self.args)
        if self.kwargs:
            yield from nodes_in(self.kwargs.values())


def nodes_in(arguments: Any) -> Iterator[Node]:
    """Yield the nodes among arguments, also those inside lists, tuples and dicts."""
    for argument in arguments:
        kind = type(argument)
        if kind is Node:
            yield argument
        elif kind is tuple or kind is list:
            yield from nodes_in(argument)
        elif kind is dict:
            yield from nodes_in(argument.values())


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(item)


@dataclass(slots=True)
class Trace:
    """The calls of a module in the order in which it makes them; an output is a node, or a weight."""

    inputs: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Node | torch.Tensor] = field(default_factory=list)

    def depends_on_inputs(self) -> bool:
        """Whether any output is computed from any input."""
        inputs, seen = set(self.inputs), set()
        waiting = [output for output in self.outputs if isinstance(output, Node)]
        while waiting:
            node = waiting.pop()
            if node in inputs:
                return True
            if node not in seen:
                seen.add(node)
                waiting.extend(node.reads())
        return False

    def constants(self) -> set[int]:
        """Return the ids of the real tensors that calls read."""
        return {id(tensor) for node in self.nodes for tensor in tensors_in((node.args, node.kwargs))}

    def drop_unused(self, functions: frozenset[Any]) -> None:
        """Remove the calls of these functions whose result nobody reads."""
        kept = []
        for node in reversed(self.nodes):
            if node.users == 0 and node.function in functions:
                for read in node.reads():
                    read.users -= 1
            else:
                kept.append(node)
        self.nodes = kept[::-1]
