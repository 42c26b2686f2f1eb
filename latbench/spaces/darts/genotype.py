"""The DARTS genotype: two cells, as a value and as the paper's own text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from latbench.errors import ParseError, UsageError
from latbench.spaces.cells.checks import check_operation

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The paper's ``PRIMITIVES``, in its order."""

NODES = (2, 3, 4, 5)
"""The nodes of a cell that compute; 0 and 1 are the outputs of the two cells before."""

EDGES = tuple((source, node) for node in NODES for source in range(node))
"""``(source, node)`` of every edge, in the order of the alphas' rows."""

EDGE_INDEX = {edge: index for index, edge in enumerate(EDGES)}

ALPHA_SHAPES = ((len(EDGES), len(OPERATIONS)),) * 2
"""Of the normal and of the reduction cell."""

Pair = tuple[str, int]
"""An operation and the node that it reads."""

Form = Literal["paper", "pt.darts", "autodl", "nni"]
"""Who reads a text: the repository of the paper and NASLib, khanrc/pt.darts, AutoDL-Projects, NNI."""


@dataclass(frozen=True, slots=True, repr=False)
class Genotype:
    """A DARTS architecture; `repr` and `str` are the paper's own form.

    Args:
        normal: the normal cell: two ``(operation, source)`` pairs for each of the nodes 2 to 5. The pairs of one
            node are kept sorted by source, so that equal cells are equal values.
        reduce: the reduction cell, likewise.

    Raises:
        ParseError: a cell that is not in the space.
    """

    normal: tuple[Pair, ...]
    reduce: tuple[Pair, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "normal", checked_cell("normal", self.normal))
        object.__setattr__(self, "reduce", checked_cell("reduce", self.reduce))

    def __repr__(self) -> str:
        return _text(self.normal, self.reduce)

    def text(self, form: Form = "paper") -> str:
        """Return the text that a repository reads; `latbench.spaces.darts.DartsSpace.parse` reads all of them.

        Raises:
            UsageError: no such form.
        """
        if form not in get_args(Form):
            raise UsageError(f"no form of genotypes named {form!r}: choose one of {', '.join(get_args(Form))}")
        cells = {"normal": self.normal, "reduce": self.reduce}
        if form == "paper":
            return repr(self)
        if form == "nni":
            parts = [
                {f"{cell}/op_{node}_{at}": kind, f"{cell}/input_{node}_{at}": source}
                for cell, pairs in cells.items()
                for node, two in zip(NODES, _by_node(pairs), strict=True)
                for at, (kind, source) in enumerate(two)
            ]
            return json.dumps({key: value for part in parts for key, value in part.items()})
        nested = {cell: [list(two) for two in _by_node(pairs)] for cell, pairs in cells.items()}
        if form == "autodl":
            return repr(
                {key: value for cell in cells for key, value in ((cell, nested[cell]), (f"{cell}_concat", [*NODES]))}
            )
        return _text(nested["normal"], nested["reduce"])

    def canonical(self) -> str:
        """Return the text of the genotype that all isomorphic ones share: the nodes of each cell renumbered.

        The order in which a cell concatenates its nodes is the only thing that a renumbering changes.
        """
        return _text(*(_renumbered(cell) for cell in (self.normal, self.reduce)))


def kept_edges(pairs: Sequence[Pair]) -> dict[int, str]:
    """Return the operation on each kept edge of a cell, by the edge's index in `EDGES`."""
    return {EDGE_INDEX[source, 2 + position // 2]: kind for position, (kind, source) in enumerate(pairs)}


def checked_cell(cell: str, pairs: Sequence[Pair], texts: Sequence[str] = ("",) * 8) -> tuple[Pair, ...]:
    """Check one cell and sort the pairs of each node; `texts` are what a message adds about each pair.

    Raises:
        ParseError: the message names the cell and the node.
    """
    if len(pairs) != 8:
        raise ParseError(f"{cell} cell: {len(pairs)} edges: give 8, two for each of the nodes 2 to 5")
    checked: list[Pair] = []
    for node, first in zip(NODES, (0, 2, 4, 6), strict=True):
        for (kind, source), text in zip(pairs[first : first + 2], texts[first : first + 2], strict=True):
            _check_pair(f"{cell} cell, node {node}{text}", kind, source, node)
        if pairs[first][1] == pairs[first + 1][1]:
            raise ParseError(
                f"{cell} cell, node {node}{texts[first + 1]}: both edges come from node {pairs[first][1]}: "
                "give two different ones"
            )
        two = ((str(kind), int(source)) for kind, source in pairs[first : first + 2])
        checked += sorted(two, key=lambda pair: pair[1])
    return tuple(checked)


def _check_pair(where: str, kind: str, source: int, node: int) -> None:
    try:
        check_operation(kind, OPERATIONS[1:])
    except ParseError as error:
        raise ParseError(f"{where}: {error}") from None
    if source not in range(node):
        raise ParseError(f"{where}: reads node {source}: give one from 0 to {node - 1}")


def _by_node(pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
    return [pairs[first : first + 2] for first in range(0, len(pairs), 2)]


def _text(normal: Sequence[Pair | list[Pair]], reduce: Sequence[Pair | list[Pair]]) -> str:
    return (
        f"Genotype(normal={list(normal)}, normal_concat=range(2, 6), reduce={list(reduce)}, reduce_concat=range(2, 6))"
    )


def _renumbered(pairs: tuple[Pair, ...]) -> list[Pair]:
    """Return the least of the cells that differ only by a numbering of the nodes in which edges point forward."""
    incoming = dict(zip(NODES, zip(pairs[::2], pairs[1::2], strict=True), strict=True))
    least = _least(incoming, {0: 0, 1: 1})
    return [(kind, source) for node_pairs in least for source, kind in node_pairs]


def _least(incoming: Mapping[int, tuple[Pair, ...]], number: Mapping[int, int]) -> list[list[tuple[int, str]]]:
    """Return the incoming edges of the nodes that have no number yet, in the order that makes them least.

    A node can come next if its sources have numbers. The least such node does; where several are equal, what follows
    decides.
    """
    if len(number) == len(NODES) + 2:
        return []
    ready = {
        node: sorted((number[source], kind) for kind, source in pairs)
        for node, pairs in incoming.items()
        if node not in number and all(source in number for _, source in pairs)
    }
    first = min(ready.values())
    tied = (node for node, pairs in ready.items() if pairs == first)
    return [first, *min(_least(incoming, {**number, node: len(number)}) for node in tied)]
