"""The NAS-Bench-201 network (Dong & Yang, ICLR 2020, section 2.1): one for an architecture and for the search."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from latbench.spaces.cells.checks import check_operation
from latbench.spaces.cells.network import CellGraph, CellNetwork, CellSupernet, MixedEdge, Mixing
from latbench.spaces.cells.operation import Operation
from latbench.spaces.cells.operations import avg_pool, conv_bn, relu_conv_bn, residual_reduction, skip_connect
from latbench.spaces.nasbench201.cell import ALPHA_SHAPES, EDGES, OPERATIONS, NasBench201Cell

Stage = tuple[int, int]
"""Channels of its cells, and height and width of their inputs."""

EdgeFactory = Callable[[int, int], nn.Module | None]
"""Gives the module on an edge, by the cell's channels and the edge's index, or None for ``none``."""

_FACTORIES: dict[str, Callable[[int, bool], nn.Module]] = {
    "skip_connect": lambda channels, affine: skip_connect(channels),
    "nor_conv_1x1": lambda channels, affine: relu_conv_bn(channels, channels, 1, affine=affine),
    "nor_conv_3x3": lambda channels, affine: relu_conv_bn(channels, channels, 3, affine=affine),
    "avg_pool_3x3": lambda channels, affine: avg_pool(),
}


def build_network(architecture: NasBench201Cell, stages: Sequence[Stage], cells: int, classes: int) -> CellNetwork:
    """Return the network of an architecture: one operation on every edge that is not ``none``."""

    def edge(channels: int, index: int) -> nn.Module | None:
        kind = architecture.operations[index]
        return None if kind == "none" else _FACTORIES[kind](channels, True)

    return NasBench201Network(stages, cells, classes, edge)


def build_supernet(stages: Sequence[Stage], cells: int, classes: int) -> CellSupernet:
    """Return the search network: all operations on every edge."""

    def edge(channels: int, index: int) -> MixedEdge:
        return MixedEdge(_FACTORIES[kind](channels, False) for kind in OPERATIONS[1:])

    return CellSupernet(NasBench201Network(stages, cells, classes, edge), ALPHA_SHAPES)


def build_operation(operation: Operation) -> nn.Module:
    """Return one operation of the space.

    Raises:
        ParseError: there is no operation of this kind.
    """
    check_operation(operation.kind, tuple(_FACTORIES))
    return _FACTORIES[operation.kind](operation.channels_in, True)


class NasBench201Network(CellNetwork):
    """A stem, three stages of cells with a residual block before the second and third, pooling and a linear head.

    Args:
        stages: channels and size of each.
        cells: how many cells each of them has.
        classes: how many classes the head tells apart.
        make_edge: gives the modules on the cells' edges.
    """

    def __init__(self, stages: Sequence[Stage], cells: int, classes: int, make_edge: EdgeFactory) -> None:
        super().__init__()
        last = stages[0][0]
        self.stem = conv_bn(3, last)
        self.blocks = nn.ModuleList()
        for channels, _ in stages:
            if channels != last:
                self.blocks.append(residual_reduction(last, channels))
            self.blocks.extend(CellGraph(EDGES, functools.partial(make_edge, channels)) for _ in range(cells))
            last = channels
        self.head = nn.Sequential(
            nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)
        )

    def logits(self, x: Tensor, mixing: Sequence[Mixing] | None = None) -> Tensor:
        """Return logits ``(batch, classes)``; `mixing` is for the cells of a supernet."""
        x = self.stem(x)
        for block in self.blocks:
            if isinstance(block, CellGraph):
                *_, x = block([x], None if mixing is None else mixing[0])
            else:
                x = block(x)
        logits: Tensor = self.head(x)
        return logits
