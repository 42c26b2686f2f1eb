"""How relaxations draw: one-hot choices, and values that have the gradient of other ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def one_hot_draws(probabilities: Tensor, n: int) -> Tensor:
    """Draw from categorical distributions with torch's generator.

    Args:
        probabilities: ``(..., options)``.
        n: how often.

    Returns:
        One-hot rows ``(n, ..., options)``, of the probabilities' type.
    """
    *rows, options = probabilities.shape
    drawn = torch.multinomial(probabilities.detach().reshape(-1, options), n, replacement=True)
    return functional.one_hot(drawn.T, options).to(probabilities).reshape(n, *rows, options)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return the values of `hard` with the gradient of `soft` (Bengio et al., arXiv 1308.3432, 2013)."""
    # Added to zeros: (hard + soft) - soft would round.
    return hard + (soft - soft.detach())


def safe_softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last dimension; a row of -inf alone gives a uniform one, without a gradient."""
    pruned = torch.isneginf(logits).all(dim=-1, keepdim=True)
    return torch.where(pruned, 0.0, logits).softmax(dim=-1)


def pruned_to_none(logits: Tensor, none: int) -> Tensor:
    """Return logits in which a pruned edge, a row of -inf alone, chooses the option `none`, without a gradient."""
    pruned = torch.isneginf(logits).all(dim=-1, keepdim=True)
    option = torch.arange(logits.shape[-1], device=logits.device)
    return torch.where(pruned, torch.where(option == none, 0.0, -torch.inf).to(logits), logits)
