"""The multiplications that a convolution cannot do without."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

WINOGRAD = 2.25
"""Fewer multiplications of a 3x3 convolution in tiles of 2x2 (Lavin and Gray 2016). Larger tiles save more on paper
and lose it to their transforms."""


def inside_share(
    input_size: Sequence[int],
    output_size: Sequence[int],
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> float:
    """Return the share of a convolution's taps that do not fall on padding; each argument has a number a dimension."""
    share = 1.0
    for size, outputs, taps, step, before, apart in zip(
        input_size, output_size, kernel, stride, padding, dilation, strict=True
    ):
        positions = np.arange(outputs)[:, None] * step - before + np.arange(taps)[None, :] * apart
        share *= float(((positions >= 0) & (positions < size)).mean())
    return share


def least_share(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int) -> float:
    """Return the share of a convolution's multiplications that the best algorithm known for its shape does."""
    simple = math.prod(stride) == 1 and math.prod(dilation) == 1 and groups == 1
    return 1 / WINOGRAD if simple and len(kernel) == 2 and min(kernel) >= 3 else 1.0
