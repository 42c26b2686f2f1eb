"""Decisions some of which apply only where an earlier one has certain values: a block that a shallow stage lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import one_hot_draws, straight_through
from latbench.search.relaxations.live_paths import LivePaths
from latbench.space import A_co

if TYPE_CHECKING:
    from latbench.space import Column, Graph

Condition = tuple[int, tuple[int, ...]] | None
"""The index of an earlier decision, and of those of its options that make this one active; None is always active."""


class Decisions(Generic[A_co]):
    """A softmax for each decision; one that may be inactive weighs as much as the options that activate it.

    An encoding has the options of each decision and, after them where there is a condition, how inactive it is.

    Args:
        options: how many options each decision has.
        conditions: the condition of each decision, or None.
        decode: gives the architecture of an encoding in which every decision takes one option or is inactive.
        graphs: of the space; with them `derive` returns no dead architecture.
        columns: of the space; graphs name them.

    Raises:
        UsageError: unconditional decisions do not choose the edges of the graphs independently (`LivePaths`).
    """

    def __init__(
        self,
        options: Sequence[int],
        conditions: Sequence[Condition],
        decode: Callable[[NDArray[Any]], A_co],
        *,
        graphs: Sequence[Graph] = (),
        columns: Sequence[Column] = (),
    ) -> None:
        self.shapes: tuple[tuple[int, ...], ...] = tuple((count,) for count in options)
        self._conditions = tuple(conditions)
        self._decode = decode
        self._paths = LivePaths(graphs, columns, self._rows() if graphs else ())

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
        """Return the architecture of every decision's largest logit; see `latbench.space.Relaxation.derive`.

        Where no path leads through the graphs then, the likeliest options that make one take their place.

        Raises:
            UsageError: the parameters hold NaN, or prune an edge of every path.
        """
        check_derivable(parameters, self.shapes)
        log_p = [p.detach().cpu().double().log_softmax(dim=-1).tolist() for p in parameters]
        chosen = [
            functional.one_hot(torch.tensor(choice), len(p)).float()
            for choice, p in zip(self._paths.choose(log_p), parameters, strict=True)
        ]
        return self._decode(conditional_encoding(chosen, self._conditions).numpy())

    def _rows(self) -> list[list[int]]:
        """Return the columns of each decision's options; none for a decision that may be inactive."""
        rows, column = [], 0
        for (count,), condition in zip(self.shapes, self._conditions, strict=True):
            rows.append(list(range(column, column + count)) if condition is None else [])
            column += count if condition is None else count + 1
        return rows

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
