"""The NAS-Bench-201 search space (Dong & Yang, ICLR 2020): one cell of six edges, stacked in three stages."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ParseError
from latbench.space import Column, Operation
from latbench.spaces.checks import check_alphas, check_config, check_operation, check_temperature
from latbench.spaces.one_hot import chosen_operations, one_hot

if TYPE_CHECKING:
    from torch import Tensor, nn

    from latbench.spaces.cell_network import CellSupernet

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the benchmark's order."""

NODES = (1, 2, 3)
"""The nodes of a cell that compute; 0 is its input and 3 its output."""

EDGES = tuple((source, node) for node in NODES for source in range(node))
"""``(source, node)`` of every edge, in the order of the alphas' rows and of the benchmark's strings."""

STAGES = 3

_EDGE_NAMES = tuple(f"{source}->{node}" for source, node in EDGES)
_FORM = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


@dataclass(frozen=True, slots=True, repr=False)
class NasBench201Cell:
    """A NAS-Bench-201 architecture; `repr` and `str` are the benchmark's own string.

    Args:
        operations: the operation on each of the six edges, in the order of `EDGES`.

    Raises:
        ParseError: not six operations of the space.
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


@dataclass(frozen=True)
class NasBench201Space:
    """The NAS-Bench-201 search space; an encoding is 6 edges x 5 operations, ``none`` being one of them.

    Args:
        cells: how many cells each of the three stages has.
        channels: channels of the first stage; each later one doubles them and halves the size.
        image: height and width of the input, a multiple of 4.
        classes: how many classes the head tells apart.

    Raises:
        UsageError: an invalid configuration.
    """

    cells: int = 5
    channels: int = 16
    image: int = 32
    classes: int = 10

    name: ClassVar[str] = "nasbench201"

    def __post_init__(self) -> None:
        limits = {"image": {"multiple_of": 4}, "classes": {"minimum": 2}}
        for field in fields(self):
            check_config(self.name, field.name, getattr(self, field.name), **limits.get(field.name, {}))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(3, image, image)``."""
        return 3, self.image, self.image

    @property
    def alpha_shapes(self) -> tuple[tuple[int, int], ...]:
        """``(6, 5)``."""
        return ((len(EDGES), len(OPERATIONS)),)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The 30 columns: edge, operation."""
        return tuple(
            Column(f"{edge}/{kind}", kind, self._operations(kind)) for edge in _EDGE_NAMES for kind in OPERATIONS
        )

    def enumerate(self) -> Iterator[NasBench201Cell]:
        """Yield all 15,625 architectures, the last edge changing fastest."""
        return (NasBench201Cell(operations) for operations in itertools.product(OPERATIONS, repeat=len(EDGES)))

    def sample(self, n: int, *, seed: int) -> list[NasBench201Cell]:
        """Draw `n` architectures uniformly and independently."""
        choices = np.random.default_rng(seed).integers(len(OPERATIONS), size=(n, len(EDGES)))
        return [_cell(row) for row in choices]

    def parse(self, text: str) -> NasBench201Cell:
        """Parse the benchmark's string, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            ParseError: the message names the node and the column of the text.
        """
        groups = text.strip().split("+")
        if len(groups) != len(NODES):
            raise ParseError(f"{len(groups)} nodes joined by '+' in {text!r}: write three, {_FORM}")
        operations: list[str] = []
        column = 1
        for node, group in zip(NODES, groups, strict=True):
            operations += _incoming(group, node, column)
            column += len(group) + 1
        return NasBench201Cell(tuple(operations))

    def canonical(self, architecture: NasBench201Cell) -> str:
        """Return the benchmark's own text of the unique structure; the 15,625 cells have 6,466 of them.

        It is the expression that node 3 computes from ``0``, its sums sorted: a skip connection is its source, and
        ``none`` is ``#``, as is any operation on a node that is ``#`` alone.
        """
        expressions = ["0"]
        for incoming in architecture.nodes():
            expressions.append("+".join(sorted(_expression(kind, expressions[source]) for source, kind in incoming)))
        return expressions[-1]

    def encode(self, architectures: Sequence[NasBench201Cell]) -> NDArray[np.float32]:
        """Return one-hot encodings ``(n, 30)``."""
        choices = [[OPERATIONS.index(kind) for kind in cell.operations] for cell in architectures]
        return one_hot(np.array(choices, dtype=np.int64).reshape(-1, len(EDGES)), len(OPERATIONS))

    def decode(self, encoding: NDArray[np.floating]) -> NasBench201Cell:
        """Return the architecture of one encoding ``(30,)``.

        Raises:
            ShapeError: another length.
            ParseError: an edge is not one-hot.
        """
        return _cell(chosen_operations(encoding, _EDGE_NAMES, len(OPERATIONS)))

    def build(self, architecture: NasBench201Cell) -> nn.Module:
        """Return the benchmark's network; every operation but ``none`` runs, also where no live path leads."""
        from latbench.spaces.nasbench201_network import build_network

        return build_network(self, architecture)

    def build_operation(self, operation: Operation) -> nn.Module:
        """Return one operation as `build` uses it.

        Raises:
            ParseError: the space has no operation of this kind.
        """
        from latbench.spaces.nasbench201_network import build_operation

        return build_operation(operation)

    def supernet(self) -> CellSupernet:
        """Return the benchmark's search network: batch norm in the cells without scale and shift."""
        from latbench.spaces.nasbench201_network import build_supernet

        return build_supernet(self)

    def relax(self, alphas: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the encoding ``(30,)``: on every edge the softmax of ``alphas / temperature``.

        Every edge runs one operation (``none`` is an ordinary one), so the softmax is its probability already.

        Raises:
            ShapeError: the alphas are not one of ``(6, 5)``.
            UsageError: the temperature is not positive.
        """
        check_alphas(self.name, alphas, self.alpha_shapes)
        check_temperature(temperature)
        return (alphas[0] / temperature).softmax(dim=-1).flatten()

    def derive(self, alphas: Sequence[Tensor]) -> NasBench201Cell:
        """Return the cell with the most probable operation on every edge, ``none`` included.

        Raises:
            ShapeError: the alphas are not one of ``(6, 5)``.
        """
        check_alphas(self.name, alphas, self.alpha_shapes)
        return _cell(alphas[0].argmax(dim=-1).tolist())

    def stages(self) -> list[tuple[int, int]]:
        """Return ``(channels, size)`` of the cells of each stage."""
        return [(self.channels * 2**stage, self.image // 2**stage) for stage in range(STAGES)]

    def _operations(self, kind: str) -> Counter[Operation]:
        # The identity costs nothing.
        if kind in ("none", "skip_connect"):
            return Counter()
        return Counter({Operation(kind, channels, channels, size): self.cells for channels, size in self.stages()})


def _cell(choices: Sequence[int] | NDArray[np.integer]) -> NasBench201Cell:
    return NasBench201Cell(tuple(OPERATIONS[choice] for choice in choices))


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


def _expression(kind: str, source: str) -> str:
    if kind == "none" or source == "#":
        return "#"
    return source if kind == "skip_connect" else f"({source})@{kind}"
