"""Which integer inputs of a module are indices into tables, and of how many rows: seen while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_TABLES: dict[str, Callable[..., Any]] = {
    "embedding": lambda weight, indices, *_: [(indices, weight.shape[0])],
    "embedding_bag": lambda weight, indices, *_: [(indices, weight.shape[0])],
    "_embedding_bag": lambda weight, indices, *_: [(indices, weight.shape[0])],
    "_embedding_bag_forward_only": lambda weight, indices, *_: [(indices, weight.shape[0])],
    "index_select": lambda x, dim, indices: [(indices, x.shape[dim])],
    "gather": lambda x, dim, indices, **_: [(indices, x.shape[dim])],
    "index": lambda x, indices: [(each, x.shape[dim]) for dim, each in enumerate(indices) if each is not None],
}
"""From the arguments of an operator that reads a table to the indices that it takes, each with its number of rows."""
_SAME_VALUES = {"_to_copy", "clone", "contiguous", "expand", "view", "reshape", "unsqueeze", "squeeze", "permute", "t"}
_SAME_VALUES |= {"transpose", "select", "slice", "alias", "to", "flatten", "_unsafe_view", "_reshape_alias", "chunk"}


def table_rows(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Run a module and return, for each input that indexes a table, the number of the table's rows.

    Where there are several tables, it is the smallest. An error of the module is passed on.
    """
    watch = _Indices(tensors)
    with torch.inference_mode(), watch:
        module(*tensors.values())
    return watch.rows


class _Indices(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: dict[str, int] = {}
        # Every tensor seen is kept, so that none gets the identity of another.
        self._kept: list[Any] = list(tensors.values())
        self._sources = {id(tensor): name for name, tensor in tensors.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _TABLES:
            for indices, rows in _TABLES[name](*args, **(kwargs or {})):
                source = self._sources.get(id(indices))
                if source is not None and indices.dtype is not torch.bool:
                    self.rows[source] = min(rows, self.rows.get(source, rows))
        elif name in _SAME_VALUES and args and id(args[0]) in self._sources:
            for made in result if isinstance(result, tuple | list) else [result]:
                self._sources[id(made)] = self._sources[id(args[0])]
                self._kept.append(made)
        return result
