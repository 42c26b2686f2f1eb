"""What a loop's alphas are: probabilities that are billed as logits would be nearly uniform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from latbench.errors import UsageError

if TYPE_CHECKING:
    from latbench.space import Relaxation

Kind = Literal["logits", "probabilities"]

TOLERANCE = 2e-3
"""How far the sum of a row of probabilities may be from 1: a softmax of ten in half precision is that exact."""

_SMALLEST = 1e-30
"""Added before the logarithm, so that an option of probability 0 keeps the gradient of a straight-through sample."""


class Logits:
    """Takes alphas of a kind to logits, and asks at the first call where they do not look like what was said.

    Args:
        kind: what the alphas are; None for logits that may turn out to be something else.
        relaxation: what their logits mean, if anything.

    Raises:
        UsageError: no such kind, or probabilities for a relaxation whose parameters are no logits of a softmax.
    """

    def __init__(self, kind: Kind | None, relaxation: Relaxation[Any] | None) -> None:
        if kind is not None and kind not in get_args(Kind):
            raise UsageError(f"no kind of alphas named {kind!r}: choose one of {', '.join(get_args(Kind))}")
        if kind == "probabilities":
            _check_softmax(relaxation)
        self._kind, self._asked = kind, kind == "logits"

    def __call__(self, alphas: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return logits; those of probabilities have the probabilities as their softmax.

        Raises:
            UsageError: the rows should sum to 1 and do not, or the other way round.
        """
        if not self._asked:
            self._ask(alphas)
        return [(alpha + _SMALLEST).log() for alpha in alphas] if self._kind == "probabilities" else alphas

    def _ask(self, alphas: Sequence[Tensor]) -> None:
        # Neither a graph that is compiled nor one that is transformed has numbers to look at.
        if torch.compiler.is_compiling() or any(alpha.is_meta or is_transformed(alpha) for alpha in alphas):
            return
        like = any(alpha.shape[-1:].numel() > 1 for alpha in alphas) and all(map(_sum_to_one, alphas))
        if self._kind == "probabilities" and not like:
            raise UsageError(
                "the rows of the alphas are no probabilities, each at least 0 with sum 1: give them behind the "
                'softmax, or say LatencyLoss(..., kind="logits")'
            )
        if self._kind is None and like:
            raise UsageError(
                "every row of the alphas sums to 1, as if they were probabilities, and they would be billed as logits: "
                'say LatencyLoss(..., kind="probabilities"), or kind="logits" if that is what they are'
            )
        self._asked = self._kind is None


def is_transformed(tensor: Tensor) -> bool:
    """Return whether a tensor is inside a transform of `torch.func`, which has no numbers to look at."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))  # torch has no public question


def _sum_to_one(alpha: Tensor) -> bool:
    rows = alpha.detach()
    return bool((rows >= 0).all() and ((rows.sum(dim=-1) - 1).abs() <= TOLERANCE).all())


def _check_softmax(relaxation: Relaxation[Any] | None) -> None:
    """Refuse to take the logarithm of probabilities for the parameters of something else than a softmax."""
    if relaxation is None:
        raise UsageError("a space without relaxation has no probabilities of alphas: bill encodings with of(encoding)")
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in relaxation.shapes]
    if not torch.allclose(relaxation.expected(drawn), relaxation.expected([a + 1.0 for a in drawn]), atol=1e-4):
        raise UsageError(
            f"{type(relaxation).__name__} is no softmax of its parameters, so that they have no probabilities: give "
            "the parameters themselves"
        )
