"""The DARTS genotype: two cells, as a value and as the paper's own text."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latbench.errors import ParseError
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

_FORM = (
    "Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
)


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
        object.__setattr__(self, "normal", _checked_cell("normal", self.normal))
        object.__setattr__(self, "reduce", _checked_cell("reduce", self.reduce))

    def __repr__(self) -> str:
        return _text(self.normal, self.reduce)

    def canonical(self) -> str:
        """Return the text of the genotype that all isomorphic ones share: the nodes of each cell renumbered.

        The order in which a cell concatenates its nodes is the only thing that a renumbering changes.
        """
        return _text(*(_renumbered(cell) for cell in (self.normal, self.reduce)))


def kept_edges(pairs: Sequence[Pair]) -> dict[int, str]:
    """Return the operation on each kept edge of a cell, by the edge's index in `EDGES`."""
    return {EDGE_INDEX[source, 2 + position // 2]: kind for position, (kind, source) in enumerate(pairs)}


def parse_genotype(text: str) -> Genotype:
    """Parse the paper's own form; concatenations are ``range(2, 6)`` or ``[2, 3, 4, 5]``.

    Raises:
        ParseError: the message names the cell, the node and the column.
    """
    keywords = _keywords(text.strip())
    for name in ("normal_concat", "reduce_concat"):
        _check_concat(name, keywords[name])
    cells = {name: _cell(name, keywords[name]) for name in ("normal", "reduce")}
    return Genotype(**cells)


def _checked_cell(cell: str, pairs: Sequence[Pair], texts: Sequence[str] = ("",) * 8) -> tuple[Pair, ...]:
    """Check one cell and sort the pairs of each node; `texts` are what a message adds about each pair."""
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


def _text(normal: Sequence[Pair], reduce: Sequence[Pair]) -> str:
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


def _keywords(text: str) -> dict[str, ast.expr]:
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ParseError(f"not a genotype{_position(error.lineno, error.offset)}: {error.msg}: write {_FORM}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; brackets nested too deep
        raise ParseError(f"not a genotype: {error}: write {_FORM}") from None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise ParseError(f"not a genotype{_where(call)}: write {_FORM}")
    given = [keyword.arg for keyword in call.keywords]
    if call.args or sorted(map(str, given)) != ["normal", "normal_concat", "reduce", "reduce_concat"]:
        raise ParseError(f"a genotype does not have the keywords {given}: write {_FORM}")
    return {str(keyword.arg): keyword.value for keyword in call.keywords}


def _check_concat(name: str, node: ast.expr) -> None:
    if ast.unparse(node) not in {"range(2, 6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)"}:
        raise ParseError(
            f"{name}{_where(node)} is {ast.unparse(node)}: cells of this space concatenate all nodes, write range(2, 6)"
        )


def _cell(cell: str, node: ast.expr) -> tuple[Pair, ...]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise ParseError(f"{cell} cell{_where(node)}: expected a list of 8 pairs ('operation', source)")
    return _checked_cell(cell, [_pair(cell, pair) for pair in node.elts], [_where(pair) for pair in node.elts])


def _pair(cell: str, node: ast.expr) -> Pair:
    match node:
        case ast.Tuple(elts=[ast.Constant(value=str(kind)), ast.Constant(value=int(source))]):
            return kind, source
    raise ParseError(f"{cell} cell{_where(node)}: {ast.unparse(node)} is not a pair: write ('sep_conv_3x3', 1)")


def _where(node: ast.expr) -> str:
    return _position(node.lineno, node.col_offset + 1)


def _position(line: int | None, column: int | None) -> str:
    return f" (column {column})" if line == 1 else f" (line {line}, column {column})"
