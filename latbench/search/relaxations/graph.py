"""The incoming edges of a cell's nodes, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latbench.errors import UsageError

Edge = tuple[int, int]
"""The node that it reads, and the one that sums it."""


class Incoming:
    """Brings values of edges to one row a node, and back.

    Args:
        edges: ``(source, node)`` pairs; every node needs at least two.

    Raises:
        UsageError: a node with fewer than two incoming edges.
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.edges: dict[int, list[int]] = {}
        for index, (_, node) in enumerate(edges):
            self.edges.setdefault(node, []).append(index)
        for node, incoming in self.edges.items():
            if len(incoming) < 2:
                raise UsageError(f"node {node} has {len(incoming)} incoming edge: give every node at least two")
        self.width = max(map(len, self.edges.values()))
        places = {
            index: (row, column)
            for row, incoming in enumerate(self.edges.values())
            for column, index in enumerate(incoming)
        }
        self._rows, self._columns = map(list, zip(*(places[index] for index in range(len(edges))), strict=True))

    def by_node(self, values: Tensor) -> Tensor:
        """Turn ``(..., edges)`` into ``(..., nodes, width)``, -inf where a node has fewer edges than another."""
        rows = values.new_full((*values.shape[:-1], len(self.edges), self.width), -torch.inf)
        rows[..., self._rows, self._columns] = values
        return rows

    def by_edge(self, rows: Tensor) -> Tensor:
        """Turn ``(..., nodes, width)`` into ``(..., edges)``."""
        return rows[..., self._rows, self._columns]


def edge_encoding(kept: Tensor, operations: Tensor) -> Tensor:
    """Return one row an edge ``(..., edges, 1 + operations)``; the share that is not kept comes first, on ``none``.

    Args:
        kept: whether each edge is kept, or how probable that is ``(..., edges)``.
        operations: which operation a kept edge has, or how probable each is ``(..., edges, operations)``.
    """
    kept = kept.unsqueeze(-1)
    return torch.cat([1 - kept, kept * operations], dim=-1)
