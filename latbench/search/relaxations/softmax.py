"""Independent categorical decisions: each row of the parameters is the logits of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import one_hot_draws, pruned_to_none, straight_through
from latbench.space import A_co


class Softmax(Generic[A_co]):
    """Every row chooses one option, with the probabilities ``softmax(row / temperature)``.

    An encoding is the parameters' rows side by side. Draws have the gradient of the probabilities.

    Args:
        shapes: of the parameters, ``(..., options)``.
        decode: gives the architecture of an encoding whose rows are one-hot.
        none: the option of a pruned row, which is one of -inf alone; without it such a row has no probabilities.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], decode: Callable[[NDArray[Any]], A_co], *, none: int | None = None
    ) -> None:
        self.shapes = tuple(shapes)
        self._decode = decode
        self._none = none

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the probabilities ``(columns,)``; see `latbench.space.Relaxation.expected`."""
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        return torch.cat([(logits / temperature).softmax(dim=-1).flatten() for logits in self._unpruned(parameters)])

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw one-hot rows, ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        expected = self.expected(parameters, temperature=temperature)
        check_drawable(expected, n)
        parts = torch.split(expected.detach(), [logits.numel() for logits in parameters])
        draws = (one_hot_draws(part.reshape(shape), n) for part, shape in zip(parts, self.shapes, strict=True))
        return straight_through(torch.cat([draw.reshape(n, -1) for draw in draws], dim=1), expected)

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the architecture of every row's largest logit; see `latbench.space.Relaxation.derive`."""
        check_derivable(parameters, self.shapes)
        detached = [logits.detach() for logits in self._unpruned(parameters)]
        rows = [functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]) for logits in detached]
        return self._decode(torch.cat([row.flatten() for row in rows]).cpu().numpy())

    def _unpruned(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        return parameters if self._none is None else [pruned_to_none(logits, self._none) for logits in parameters]
