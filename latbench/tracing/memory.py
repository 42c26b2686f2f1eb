"""Which traced tensors share memory, so that a write through one of them is seen through all.

A write makes no new tensor in torch, and every view of the written one changes with it. In a trace nothing changes:
a write makes a new node, and tensors that share its memory look for theirs again when they are read next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latbench.tracing.nodes import Node
from latbench.tracing.specs import spec_of

Record = Callable[..., Node]
"""Adds a call to the trace: ``record(function, args, spec=spec)``."""


def viewed(base: Tensor, indices: Tensor) -> Tensor:
    """Return those elements of `base`, counted along its flattened form."""
    return base.flatten()[indices]


def written(base: Tensor, value: Tensor, indices: Tensor) -> Tensor:
    """Return `base` with `value` at these elements, counted along its flattened form."""
    return base.flatten().scatter(0, indices.flatten(), value.flatten()).reshape(base.shape)


@dataclass(slots=True, eq=False)
class Memory:
    """One piece of memory: its content, and the tensor that covers all of it.

    Args:
        whole: the first tensor that was known of it.
        content: what `whole` holds now; a tensor where that is constant.
        version: how often it was written.
    """

    whole: Tensor
    content: Node | Tensor
    version: int = 0


@dataclass(slots=True, eq=False)
class Value:
    """What the trace knows of one tensor that a module handles.

    Args:
        tensor: the tensor, which has shape, dtype and strides, and shares a storage with its views.
        memory: what it looks at.
        node: what it holds, as of `version` of the memory.
        version: see `node`.
        look: how it was made from another view of the memory; None: not known, or it is the whole.
    """

    tensor: Tensor
    memory: Memory
    node: Node | Tensor
    version: int
    look: Callable[[], Node] | None = None

    def read(self, record: Record) -> Node | Tensor:
        """Return what the tensor holds now."""
        memory = self.memory
        if self.version != memory.version:
            if same_layout(self.tensor, memory.whole):
                self.node = memory.content
            elif self.look is not None:
                self.node = self.look()
            else:
                found = indices(memory.whole, self.tensor)
                self.node = record(viewed, (memory.content, found), spec=spec_of(self.tensor))
            self.version = memory.version
        return self.node

    def write(self, node: Node | Tensor, record: Record) -> None:
        """Have the tensor hold something else, and with it whatever shares its memory."""
        memory = self.memory
        if same_layout(self.tensor, memory.whole):
            memory.content = node
        else:
            found = indices(memory.whole, self.tensor)
            memory.content = record(written, (memory.content, node, found), spec=spec_of(memory.whole))
        memory.version += 1
        self.node, self.version = node, memory.version


def same_layout(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one storage are the same elements in the same order."""
    return (
        one.shape == other.shape
        and one.stride() == other.stride()
        and one.storage_offset() == other.storage_offset()
        and one.dtype == other.dtype
    )


def indices(whole: Tensor, part: Tensor) -> Tensor:
    """Return where the elements of a view lie in the flattened form of the tensor that covers its storage."""
    reach = max(_end(whole), _end(part))
    places = torch.full((reach,), -1)
    count = torch.arange(whole.numel()).view(whole.shape)
    places.as_strided(whole.shape, whole.stride(), whole.storage_offset()).copy_(count)
    found = places.as_strided(part.shape, part.stride(), part.storage_offset()).clone()
    if found.numel() and int(found.min()) < 0:
        raise TypeError("a view reaches beyond the tensor that it was made from")
    return found


def _end(tensor: Tensor) -> int:
    start = int(tensor.storage_offset())
    if not math.prod(tensor.shape):
        return start
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return start + 1 + sum((size - 1) * stride for size, stride in steps)


def storage(tensor: Tensor) -> int:
    """Return what identifies the memory of a tensor, as long as one tensor holds it."""
    key: Any = tensor.untyped_storage()._cdata
    return int(key)
