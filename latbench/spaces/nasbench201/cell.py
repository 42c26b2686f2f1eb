"""The NAS-Bench-201 cell (Dong & Yang, ICLR 2020): six edges, as a value and as the benchmark's own text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from latbench.errors import ParseError
from latbench.spaces.cells.checks import check_operation

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the benchmark's order."""

NODES = (1, 2, 3)
"""The nodes of a cell that compute; 0 is its input and 3 its output."""

EDGES = tuple((source, node) for node in NODES for source in range(node))
"""``(source, node)`` of every edge, in the order of the alphas' rows and of the benchmark's strings."""

ALPHA_SHAPES = ((len(EDGES), len(OPERATIONS)),)

_PRINTED = re.compile(r"Structure\(\d+ nodes with (.*)\)")

_FORM = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


@dataclass(frozen=True, slots=True, repr=False)
class NasBench201Cell:
    """A NAS-Bench-201 architecture; `repr` and `str` are the benchmark's own string.

    Args:
        operations: the operation on each of the six edges, in the order of `EDGES`.

    Raises:
        ParseError: it does not have six operations of the space.
    """

    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        if len(self.operations) != len(EDGES):
            raise ParseError(f"a cell has {len(EDGES)} edges, not {len(self.operations)}: give one operation for each")
        for kind in self.operations:
            check_operation(kind, OPERATIONS)

    def __repr__(self) -> str:
        return "+".join("".join(f"|{kind}~{source}" for source, kind in incoming) + "|" for incoming in self.nodes())

    def nodes(self) -> Iterator[list[tuple[int, str]]]:
        """Yield ``(source, operation)`` of the incoming edges of each node, node 1 first."""
        for node in NODES:
            yield [(source, kind) for (source, to), kind in zip(EDGES, self.operations, strict=True) if to == node]

    def canonical(self) -> str:
        """Return the sum that node 3 computes from ``0``, its terms sorted, which isomorphic cells share.

        A skip connection hands on the terms of its source; ``none``, and any operation on a node without terms, adds
        none. A cell without a live path is ``#``.
        """
        terms: list[tuple[str, ...]] = [("0",)]
        for incoming in self.nodes():
            terms.append(tuple(sorted(chain(*(_terms(kind, terms[source]) for source, kind in incoming)))))
        return "+".join(terms[-1]) or "#"


def parse_cell(text: str) -> NasBench201Cell:
    """Parse the benchmark's string, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

    Also as AutoDL-Projects prints it, ``Structure(4 nodes with |...|)``, and NNI's dict, ``{"0_1": "conv_3x3", ...}``.

    Raises:
        ParseError: the message names the node and the column of the text.
    """
    text = text.strip()
    if text.startswith("{"):
        return _nni_cell(text)
    if printed := _PRINTED.fullmatch(text):
        text = printed[1]
    groups = text.split("+")
    if len(groups) != len(NODES):
        raise ParseError(f"{len(groups)} nodes joined by '+' in {text!r}: write three, {_FORM}")
    operations: list[str] = []
    column = 1
    for node, group in zip(NODES, groups, strict=True):
        operations += _incoming(group, node, column)
        column += len(group) + 1
    return NasBench201Cell(tuple(operations))


def _nni_cell(text: str) -> NasBench201Cell:
    """Parse NNI's choices: a key names an edge, ``source_node`` behind whatever label, and its value the operation."""
    try:
        given = dict(ast.literal_eval(text))
        keys = {key: re.fullmatch(r"(?:.*\D)?(\d)_(\d)", key) for key in given}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ParseError(f"not a cell: {error}: write {_FORM}") from None
    edges = {(int(edge[1]), int(edge[2])): given[key] for key, edge in keys.items() if edge}
    if len(edges) != len(given) or sorted(edges) != sorted(EDGES):
        raise ParseError(f"a dict of {', '.join(map(repr, given))}: give one operation for each edge, '0_1' to '2_3'")
    kinds = []
    for source, node in EDGES:
        kind = f"nor_{edges[source, node]}" if str(edges[source, node]).startswith("conv_") else edges[source, node]
        if not isinstance(kind, str):
            raise ParseError(
                f"edge {source}_{node} has {kind!r}: give the name of an operation; a number could mean any"
            )
        kinds.append(kind)
    return NasBench201Cell(tuple(kinds))


def _incoming(group: str, node: int, column: int) -> Iterator[str]:
    """Yield the operations of one node's text, ``|op~0|op~1|``, which begins at `column` of the whole."""
    tokens = group.split("|")
    if len(tokens) != node + 2 or tokens[0] or tokens[-1]:
        raise ParseError(f"node {node} (column {column}) is {group!r}: write {node} of '|operation~source', then '|'")
    column += 1
    for source, token in enumerate(tokens[1:-1]):
        kind, _, given = token.partition("~")
        if given != str(source):
            raise ParseError(f"node {node} (column {column}) has {token!r}: write 'operation~{source}' there")
        try:
            check_operation(kind, OPERATIONS)
        except ParseError as error:
            raise ParseError(f"node {node} (column {column}): {error}") from None
        yield kind
        column += len(token) + 1


def _terms(kind: str, source: tuple[str, ...]) -> tuple[str, ...]:
    if kind == "none" or not source:
        return ()
    return source if kind == "skip_connect" else (f"({'+'.join(source)})@{kind}",)
