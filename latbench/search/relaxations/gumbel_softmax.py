"""Independent categorical decisions, drawn with Gumbel noise: Jang et al. and Maddison et al., both ICLR 2017."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.errors import UsageError
from latbench.search.relaxations.checks import check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import straight_through
from latbench.search.relaxations.softmax import Softmax
from latbench.space import A_co


class GumbelSoftmax(Softmax[A_co]):
    """A `Softmax` whose draws have the gradient of the soft draw (straight-through Gumbel-softmax).

    A row's draw is the largest of ``log p + noise``, exactly a draw from ``p = softmax(row / temperature)``, and its
    gradient that of ``softmax((log p + noise) / sharpness)``.

    Args:
        shapes: of the parameters, ``(..., options)``.
        decode: gives the architecture of an encoding whose rows are one-hot.
        sharpness: the papers' temperature of the soft draw: lower ones are closer to the draw and have gradients of
            more variance.

    Raises:
        UsageError: the sharpness is not positive.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], decode: Callable[[NDArray[Any]], A_co], *, sharpness: float = 1.0
    ) -> None:
        super().__init__(shapes, decode)
        if not sharpness > 0:
            raise UsageError(
                f"sharpness {sharpness} is not positive: give 1.0, or less for gradients closer to the draws"
            )
        self.sharpness = sharpness

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw one-hot rows, ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        return torch.cat([self._draws(logits / temperature, n).reshape(n, -1) for logits in parameters], dim=1)

    def _draws(self, logits: Tensor, n: int) -> Tensor:
        log_p = logits.log_softmax(dim=-1)
        check_drawable(log_p.exp(), n)
        noise = -torch.empty(n, *logits.shape, dtype=logits.dtype, device=logits.device).exponential_().log()
        noisy = log_p + noise
        hard = functional.one_hot(noisy.argmax(dim=-1), logits.shape[-1]).to(noisy)
        return straight_through(hard, (noisy / self.sharpness).softmax(dim=-1))
