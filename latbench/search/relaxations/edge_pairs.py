"""Which two edges a node keeps as parameters of their own: TopoNAS (Huang et al., arXiv 2011.09300, 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import one_hot_draws, safe_softmax, straight_through
from latbench.search.relaxations.graph import Edge, Incoming, edge_encoding
from latbench.space import A_co


class EdgePairs(Generic[A_co]):
    """A softmax over the pairs of each node's incoming edges, beside one over every edge's operations.

    The expected encoding is ``P(edge in the drawn pair) x P(operation)``, the rest on ``none``. Where DARTS reads a
    node's edges off the operations' strengths, here what an edge does and whether it is kept are learnt separately.

    The parameters are, for each cell, logits of the operations ``(edges, operations - 1)``, ``none`` left out; then,
    for each cell and node, logits of the pairs ``(pairs,)`` in the order of `itertools.combinations`. An encoding has a
    row for each edge of each cell, the operations side by side, ``none`` first.

    Args:
        edges: ``(source, node)`` pairs of a cell; every node needs at least two.
        operations: how many an edge chooses from, ``none`` among them, as the first one.
        decode: gives the architecture of an encoding in which every node keeps two edges.
        cells: how many cells the parameters describe.

    Raises:
        UsageError: a node with fewer than two incoming edges.
    """

    def __init__(
        self, edges: Sequence[Edge], operations: int, decode: Callable[[NDArray[Any]], A_co], *, cells: int = 1
    ) -> None:
        self._cells = cells
        self._decode = decode
        # For each node a matrix (pairs, edges): which edges a pair keeps.
        self._pairs = [_members(incoming, len(edges)) for incoming in Incoming(edges).edges.values()]
        pairs = [(len(members),) for members in self._pairs]
        self.shapes: tuple[tuple[int, ...], ...] = (*[(len(edges), operations - 1)] * cells, *pairs * cells)

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the expected encoding ``(columns,)``; see `latbench.space.Relaxation.expected`."""
        operations, pairs = self._probabilities(parameters, temperature)
        return edge_encoding(self._kept(pairs), operations).flatten()

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw encodings of two edges a node ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        expected = self.expected(parameters, temperature=temperature)
        check_drawable(expected, n)
        with torch.no_grad():
            operations, pairs = self._probabilities(parameters, temperature)
            kept = self._kept([one_hot_draws(pair, n) for pair in pairs])
            hard = edge_encoding(kept, one_hot_draws(operations, n)).reshape(n, -1)
        return straight_through(hard, expected)

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the architecture of the likeliest pairs and operations; see `latbench.space.Relaxation.derive`."""
        check_derivable(parameters, self.shapes)
        rows = [functional.one_hot(p.detach().argmax(dim=-1), p.shape[-1]).cpu().float() for p in parameters]
        operations, pairs = torch.stack(rows[: self._cells]), rows[self._cells :]
        return self._decode(edge_encoding(self._kept(pairs), operations).flatten().numpy())

    def _probabilities(self, parameters: Sequence[Tensor], temperature: float) -> tuple[Tensor, list[Tensor]]:
        """Return the probabilities of the operations ``(cells, edges, operations - 1)``, and of each node's pairs."""
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        operations = safe_softmax(torch.stack(list(parameters[: self._cells])) / temperature)
        return operations, [(pair / temperature).softmax(dim=-1) for pair in parameters[self._cells :]]

    def _kept(self, pairs: Sequence[Tensor]) -> Tensor:
        """Return how much of each edge is kept ``(..., cells, edges)``, given how much of each pair is."""
        nodes = len(self._pairs)
        cells = [pairs[start : start + nodes] for start in range(0, len(pairs), nodes)]
        kept = [
            torch.stack([pair @ members.to(pair) for pair, members in zip(cell, self._pairs, strict=True)]).sum(dim=0)
            for cell in cells
        ]
        return torch.stack(kept, dim=-2)


def _members(incoming: Sequence[int], edges: int) -> Tensor:
    pairs = torch.tensor(list(combinations(incoming, 2)))
    return functional.one_hot(pairs, edges).sum(dim=1)
