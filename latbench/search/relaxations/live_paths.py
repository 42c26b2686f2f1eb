"""The most probable choices among those that leave a path from the inputs of each graph to its outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latbench.errors import UsageError

if TYPE_CHECKING:
    from latbench.space import Column, Graph


class LivePaths:
    """Changes the fewest and likeliest rows of a choice that no path leads through: such a network is a constant.

    Rows choose independently of each other. Whatever the most probable live architecture is, it has a live path, and
    its rows off that path are free: so it is the most probable choice with the rows of one path changed, and the path
    is a shortest one, where an edge is as long as the log probability lost by choosing an operation on it.

    Args:
        graphs: of the space; in those of which every node keeps some edges a path leads through always.
        columns: of the space.
        rows: for each row the names of its options' columns.

    Raises:
        UsageError: an edge's operations are options of several rows, or one path may need two options of one row.
    """

    def __init__(self, graphs: Sequence[Graph], columns: Sequence[Column], rows: Sequence[Sequence[int]]) -> None:
        place = {
            columns[column].name: (row, at) for row, options in enumerate(rows) for at, column in enumerate(options)
        }
        self._graphs = [graph for graph in graphs if graph.keeps is None]
        # For each edge of each graph: its row, and the options of that row with which something runs on the edge.
        self._edges: list[list[tuple[int, list[int]]]] = []
        node_of: dict[int, tuple[str, int]] = {}
        for graph in self._graphs:
            self._edges.append([])
            for (_, node), names in zip(graph.edges, graph.columns, strict=True):
                found = {place[name][0] for name in names if name in place}
                if len(found) != 1 or not all(name in place for name in names):
                    raise UsageError(
                        f"graph {graph.name!r} has an edge to node {node} whose operations {', '.join(names)} are not "
                        "the options of one decision that is always made: give it one, so that dead networks can be "
                        "told"
                    )
                row = found.pop()
                # A path enters a node once, so that edges into one node may be options of one row.
                if node_of.setdefault(row, (graph.name, node)) != (graph.name, node):
                    raise UsageError(
                        f"one decision chooses edges to several nodes of graph {graph.name!r}: give each node one of "
                        "its own"
                    )
                self._edges[-1].append((row, [place[name][1] for name in names]))

    def choose(self, rows: Sequence[Sequence[float]]) -> list[int]:
        """Return the option of each row, of the most probable choices that are alive.

        Args:
            rows: the log probabilities of each row's options.

        Raises:
            UsageError: an option on every path has probability 0.
        """
        chosen = [max(range(len(row)), key=row.__getitem__) for row in rows]
        lost = [0.0] * len(rows)
        for graph, edges in zip(self._graphs, self._edges, strict=True):
            options = [max(options, key=rows[row].__getitem__) for row, options in edges]
            lengths = [rows[row][chosen[row]] - rows[row][best] for (row, _), best in zip(edges, options, strict=True)]
            for edge in _shortest(graph, lengths):
                row = edges[edge][0]
                chosen[row], lost[row] = options[edge], lengths[edge]
        if not all(map(math.isfinite, lost)):
            raise UsageError(
                "these parameters prune an edge of every path from input to output, and such a network is a constant: "
                "leave one path a finite entry on each of its edges"
            )
        return chosen


def _shortest(graph: Graph, lengths: Sequence[float]) -> list[int]:
    """Return the edges of a shortest path from any input to any output."""
    paths: dict[int, tuple[float, list[int]]] = {node: (0.0, []) for node in graph.inputs}
    for edge in sorted(range(len(graph.edges)), key=lambda edge: graph.edges[edge][1]):
        source, node = graph.edges[edge]
        if source in paths:
            length, path = paths[source]
            longer = length + lengths[edge], [*path, edge]
            paths[node] = min(paths.get(node, longer), longer, key=lambda each: each[0])
    return min((paths[node] for node in graph.outputs if node in paths), key=lambda each: each[0])[1]
