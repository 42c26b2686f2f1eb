"""The checks that every relaxation makes, so that one mistake reads the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latbench.errors import ShapeError, UsageError


def check_parameters(parameters: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> None:
    """Check the shapes of what a search moves.

    Raises:
        ShapeError: other shapes than `shapes`.
    """
    given = [tuple(parameter.shape) for parameter in parameters]
    if given != list(shapes):
        raise ShapeError(
            f"the relaxation's parameters have shapes {list(shapes)}, not {given}: start from supernet().alphas(), "
            "or from one tensor for each of relaxation().shapes"
        )


def check_temperature(temperature: float) -> None:
    """Check the temperature of a relaxation.

    Raises:
        UsageError: it is not positive.
    """
    if not temperature > 0:
        raise UsageError(f"temperature {temperature} is not positive: give 1.0, or less for sharper encodings")


def check_derivable(parameters: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> None:
    """Check parameters that favour something: every comparison with NaN would choose at random.

    Raises:
        ShapeError: the shapes are not `shapes`.
        UsageError: the parameters hold NaN or +inf, whose softmax is NaN.
    """
    check_parameters(parameters, shapes)
    if any((parameter.isnan() | parameter.isposinf()).any() for parameter in parameters):
        raise UsageError(
            "the parameters hold NaN or +inf: a search diverged; start it again with a lower learning rate"
        )


def check_drawable(encoding: Tensor, n: int) -> None:
    """Check that an expected encoding can be drawn from, `n` times.

    Raises:
        UsageError: the encoding holds NaN, or `n` is less than 1.
    """
    if n < 1:
        raise UsageError(f"{n} encodings cannot be drawn: draw at least 1")
    if not torch.isfinite(encoding).all():
        raise UsageError(
            "the parameters hold NaN, or a row of -inf alone: a search diverged, or pruned every option of a decision; "
            "leave each row a finite entry"
        )
