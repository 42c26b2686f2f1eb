"""Independent yes-or-no decisions: each parameter is the logit of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import straight_through
from latbench.space import A_co


class Sigmoid(Generic[A_co]):
    """Every parameter says yes with probability ``sigmoid(parameter / temperature)``.

    An encoding has a column for each parameter, 1 for yes: a channel that is kept, an edge, an exit. Draws have the
    gradient of the probabilities.

    Args:
        shapes: of the parameters.
        decode: gives the architecture of an encoding of zeros and ones.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], decode: Callable[[NDArray[Any]], A_co]) -> None:
        self.shapes = tuple(shapes)
        self._decode = decode

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the probabilities of yes ``(columns,)``; see `latbench.space.Relaxation.expected`."""
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        return (torch.cat([parameter.flatten() for parameter in parameters]) / temperature).sigmoid()

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw zeros and ones, ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        expected = self.expected(parameters, temperature=temperature)
        check_drawable(expected, n)
        return straight_through(torch.bernoulli(expected.detach().expand(n, -1)), expected)

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the architecture of the positive parameters; see `latbench.space.Relaxation.derive`."""
        check_derivable(parameters, self.shapes)
        return self._decode(torch.cat([(parameter.detach() > 0).flatten() for parameter in parameters]).cpu().numpy())
