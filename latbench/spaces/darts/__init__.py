"""The DARTS search space (Liu et al., ICLR 2019): two cells of four nodes, stacked into a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ParseError
from latbench.space import Column, Graph
from latbench.spaces.cells.checks import check_config
from latbench.spaces.cells.one_hot import chosen_operations, one_hot
from latbench.spaces.cells.operation import Operation
from latbench.spaces.cells.space import CellSpace
from latbench.spaces.darts.genotype import (
    EDGE_INDEX,
    EDGES,
    NODES,
    OPERATIONS,
    Genotype,
    Pair,
    kept_edges,
)
from latbench.spaces.darts.stack import StackedCell, stacked_cells
from latbench.spaces.darts.texts import parse_genotype

if TYPE_CHECKING:
    from torch import nn

    from latbench.search.relaxations import TwoEdges
    from latbench.spaces.cells.network import CellSupernet

CELL_TYPES = ("normal", "reduce")

_EDGE_NAMES = tuple(f"{cell}/{source}->{node}" for cell in CELL_TYPES for source, node in EDGES)
_OPERATION_INDEX = {kind: index for index, kind in enumerate(OPERATIONS)}
_SOURCE_PAIRS = {node: tuple(combinations(range(node), 2)) for node in NODES}
# For each node, how many pairs of sources there are, and how many operations for each of the two.
_CHOICES = np.array([[len(_SOURCE_PAIRS[node]), len(OPERATIONS) - 1, len(OPERATIONS) - 1] for node in NODES])


@dataclass(frozen=True)
class DartsSpace(CellSpace):
    """The DARTS search space; an encoding is 2 cells x 14 edges x 8 operations, an edge that is not kept is ``none``.

    Args:
        cells: how many cells are stacked; those at one and two thirds of the depth are reduction cells.
        channels: channels of the first cell's nodes; a reduction cell doubles them.
        image: height and width of the input, a multiple of 4.
        classes: how many classes the head tells apart.

    Raises:
        UsageError: an invalid configuration.
    """

    cells: int = 8
    channels: int = 16
    image: int = 32
    classes: int = 10

    name: ClassVar[str] = "darts"

    def __post_init__(self) -> None:
        limits = {"cells": {"minimum": 3}, "image": {"multiple_of": 4}, "classes": {"minimum": 2}}
        for field in fields(self):
            check_config(self.name, field.name, getattr(self, field.name), **limits.get(field.name, {}))

    @cached_property
    def stack(self) -> tuple[StackedCell, ...]:
        """The stacked cells, first to last."""
        return stacked_cells(self.cells, self.channels, self.image)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The 224 columns: cell, edge, operation."""
        return tuple(
            Column(f"{cell}/{source}->{node}/{kind}", _group(cell, kind, source))
            for cell in CELL_TYPES
            for source, node in EDGES
            for kind in OPERATIONS
        )

    def sample(self, n: int, *, seed: int) -> list[Genotype]:
        """Draw `n` genotypes uniformly: for each node two distinct sources, and any operation but ``none`` on both."""
        draws = np.random.default_rng(seed).integers(_CHOICES, size=(n, len(CELL_TYPES), *_CHOICES.shape))
        return [Genotype(*(tuple(_drawn_cell(nodes)) for nodes in cells)) for cells in draws.tolist()]

    def parse(self, text: str) -> Genotype:
        """Parse the paper's form, ``Genotype(normal=[('sep_conv_3x3', 1), ...], ...)``, or another repository's.

        What pt.darts, AutoDL-Projects, NASLib and NNI write is read (`latbench.spaces.darts.texts.parse_genotype`), and
        `Genotype.text` writes it.

        Raises:
            ParseError: the message names the cell, the node and the column of the text.
        """
        return parse_genotype(text)

    def canonical(self, architecture: Genotype) -> str:
        """Return the text of the genotype that all renumberings of the nodes share."""
        return architecture.canonical()

    def encode(self, architectures: Sequence[Genotype]) -> NDArray[np.float32]:
        """Return one-hot encodings ``(n, 224)``."""
        choices = np.zeros((len(architectures), len(_EDGE_NAMES)), dtype=np.int64)
        for row, genotype in zip(choices, architectures, strict=True):
            for first, pairs in ((0, genotype.normal), (len(EDGES), genotype.reduce)):
                for edge, kind in kept_edges(pairs).items():
                    row[first + edge] = _OPERATION_INDEX[kind]
        return one_hot(choices, len(OPERATIONS))

    def decode(self, encoding: NDArray[np.floating]) -> Genotype:
        """Return the genotype of one encoding ``(224,)``.

        Raises:
            ShapeError: the encoding has another length.
            ParseError: an edge is not one-hot, or a node does not keep two edges.
        """
        choices = chosen_operations(encoding, _EDGE_NAMES, len(OPERATIONS))
        cells = zip(CELL_TYPES, (choices[: len(EDGES)], choices[len(EDGES) :]), strict=True)
        return Genotype(*(_decoded_cell(cell, cell_choices) for cell, cell_choices in cells))

    def build(self, architecture: Genotype) -> nn.Module:
        """Return the paper's evaluation network without its auxiliary head and without path dropout."""
        from latbench.spaces.darts.network import build_network

        return build_network(architecture, self.stack, self.classes)

    def column_operations(self) -> list[Counter[Operation]]:
        """Return the operations that each column runs, and how often."""
        return [
            self._operations_of(cell, kind, source) for cell in CELL_TYPES for source, _ in EDGES for kind in OPERATIONS
        ]

    def graphs(self) -> tuple[Graph, ...]:
        """Return the graphs of both cells: every node keeps two edges and is concatenated, an input may be unused."""
        return tuple(
            Graph(
                cell,
                EDGES,
                tuple(tuple(f"{cell}/{source}->{node}/{kind}" for kind in OPERATIONS[1:]) for source, node in EDGES),
                inputs=(0, 1),
                outputs=NODES,
                keeps=2,
            )
            for cell in CELL_TYPES
        )

    def build_operation(self, operation: Operation) -> nn.Module:
        """Return one operation as `build` uses it.

        Raises:
            ParseError: the space has no operation of this kind.
        """
        from latbench.spaces.darts.network import build_operation

        return build_operation(operation)

    def supernet(self) -> CellSupernet:
        """Return the paper's search network: batch norm without scale and shift, also after pooling."""
        from latbench.spaces.darts.network import build_supernet

        return build_supernet(self.stack, self.classes)

    def relaxation(self) -> TwoEdges[Genotype]:
        """Return the paper's rule (section 2.4) as a distribution: every node keeps two edges, each one operation."""
        from latbench.search.relaxations import TwoEdges

        return TwoEdges(EDGES, len(OPERATIONS), self.decode, cells=len(CELL_TYPES))

    def _operations_of(self, cell: str, kind: str, source: int) -> Counter[Operation]:
        stack = (stacked for stacked in self.stack if stacked.reduction == (cell == "reduce"))
        operations = Counter(stacked.edge_operation(kind, source) for stacked in stack)
        if kind == "none":
            return Counter()
        # The identity costs nothing; a skip connection that halves the size is a factorized reduction.
        return Counter({op: n for op, n in operations.items() if kind != "skip_connect" or op.stride == 2})


def _group(cell: str, kind: str, source: int) -> str:
    # Edges from a reduction cell's inputs halve the size: other work than that of the edges between its nodes.
    return f"{cell}/{kind}/stride2" if cell == "reduce" and source < 2 else f"{cell}/{kind}"


def _drawn_cell(nodes: Sequence[Sequence[int]]) -> Iterator[Pair]:
    for node, (source_pair, *kinds) in zip(NODES, nodes, strict=True):
        for kind, source in zip(kinds, _SOURCE_PAIRS[node][source_pair], strict=True):
            yield OPERATIONS[1 + kind], source


def _decoded_cell(cell: str, choices: Sequence[int]) -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    for node in NODES:
        kept = [(OPERATIONS[choices[EDGE_INDEX[source, node]]], source) for source in range(node)]
        kept = [(kind, source) for kind, source in kept if kind != "none"]
        if len(kept) != 2:
            raise ParseError(f"{cell} cell, node {node}: {len(kept)} edges are kept: keep two, the others are 'none'")
        pairs += kept
    return tuple(pairs)
