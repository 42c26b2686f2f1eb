"""The DARTS network (Liu et al., ICLR 2019, section 3.2): one for a genotype and for the search."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from latbench.spaces.cells.checks import check_operation
from latbench.spaces.cells.network import CellGraph, CellNetwork, CellSupernet, MixedEdge, Mixing
from latbench.spaces.cells.operation import Operation
from latbench.spaces.cells.operations import (
    avg_pool,
    conv_bn,
    dilated_conv,
    factorized_reduce,
    max_pool,
    relu_conv_bn,
    separable_conv,
    skip_connect,
)
from latbench.spaces.darts.genotype import ALPHA_SHAPES, EDGES, NODES, OPERATIONS, Genotype, kept_edges
from latbench.spaces.darts.stack import StackedCell

EdgeFactory = Callable[[StackedCell, int], nn.Module | None]
"""Gives the module on an edge, by its cell and the edge's index, or None where the edge is not kept."""

_FACTORIES: dict[str, Callable[[Operation, bool], nn.Module]] = {
    "max_pool_3x3": lambda operation, _: max_pool(operation.stride),
    "avg_pool_3x3": lambda operation, _: avg_pool(operation.stride),
    "skip_connect": lambda operation, affine: skip_connect(operation.channels_in, operation.stride, affine=affine),
    "sep_conv_3x3": lambda operation, affine: separable_conv(operation.channels_in, 3, operation.stride, affine=affine),
    "sep_conv_5x5": lambda operation, affine: separable_conv(operation.channels_in, 5, operation.stride, affine=affine),
    "dil_conv_3x3": lambda operation, affine: dilated_conv(operation.channels_in, 3, operation.stride, affine=affine),
    "dil_conv_5x5": lambda operation, affine: dilated_conv(operation.channels_in, 5, operation.stride, affine=affine),
}


def build_network(genotype: Genotype, stack: Sequence[StackedCell], classes: int) -> CellNetwork:
    """Return the network of a genotype: one operation on every kept edge."""
    normal, reduce = kept_edges(genotype.normal), kept_edges(genotype.reduce)

    def edge(stacked: StackedCell, index: int) -> nn.Module | None:
        kind = (reduce if stacked.reduction else normal).get(index)
        return None if kind is None else build_operation(stacked.edge_operation(kind, EDGES[index][0]))

    return DartsNetwork(stack, classes, edge)


def build_supernet(stack: Sequence[StackedCell], classes: int) -> CellSupernet:
    """Return the search network: all operations on every edge."""

    def edge(stacked: StackedCell, index: int) -> MixedEdge:
        operations = (stacked.edge_operation(kind, EDGES[index][0]) for kind in OPERATIONS[1:])
        return MixedEdge(_mixed_operation(operation) for operation in operations)

    return CellSupernet(DartsNetwork(stack, classes, edge, affine=False), ALPHA_SHAPES)


def build_operation(operation: Operation, *, affine: bool = True) -> nn.Module:
    """Return one operation of the space.

    Raises:
        ParseError: there is no operation of this kind.
    """
    check_operation(operation.kind, tuple(_FACTORIES))
    return _FACTORIES[operation.kind](operation, affine)


class DartsNetwork(CellNetwork):
    """A stem, the stacked cells, global pooling and a linear head.

    Args:
        stack: the stacked cells, first to last.
        classes: how many classes the head tells apart.
        make_edge: gives the modules on the cells' edges.
        affine: whether the cells' batch norms scale and shift.
    """

    def __init__(
        self, stack: Sequence[StackedCell], classes: int, make_edge: EdgeFactory, *, affine: bool = True
    ) -> None:
        super().__init__()
        stem_channels = 3 * stack[0].channels
        self.stem = conv_bn(3, stem_channels)
        self.reductions = [stacked.reduction for stacked in stack]
        self.cells = nn.ModuleList()
        before_last, last, halved = stem_channels, stem_channels, False
        for stacked in stack:
            self.cells.append(DartsCell(stacked, before_last, last, make_edge, halved=halved, affine=affine))
            before_last, last, halved = last, len(NODES) * stacked.channels, stacked.reduction
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))

    def logits(self, x: Tensor, mixing: Sequence[Mixing] | None = None) -> Tensor:
        """Return logits ``(batch, classes)``; `mixing` is for the normal and the reduction cells of a supernet."""
        before_last = last = self.stem(x)
        for cell, reduction in zip(self.cells, self.reductions, strict=True):
            cell_mixing = None if mixing is None else mixing[reduction]
            before_last, last = last, cell(before_last, last, cell_mixing)
        logits: Tensor = self.head(last)
        return logits


class DartsCell(nn.Module):
    """One cell: its two inputs brought to its channels and size, its graph, and the nodes concatenated.

    Args:
        stacked: its channels and size.
        before_last: channels of the output of the cell before the last one.
        last: channels of the last cell's output.
        make_edge: gives the modules on the edges.
        halved: whether the last cell is a reduction cell, so that the output before it is twice as large.
        affine: whether batch norm scales and shifts.
    """

    def __init__(
        self, stacked: StackedCell, before_last: int, last: int, make_edge: EdgeFactory, *, halved: bool, affine: bool
    ) -> None:
        super().__init__()
        self.preprocess0 = (
            factorized_reduce(before_last, stacked.channels, affine=affine)
            if halved
            else relu_conv_bn(before_last, stacked.channels, 1, affine=affine)
        )
        self.preprocess1 = relu_conv_bn(last, stacked.channels, 1, affine=affine)
        self.graph = CellGraph(EDGES, functools.partial(make_edge, stacked), stride=2 if stacked.reduction else 1)

    def forward(self, before_last: Tensor, last: Tensor, mixing: Mixing | None) -> Tensor:
        """Map the outputs of the two cells before to ``(batch, 4 * channels, ...)``."""
        states = self.graph([self.preprocess0(before_last), self.preprocess1(last)], mixing)
        return torch.cat(states[2:], dim=1)


def _mixed_operation(operation: Operation) -> nn.Module:
    module = build_operation(operation, affine=False)
    # The paper normalises pooling too while searching, so that the alphas compare operations of one scale.
    if operation.kind in ("max_pool_3x3", "avg_pool_3x3"):
        return nn.Sequential(module, nn.BatchNorm2d(operation.channels_out, affine=False))
    return module
