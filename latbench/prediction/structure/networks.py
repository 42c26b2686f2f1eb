"""What a space's graphs tell about architectures: which are dead, and which are one network, numbered otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, permutations

import numpy as np
from numpy.typing import NDArray

from latbench.space import Column, Graph

MOST_RENUMBERED = 6
"""Graphs with more nodes than can be renumbered in 720 ways have no twins."""

_Codes = NDArray[np.int64]


def are_alive(graphs: Sequence[Graph], columns: Sequence[Column], X: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return whether a path leads through each graph of an architecture, from its inputs to its outputs ``(n,)``.

    Graphs follow each other in a network, so that one without a live path makes the whole of it a constant.

    Args:
        graphs: of the space; where it tells none, everything is alive.
        columns: what each column of an encoding stands for.
        X: encodings of architectures ``(n, columns)``.
    """
    alive = np.ones(len(X), dtype=np.bool_)
    for graph in graphs:
        nodes = [node for _, node in graph.edges]
        certain = [nodes.count(node) == graph.keeps for node in nodes]
        there = (_codes(graph, columns, X) > 0) | certain
        reached = {node: np.ones(len(X), dtype=np.bool_) for node in graph.inputs}
        for edge in sorted(range(len(graph.edges)), key=lambda edge: graph.edges[edge][1]):
            source, node = graph.edges[edge]
            reached[node] = reached.get(node, False) | there[:, edge] & reached[source]
        alive &= np.any([reached[node] for node in graph.outputs], axis=0)
    return alive


def twin_labels(
    graphs: Sequence[Graph], columns: Sequence[Column], X: NDArray[np.floating]
) -> NDArray[np.int64] | None:
    """Return a number for each architecture ``(n,)``; two that share one run the same, dead operations included.

    They differ only in how the nodes of their graphs are numbered, so that their measured values differ by noise alone.

    Args:
        graphs: of the space; columns of one group run the same on every edge.
        columns: what each column of an encoding stands for.
        X: encodings of architectures ``(n, columns)``.

    Returns:
        None where there is no graph, or one is too large.
    """
    if not graphs:
        return None
    labels, dependent = [], np.zeros(len(columns), dtype=np.bool_)
    for graph in graphs:
        codes = _codes(graph, columns, X)
        least = _least(graph, columns, codes)
        if least is None:
            return None
        labels.append(least)
        # A column that is 1 where nothing runs on an edge says nothing else.
        dependent |= np.any([np.all((codes[:, edge] == 0) == X.T, axis=1) for edge in range(codes.shape[1])], axis=0)
        mine = np.isin([column.name for column in columns], list(chain(*graph.columns)))
        dependent |= mine & np.isin(X, [0, 1]).all(axis=0)
    found = np.column_stack([*labels, X[:, ~dependent]])
    return np.unique(found, axis=0, return_inverse=True)[1].reshape(-1)


def _codes(graph: Graph, columns: Sequence[Column], X: NDArray[np.floating]) -> _Codes:
    """Return for each edge which group of columns runs on it ``(n, edges)``: 0 for none, or the number of the group."""
    index, number = {column.name: place for place, column in enumerate(columns)}, _numbers(graph, columns)
    codes = np.zeros((len(X), len(graph.edges)), dtype=np.int64)
    for edge, names in enumerate(graph.columns):
        for name in names:
            codes[X[:, index[name]] > 0.5, edge] = number[columns[index[name]].group]
    return codes


def _numbers(graph: Graph, columns: Sequence[Column]) -> dict[str, int]:
    mine = set(chain(*graph.columns))
    groups = dict.fromkeys(column.group for column in columns if column.name in mine)
    return {group: place for place, group in enumerate(groups, start=1)}


def _least(graph: Graph, columns: Sequence[Column], codes: _Codes) -> NDArray[np.int64] | None:
    """Return the least number ``(n,)`` that codes have, whichever way the nodes of their graph are numbered."""
    numbers = _numbers(graph, columns)
    base = len(numbers) + 1
    nodes = sorted({node for _, node in graph.edges})
    if len(nodes) > MOST_RENUMBERED or base ** len(graph.edges) > np.iinfo(np.int64).max:
        return None
    groups = {column.name: numbers[column.group] for column in columns if column.group in numbers}
    runs = [{groups[name] for name in names} for names in graph.columns]
    place = {edge: base**index for index, edge in enumerate(graph.edges)}
    least: NDArray[np.int64] = codes @ np.array(list(place.values()))
    for order in permutations(nodes):
        new = dict(zip(nodes, order, strict=True))
        if any((node in graph.outputs) != (new[node] in graph.outputs) for node in nodes):
            continue
        number, fits = np.zeros(len(codes), dtype=np.int64), np.ones(len(codes), dtype=np.bool_)
        for edge, (source, node) in enumerate(graph.edges):
            moved = new.get(source, source), new[node]
            there = runs[graph.edges.index(moved)] if moved in place else set()
            fits &= np.isin(codes[:, edge], [0, *there])
            number += codes[:, edge] * place.get(moved, 0)
        least = np.where(fits, np.minimum(least, number), least)
    return least
