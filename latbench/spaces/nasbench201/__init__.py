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

from latbench.space import Column, Graph
from latbench.spaces.cells.checks import check_config
from latbench.spaces.cells.one_hot import chosen_operations, one_hot
from latbench.spaces.cells.operation import Operation
from latbench.spaces.cells.space import CellSpace
from latbench.spaces.nasbench201.cell import ALPHA_SHAPES, EDGES, NODES, OPERATIONS, NasBench201Cell, parse_cell

if TYPE_CHECKING:
    from torch import nn

    from latbench.search.relaxations import Softmax
    from latbench.spaces.cells.network import CellSupernet

STAGES = 3

_EDGE_NAMES = tuple(f"{source}->{node}" for source, node in EDGES)


@dataclass(frozen=True)
class NasBench201Space(CellSpace):
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

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The 30 columns: edge, operation."""
        return tuple(Column(f"{edge}/{kind}", kind) for edge in _EDGE_NAMES for kind in OPERATIONS)

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
        return parse_cell(text)

    def canonical(self, architecture: NasBench201Cell) -> str:
        """Return what the cell computes as a sum; the 15,625 cells compute 4,930 different ones.

        The benchmark's own unique texts, 6,466 of them, tell apart some cells that compute the same: those whose nodes
        are numbered otherwise, or whose sums pass through a skip connection.
        """
        return architecture.canonical()

    def encode(self, architectures: Sequence[NasBench201Cell]) -> NDArray[np.float32]:
        """Return one-hot encodings ``(n, 30)``."""
        choices = [[OPERATIONS.index(kind) for kind in cell.operations] for cell in architectures]
        return one_hot(np.array(choices, dtype=np.int64).reshape(-1, len(EDGES)), len(OPERATIONS))

    def decode(self, encoding: NDArray[np.floating]) -> NasBench201Cell:
        """Return the architecture of one encoding ``(30,)``.

        Raises:
            ShapeError: the encoding has another length.
            ParseError: an edge is not one-hot.
        """
        return _cell(chosen_operations(encoding, _EDGE_NAMES, len(OPERATIONS)))

    def build(self, architecture: NasBench201Cell) -> nn.Module:
        """Return the benchmark's network; every operation but ``none`` runs, also where no live path leads."""
        from latbench.spaces.nasbench201.network import build_network

        return build_network(architecture, self.stages(), self.cells, self.classes)

    def column_operations(self) -> list[Counter[Operation]]:
        """Return the operations that each column runs, and how often."""
        return [self._operations_of(kind) for _ in _EDGE_NAMES for kind in OPERATIONS]

    def graphs(self) -> tuple[Graph]:
        """Return the graph of the cell."""
        columns = tuple(tuple(f"{edge}/{kind}" for kind in OPERATIONS[1:]) for edge in _EDGE_NAMES)
        return (Graph("cell", EDGES, columns, inputs=(0,), outputs=(NODES[-1],)),)

    def build_operation(self, operation: Operation) -> nn.Module:
        """Return one operation as `build` uses it.

        Raises:
            ParseError: the space has no operation of this kind.
        """
        from latbench.spaces.nasbench201.network import build_operation

        return build_operation(operation)

    def supernet(self) -> CellSupernet:
        """Return the benchmark's search network: batch norm in the cells without scale and shift."""
        from latbench.spaces.nasbench201.network import build_supernet

        return build_supernet(self.stages(), self.cells, self.classes)

    def relaxation(self) -> Softmax[NasBench201Cell]:
        """Return a softmax on every edge: each runs one operation, ``none`` is an ordinary one.

        A cell without a path from its input to its output is not derived.
        """
        from latbench.search.relaxations import Softmax

        none = OPERATIONS.index("none")
        return Softmax(ALPHA_SHAPES, self.decode, none=none, graphs=self.graphs(), columns=self.columns)

    def stages(self) -> list[tuple[int, int]]:
        """Return ``(channels, size)`` of the cells of each stage."""
        return [(self.channels * 2**stage, self.image // 2**stage) for stage in range(STAGES)]

    def _operations_of(self, kind: str) -> Counter[Operation]:
        # The identity costs nothing.
        if kind in ("none", "skip_connect"):
            return Counter()
        return Counter({Operation(kind, channels, channels, size): self.cells for channels, size in self.stages()})


def _cell(choices: Sequence[int] | NDArray[np.integer]) -> NasBench201Cell:
    return NasBench201Cell(tuple(OPERATIONS[choice] for choice in choices))
