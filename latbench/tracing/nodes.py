"""What a trace is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn


class Spec(NamedTuple):
    """What is known of a tensor without computing it."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(slots=True, eq=False)
class Node:
    """One call of a torch function or method, or an input of the network.

    Args:
        function: what is called: ``torch.nn.functional.relu``, ``operator.add``, ``torch.Tensor.view``; None: an input.
        args: its arguments: nodes, weights (tensors) and plain values, also inside lists and tuples.
        kwargs: its keyword arguments.
        spec: shape and dtype of the result; a tuple of them where the function returns several tensors.
        owner: the innermost module that makes the call.
        users: how often later calls and the outputs refer to the result.
    """

    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    spec: Any
    owner: nn.Module | None = None
    users: int = 0

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


@dataclass(slots=True)
class Trace:
    """The calls of a module in the order in which it makes them; an output is a node, or a weight."""

    inputs: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Node | torch.Tensor] = field(default_factory=list)
