"""What the networks of cell spaces share: the graph inside a cell, the mixed edge, the supernet.

A cell is the same graph in a network of one architecture and in a supernet; only what sits on its edges differs,
and an edge factory decides that.
"""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Mixing = Sequence[Sequence[Tensor]]
"""Mixing weights of one cell type: for each edge one scalar per operation."""


class CellGraph(nn.Module):
    """A directed acyclic graph in which every node is the sum of its incoming edges.

    Args:
        edges: ``(source, node)`` pairs, grouped by node; the nodes before the first target are the cell's inputs.
        make_edge: gives the module on an edge by the edge's index, or None where there is none.
    """

    def __init__(self, edges: Sequence[tuple[int, int]], make_edge: Callable[[int], nn.Module | None]) -> None:
        super().__init__()
        self.incoming: dict[int, list[tuple[int, int]]] = {node: [] for _, node in edges}
        self.edges = nn.ModuleDict()
        for index, (source, node) in enumerate(edges):
            module = make_edge(index)
            if module is not None:
                self.edges[str(index)] = module
                self.incoming[node].append((index, source))

    def forward(self, inputs: Sequence[Tensor], mixing: Mixing | None = None) -> list[Tensor]:
        """Return the inputs and all nodes after them; `mixing` goes to the edges where they are mixed ones."""
        states = list(inputs)
        for incoming in self.incoming.values():
            terms: list[Tensor] = []
            for index, source in incoming:
                edge, x = self.edges[str(index)], states[source]
                terms.append(edge(x) if mixing is None else edge(x, mixing[index]))
            states.append(functools.reduce(operator.add, terms) if terms else states[0] * 0.0)
        return states


class MixedEdge(nn.Module):
    """All operations of an edge, summed with weights (DARTS, section 2.2).

    Args:
        operations: every operation but ``none``, which comes first among the weights and adds nothing.
    """

    def __init__(self, operations: Iterable[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum; `weights` holds one scalar per operation, ``none`` first."""
        terms: list[Tensor] = [
            weight * operation(x) for weight, operation in zip(weights[1:], self.operations, strict=True)
        ]
        return functools.reduce(operator.add, terms)


class CellNetwork(nn.Module, ABC):
    """A network of cells, for one architecture or, with a `MixedEdge` on every edge, for a supernet."""

    @abstractmethod
    def logits(self, x: Tensor, mixing: Sequence[Mixing] | None = None) -> Tensor:
        """Return logits ``(batch, classes)``; a supernet gives one `Mixing` per cell type."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, 3, image, image)``."""
        return self.logits(x)


class CellSupernet(nn.Module):
    """A network of mixed edges and the alphas that weigh them by a softmax (DARTS, equation 2).

    Args:
        network: has a `MixedEdge` on every edge.
        alpha_shapes: ``(edges, operations)`` for each cell type.
    """

    def __init__(self, network: CellNetwork, alpha_shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.network = network
        self.architecture = nn.ParameterList(1e-3 * torch.randn(shape) for shape in alpha_shapes)

    def alphas(self) -> list[nn.Parameter]:
        """Return the architecture parameters."""
        return list(self.architecture)

    def weights(self) -> list[nn.Parameter]:
        """Return the network's own parameters."""
        return list(self.network.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, 3, image, image)``."""
        if x.device.type == "cpu":
            # Twice as fast: the backward pass of depthwise convolutions is slow in any other layout.
            x = x.contiguous(memory_format=torch.channels_last)
        # Unbinding once is cheaper than indexing at every edge: each index would get a backward node of its own.
        mixing = [[row.unbind() for row in alpha.softmax(dim=-1).unbind()] for alpha in self.architecture]
        return self.network.logits(x, mixing)
