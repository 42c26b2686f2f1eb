"""The noise floor of a profile: the error that a perfect predictor would show, from blind duplicates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ShapeError

MINIMUM_PAIRS = 5
"""Fewer pairs tell too little: with five, the standard error of the floor is a third of it."""

DUPLICATES = "blind duplicates"


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How much repeated measurements of one architecture disagree. Fractions: 0.01 is 1%.

    Args:
        pairs: how many pairs of measurements it comes from.
        mape: the MAPE that a perfect predictor would show on these labels; None where it is not known.
        robust_cv: coefficient of variation of one measurement from the median disagreement, which no outlier moves.
        rms_cv: the same from the root mean square, which outliers dominate.
        reason: why the floor is not known; empty where it is.
        of: what was measured twice.
    """

    pairs: int
    mape: float | None = None
    robust_cv: float | None = None
    rms_cv: float | None = None
    reason: str = ""
    of: str = DUPLICATES

    def __str__(self) -> str:
        if self.mape is None:
            return f"unknown ({self.reason})"
        return (
            f"{self.mape:.2%} MAPE of a perfect predictor "
            f"(CV {self.robust_cv:.2%} robust, {self.rms_cv:.2%} rms; {self.pairs} {self.of})"
        )


def noise_floor(duplicates: NDArray[np.float64], *, of: str = DUPLICATES) -> NoiseFloor:
    """Estimate the floor from pairs of independent measurements of the same architectures.

    Let a measurement be ``truth * exp(e)`` with normal ``e`` of standard deviation CV. Then ``d = log(a / b)`` of a
    pair has the standard deviation √2 CV, so that

    - ``robust_cv = 1.4826 median|d| / √2`` (1.4826 turns a normal median deviation into a standard deviation),
    - ``rms_cv = rms(d) / √2``,
    - a predictor that knows the truth errs by ``|e|`` on a measured label, on average by ``√(2/π) CV``, about 0.8 CV.
      As ``mean|d| = √2 √(2/π) CV``, that floor is ``mean|d| / √2``. It is not robust, because a MAPE is not.

    Args:
        duplicates: positive pairs ``(pairs, 2)``, as `latbench.records.profile.Profile.duplicates` gives them.
        of: what was measured twice, for messages.

    Raises:
        ShapeError: not ``(pairs, 2)``.
    """
    pairs = np.asarray(duplicates, dtype=np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ShapeError(f"{of} have the shape (pairs, 2), not {pairs.shape}")
    if len(pairs) < MINIMUM_PAIRS:
        return NoiseFloor(len(pairs), reason=f"{len(pairs)} {of}, at least {MINIMUM_PAIRS} are needed", of=of)
    if not (pairs > 0).all():
        return NoiseFloor(len(pairs), reason=f"a value of {of} is not positive", of=of)
    equal = int((pairs[:, 0] == pairs[:, 1]).sum())
    if 2 * equal >= len(pairs):
        # Measurements differ: such pairs are one value written twice, or rounded more coarsely than they differ.
        return NoiseFloor(len(pairs), reason=f"{equal} of {len(pairs)} {of} are equal to the last digit", of=of)
    difference = np.abs(np.log(pairs[:, 0] / pairs[:, 1])) / math.sqrt(2)
    return NoiseFloor(
        len(pairs),
        mape=float(difference.mean()),
        robust_cv=1.4826 * float(np.median(difference)),
        rms_cv=math.sqrt(float((difference**2).mean())),
        of=of,
    )
