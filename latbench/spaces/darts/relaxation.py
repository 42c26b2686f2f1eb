"""The relaxed encoding of DARTS alphas: what the sampled, derived network is expected to run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latbench.spaces.darts.genotype import EDGES, NODES

_NODE = [node - NODES[0] for _, node in EDGES]
_SOURCE = [source for source, _ in EDGES]


def relaxed_encoding(alphas: Sequence[Tensor], temperature: float) -> Tensor:
    """Return ``P(edge kept) x P(operation | kept)`` for every edge and operation, the rest on ``none``.

    A derived DARTS cell keeps two of each node's incoming edges, 8 of 14; the softmax of the alphas would bill all 14.
    With ``p = softmax(alpha)`` on each edge and ``q = p ** (1 / temperature)``, an edge has the strength
    ``w = sum of q over all operations but none``. A node draws its two edges one after the other without
    replacement, with probabilities proportional to ``w``, and each kept edge draws operation ``o`` with ``q_o / w``.
    That order of draws is the Plackett-Luce distribution; it equals keeping the top two of ``log w`` with
    independent Gumbel noise added (Kool et al., ICML 2019), and two draws have a closed form.

    As the temperature goes to 0, ``temperature * log w`` goes to the log of the highest probability on the edge, so
    the draws become the paper's rule: the encoding becomes one-hot, that of `DartsSpace.derive`.

    Args:
        alphas: logits of the normal and of the reduction cell, ``(14, 8)`` each.
        temperature: a positive number.

    Returns:
        The encoding ``(224,)``; the operations of each edge sum to 1, and the kept edges of each cell to 8.
    """
    log_q = torch.stack(list(alphas)).log_softmax(dim=-1) / temperature
    log_w = log_q[..., 1:].logsumexp(dim=-1)
    operations = log_q[..., 1:].softmax(dim=-1)
    kept = _kept_probability(log_w).unsqueeze(-1)
    return torch.cat([1 - kept, kept * operations], dim=-1).flatten()


def _kept_probability(log_w: Tensor) -> Tensor:
    """Return the inclusion probability of each edge, ``(..., 14)``, in two draws by strength at every node.

    All in log space, as softmaxes over the edges that are left: 1 - P(first) would cancel when one edge dominates.
    """
    cells = log_w.shape[:-1]
    # One row per node, as long as the last node needs; edges that do not exist have no strength.
    by_node = log_w.new_full((*cells, len(NODES), max(NODES)), -torch.inf)
    by_node[..., _NODE, _SOURCE] = log_w
    first = by_node.softmax(dim=-1)
    itself = torch.eye(max(NODES), dtype=torch.bool, device=log_w.device)
    second_after = by_node.unsqueeze(-2).masked_fill(itself, -torch.inf).softmax(dim=-1)
    kept: Tensor = first + (first.unsqueeze(-1) * second_after).sum(dim=-2)
    return kept[..., _NODE, _SOURCE]
