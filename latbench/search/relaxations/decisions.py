"""Decisions some of which apply only where an earlier one has certain values: a block that a shallow stage lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import one_hot_draws, straight_through
from latbench.space import A_co

Condition = tuple[int, tuple[int, ...]] | None
"""The index of an earlier decision, and of those of its options that make this one active; None is always active."""


class Decisions(Generic[A_co]):
    """A softmax for each decision; one that may be inactive weighs as much as the options that activate it.

    An encoding has the options of each decision and, after them where there is a condition, how inactive it is.

    Args:
        options: how many options each decision has.
        conditions: the condition of each decision, or None.
        decode: gives the architecture of an encoding in which every decision takes one option or is inactive.
    """

    def __init__(
        self, options: Sequence[int], conditions: Sequence[Condition], decode: Callable[[NDArray[Any]], A_co]
    ) -> None:
        self.shapes: tuple[tuple[int, ...], ...] = tuple((count,) for count in options)
        self._conditions = tuple(conditions)
        self._decode = decode

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the probabilities ``(columns,)``; see `latbench.space.Relaxation.expected`."""
        return conditional_encoding(self._probabilities(parameters, temperature), self._conditions)

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw encodings ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        expected = self.expected(parameters, temperature=temperature)
        check_drawable(expected, n)
        draws = [one_hot_draws(p, n) for p in self._probabilities(parameters, temperature)]
        return straight_through(conditional_encoding(draws, self._conditions), expected)

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the architecture of every decision's largest logit; see `latbench.space.Relaxation.derive`."""
        check_derivable(parameters, self.shapes)
        chosen = [functional.one_hot(p.detach().argmax(), len(p)).cpu().float() for p in parameters]
        return self._decode(conditional_encoding(chosen, self._conditions).numpy())

    def _probabilities(self, parameters: Sequence[Tensor], temperature: float) -> list[Tensor]:
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        return [(logits / temperature).softmax(dim=-1) for logits in parameters]


def conditional_encoding(weights: Sequence[Tensor], conditions: Sequence[Condition]) -> Tensor:
    """Join the options of all decisions, each weighed by how active it is.

    Args:
        weights: of each decision's options ``(..., options)``, as if it were active; they sum to 1.
        conditions: the condition of each decision, or None.

    Returns:
        The encoding ``(..., columns)``.
    """
    joint: list[Tensor] = []
    blocks: list[Tensor] = []
    for options, condition in zip(weights, conditions, strict=True):
        if condition is None:
            joint.append(options)
            blocks.append(options)
            continue
        earlier, values = condition
        active = joint[earlier][..., list(values)].sum(dim=-1, keepdim=True)
        joint.append(active * options)
        blocks += [joint[-1], 1 - active]
    return torch.cat(blocks, dim=-1)
