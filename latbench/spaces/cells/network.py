"""What the networks of cell spaces share: the graph inside a cell, the mixed edge, the supernet.

A cell is the same graph in a network of one architecture and in a supernet; only what sits on its edges differs,
and an edge factory decides that.
"""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import ShapeError

Mixing = Sequence[Sequence[tuple[int, Tensor]]]
"""What a supernet runs in one cell type: for each edge which operations, and the scalar that weighs each."""


class CellGraph(nn.Module):
    """A directed acyclic graph in which every node is the sum of its incoming edges.

    Args:
        edges: ``(source, node)`` pairs, grouped by node; the nodes before the first one here are the cell's inputs.
        make_edge: gives the module on an edge by the edge's index, or None where there is none.
        stride: by which the edges from the cell's inputs divide the size.
    """

    def __init__(
        self, edges: Sequence[tuple[int, int]], make_edge: Callable[[int], nn.Module | None], *, stride: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
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
                if mixing is None:
                    terms.append(self.edges[str(index)](states[source]))
                elif mixing[index]:
                    terms.append(self.edges[str(index)](states[source], mixing[index]))
            states.append(functools.reduce(operator.add, terms) if terms else self._nothing(states[0]))
        return states

    def _nothing(self, x: Tensor) -> Tensor:
        """Return a node that no edge reaches."""
        return (x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride]) * 0.0


class MixedEdge(nn.Module):
    """All operations of an edge, summed with weights (DARTS, section 2.2).

    Args:
        operations: every operation but ``none``, which adds nothing.
    """

    def __init__(self, operations: Iterable[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, x: Tensor, weights: Sequence[tuple[int, Tensor]]) -> Tensor:
        """Return the weighted sum of some operations, given by their index; the others do not run."""
        terms: list[Tensor] = [weight * self.operations[index](x) for index, weight in weights]
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

    def forward(self, x: Tensor, *, encoding: Tensor | NDArray[Any] | None = None) -> Tensor:
        """Return logits ``(batch, classes)`` for images ``(batch, 3, image, image)``.

        Args:
            x: the images.
            encoding: weighs the operations of every edge ``(columns,)``, as a tensor or an array; what is 0 is not run.
                None mixes all operations by the softmax of the alphas.

        Raises:
            ShapeError: an encoding of another length.
        """
        if x.device.type == "cpu":
            # Twice as fast: the backward pass of depthwise convolutions is slow in any other layout.
            x = x.contiguous(memory_format=torch.channels_last)
        if encoding is None:
            mixed = torch.cat([alpha.softmax(dim=-1).flatten() for alpha in self.architecture])
            return self.network.logits(x, self._mixing(mixed, [True] * len(mixed)))
        encoding = torch.as_tensor(encoding, device=x.device)
        self._check_length(encoding)
        # One transfer for all: where the encoding is on a GPU, each entry would wait for it.
        return self.network.logits(x, self._mixing(encoding, (encoding.detach() != 0).tolist()))

    def _mixing(self, encoding: Tensor, runs: Sequence[bool]) -> list[Mixing]:
        """Return what runs on every edge of each cell type; ``none``, an edge's first operation, never does."""
        # Unbinding once is cheaper than indexing at every edge: each index would get a backward node of its own.
        entries = zip(encoding.unbind(), runs, strict=True)
        return [
            [
                [
                    (index - 1, weight)
                    for index, (weight, run) in enumerate(islice(entries, operations))
                    if index and run
                ]
                for _ in range(edges)
            ]
            for edges, operations in (alpha.shape for alpha in self.architecture)
        ]

    def _check_length(self, encoding: Tensor) -> None:
        columns = sum(alpha.numel() for alpha in self.architecture)
        if encoding.shape != (columns,):
            raise ShapeError(
                f"an encoding of this space has the shape ({columns},), not {tuple(encoding.shape)}: give one row"
            )
