"""DARTS' rule as a distribution: every node keeps two of its incoming edges, and every kept edge one operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import one_hot_draws, pruned_to_none, safe_softmax, straight_through
from latbench.search.relaxations.graph import Edge, Incoming, edge_encoding
from latbench.space import A_co


class TwoEdges(Generic[A_co]):
    """``P(edge kept) x P(operation | kept)`` for every edge and operation, the rest on ``none``.

    A derived DARTS cell keeps two of each node's incoming edges, 8 of 14; the softmax of the alphas would bill all 14.
    With ``p = softmax(alpha)`` on each edge and ``q = p ** (1 / temperature)``, an edge has the strength
    ``w = sum of q over all operations but none``. A node draws its two edges one after the other without
    replacement, with probabilities proportional to ``w``, and each kept edge draws operation ``o`` with ``q_o / w``.
    That order of draws is the Plackett-Luce distribution; it equals keeping the top two of ``log w`` with
    independent Gumbel noise added (Kool et al., ICML 2019), and two draws have a closed form.

    As the temperature goes to 0, ``temperature * log w`` goes to the log of the highest probability on the edge, so
    the draws become the rule of DARTS (Liu et al., ICLR 2019, section 2.4): the encoding becomes that of `derive`.

    An encoding has a row for each edge of each cell, the operations side by side; an edge that is not kept is ``none``.
    An edge is pruned where every operation is -inf, whatever the logit of ``none``. A node whose edges are pruned down
    to one, or to none, also keeps pruned ones, drawn uniformly.

    Args:
        edges: ``(source, node)`` pairs of a cell; every node needs at least two.
        operations: how many an edge chooses from, ``none`` among them, as the first one.
        decode: gives the architecture of an encoding in which every node keeps two edges.
        cells: how many cells the parameters describe, one tensor each.

    Raises:
        UsageError: a node with fewer than two incoming edges.
    """

    def __init__(
        self, edges: Sequence[Edge], operations: int, decode: Callable[[NDArray[Any]], A_co], *, cells: int = 1
    ) -> None:
        self.shapes = ((len(edges), operations),) * cells
        self._incoming = Incoming(edges)
        self._decode = decode

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the expected encoding ``(columns,)``; see `latbench.space.Relaxation.expected`."""
        first, second, operations = self._probabilities(parameters, temperature)
        kept = first + (first.unsqueeze(-1) * second).sum(dim=-2)
        return edge_encoding(self._incoming.by_edge(kept), operations).flatten()

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw encodings of two edges a node ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        expected = self.expected(parameters, temperature=temperature)
        check_drawable(expected, n)
        with torch.no_grad():
            first, second, operations = self._probabilities(parameters, temperature)
            drawn = one_hot_draws(first, n)
            after = (drawn.unsqueeze(-1) * second).sum(dim=-2)
            kept = drawn + one_hot_draws(after, 1)[0]
            hard = edge_encoding(self._incoming.by_edge(kept), one_hot_draws(operations, n))
        return straight_through(hard.reshape(n, -1), expected)

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the architecture of the rule of DARTS; see `latbench.space.Relaxation.derive`.

        Every node keeps the two incoming edges whose strongest operation has the highest softmax probability,
        ``none`` aside, and that operation on each.
        """
        check_derivable(parameters, self.shapes)
        log_p = _log_probabilities([parameter.detach().cpu().double() for parameter in parameters])
        strength, choice = log_p.max(dim=-1)
        by_node = self._incoming.by_node(_floored(strength))
        strongest = by_node.sort(dim=-1, descending=True, stable=True).indices[..., :2]
        kept = functional.one_hot(strongest, by_node.shape[-1]).sum(dim=-2)
        operations = functional.one_hot(choice, log_p.shape[-1])
        return self._decode(edge_encoding(self._incoming.by_edge(kept), operations).flatten().numpy())

    def _probabilities(self, parameters: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities of a node's first edge, its second given the first, and each edge's operations.

        All in log space, as softmaxes over the edges that are left: 1 - P(first) would cancel when one edge dominates.
        """
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        log_q = _log_probabilities(parameters) / temperature
        pruned = torch.isneginf(log_q).all(dim=-1, keepdim=True)
        # Replaced before the sum: the gradient of a sum over -inf alone is NaN.
        log_w = torch.where(pruned, 0.0, log_q).logsumexp(dim=-1)
        by_node = self._incoming.by_node(torch.where(pruned.squeeze(-1), _floor(log_w), log_w))
        itself = torch.eye(by_node.shape[-1], dtype=torch.bool, device=by_node.device)
        second = safe_softmax(by_node.unsqueeze(-2).masked_fill(itself, -torch.inf))
        return by_node.softmax(dim=-1), second, safe_softmax(log_q)


def _log_probabilities(parameters: Sequence[Tensor]) -> Tensor:
    """Return the log of every operation's softmax probability, ``none`` aside ``(cells, edges, operations - 1)``."""
    return torch.stack([pruned_to_none(p, 0) for p in parameters]).log_softmax(dim=-1)[..., 1:]


def _floor(values: Tensor) -> float:
    """Return a finite number below any strength: a pruned edge is kept where a node has no other."""
    return torch.finfo(values.dtype).min / 4


def _floored(values: Tensor) -> Tensor:
    return values.clamp_min(_floor(values))
