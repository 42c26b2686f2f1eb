"""What runs on the paths of a space's graphs, for architectures: the input of critical-path models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from latbench.space import Column, Graph

MOST_PATHS = 64
"""A graph with more paths has no critical path here: each is looked at for every architecture."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """What architectures run, dead operations left out.

    Args:
        counts: how often a live operation of each group runs ``(n, groups)``.
        sums: how many sums of live values each graph computes ``(n, graphs)``.
        paths: for each graph, how often each of its paths runs each group ``(n, paths, groups)``.
        live: for each graph, whether something runs on every edge of a path ``(n, paths)``.
    """

    counts: Matrix
    sums: Matrix
    paths: tuple[Matrix, ...]
    live: tuple[NDArray[np.bool_], ...]


@dataclass(frozen=True, slots=True, eq=False)
class PathReader:
    """Reads what runs from encodings, by indices alone, so that it can be written to a file.

    Args:
        edges: ``(graph, source, node)`` of each edge of all graphs ``(edges, 3)``.
        columns: ``(edge, column, group)`` of what runs on each edge ``(runs, 3)``.
        ends: ``(graph, node, 0 or 1)`` of inputs (0) and outputs (1) ``(ends, 3)``.
        certain: whether an edge is there in any architecture ``(edges,)``.
    """

    edges: NDArray[np.int64]
    columns: NDArray[np.int64]
    ends: NDArray[np.int64]
    certain: NDArray[np.int64]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.columns[:, 2].max(initial=-1)) + 1

    def __call__(self, X: NDArray[np.floating]) -> Runs:
        """Return what architectures with encodings ``(n, columns)`` run."""
        rows = np.asarray(X, dtype=np.float64)
        runs = np.zeros((len(self.edges), len(rows), self.groups))
        for edge, column, group in self.columns:
            runs[edge, :, group] += rows[:, column]
        there = (runs.sum(axis=2) > 0) | (self.certain[:, None] > 0)
        counts = np.zeros((len(rows), self.groups))
        sums, paths, live = [], [], []
        for graph in range(int(self.edges[:, 0].max(initial=-1)) + 1):
            mine = np.flatnonzero(self.edges[:, 0] == graph)
            ways = self._paths(graph)
            live.append(np.stack([there[list(way)].all(axis=0) for way in ways], axis=1))
            paths.append(np.stack([runs[list(way)].sum(axis=0) for way in ways], axis=1))
            alive = np.stack([live[-1][:, [edge in way for way in ways]].any(axis=1) for edge in mine], axis=1)
            counts += np.einsum("ne,eng->ng", alive, runs[mine])
            nodes = self.edges[mine, 2]
            computed = sum(alive[:, nodes == node].any(axis=1).astype(np.int64) for node in np.unique(nodes))
            sums.append(alive.sum(axis=1) - computed)
        return Runs(counts, np.stack(sums, axis=1).astype(np.float64), tuple(paths), tuple(live))

    def has_branches(self) -> bool:
        """Return whether there is more than one path through a graph, and not too many through any."""
        counts = [len(self._paths(graph)) for graph in range(int(self.edges[:, 0].max(initial=-1)) + 1)]
        return max(counts, default=0) > 1 and min(counts) > 0 and max(counts) <= MOST_PATHS

    def _paths(self, graph: int) -> list[tuple[int, ...]]:
        edges = [(index, source, node) for index, (own, source, node) in enumerate(self.edges.tolist()) if own == graph]
        ends = [(node, kind) for own, node, kind in self.ends.tolist() if own == graph]
        return _paths(
            tuple(edges), tuple(n for n, kind in ends if kind == 0), tuple(n for n, kind in ends if kind == 1)
        )


def path_reader(graphs: Sequence[Graph], columns: Sequence[Column]) -> PathReader | None:
    """Return what reads the paths of a space's graphs; None where no graph has branches, or one has too many paths."""
    index, groups = {column.name: place for place, column in enumerate(columns)}, dict[str, int]()
    edges: list[tuple[int, int, int]] = []
    runs: list[tuple[int, int, int]] = []
    ends: list[tuple[int, int, int]] = []
    certain: list[int] = []
    for number, graph in enumerate(graphs):
        nodes = [node for _, node in graph.edges]
        for (source, node), names in zip(graph.edges, graph.columns, strict=True):
            for name in names:
                group = groups.setdefault(columns[index[name]].group, len(groups))
                runs.append((len(edges), index[name], group))
            edges.append((number, source, node))
            certain.append(int(nodes.count(node) == graph.keeps))
        ends += [(number, node, 0) for node in graph.inputs] + [(number, node, 1) for node in graph.outputs]
    reader = PathReader(
        np.array(edges, dtype=np.int64).reshape(-1, 3),
        np.array(runs, dtype=np.int64).reshape(-1, 3),
        np.array(ends, dtype=np.int64).reshape(-1, 3),
        np.array(certain, dtype=np.int64),
    )
    return reader if reader.has_branches() else None


@lru_cache(maxsize=32)
def _paths(
    edges: tuple[tuple[int, int, int], ...], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> list[tuple[int, ...]]:
    def onwards(node: int) -> Iterator[tuple[int, ...]]:
        if node in outputs:
            yield ()
        for edge, source, to in edges:
            if source == node:
                for rest in onwards(to):
                    yield (edge, *rest)

    found = []
    for node in inputs:
        for path in onwards(node):
            found.append(path)
            if len(found) > MOST_PATHS:
                return found
    return [path for path in found if path]
