"""Whether run B takes as much as run A: the ratio of two measured values, with its interval and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from latbench.errors import DataError
from latbench.measure.estimate import Z_95

Verdict = Literal["SAME", "FASTER", "SLOWER", "LESS", "MORE", "UNCLEAR"]
WORSE = ("SLOWER", "MORE")
"""Verdicts that say that B takes more."""
BUSY = "busy"
"""Flag of a value from a core that other processes used meanwhile."""
TOLERANCE = 0.01
"""Half of what two careful runs on a quiet machine can tell apart: a true difference of 2% lies clearly beyond it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A positive value with its 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ratio(Interval):
    """B relative to A: 0.9 says that B takes 10% less."""

    def verdict(self, tolerance: float = TOLERANCE, *, quantity: str = "latency") -> Verdict:
        """Decide between four answers that exclude one another.

        - SAME: the whole interval lies within ``[1 / (1 + tolerance), 1 + tolerance]``.
        - FASTER, SLOWER: the interval excludes 1, and the ratio lies below or above that band. For other
          quantities than latency, LESS and MORE.
        - UNCLEAR: anything else. The interval is too wide, or a difference is sure but maybe too small to matter.

        Exchanging A and B exchanges FASTER and SLOWER, and nothing else.
        """
        above = 1 + tolerance
        below = 1 / above
        if below <= self.low and self.high <= above:
            return "SAME"
        if self.high < 1 and self.value < below:
            return "FASTER" if quantity == "latency" else "LESS"
        if self.low > 1 and self.value > above:
            return "SLOWER" if quantity == "latency" else "MORE"
        return "UNCLEAR"


def ratio(a: Interval, b: Interval, common_error: float = 0.0) -> Ratio:
    """Return ``b / a``; the two are independent, so the widths of their intervals add in quadrature, in logarithms.

    Args:
        a: before.
        b: after.
        common_error: standard error of the logarithm of what all ratios of two runs share.

    Raises:
        DataError: one of the values is not positive.
    """
    if a.value <= 0 or b.value <= 0:
        raise DataError(f"{a.value:g} and {b.value:g} have no ratio: values must be positive")
    down = math.hypot(_log(b.value, b.low), _log(a.high, a.value), Z_95 * common_error)
    up = math.hypot(_log(b.high, b.value), _log(a.value, a.low), Z_95 * common_error)
    return _ratio(math.log(b.value / a.value), down, up)


def mean_ratio(ratios: Sequence[Ratio], common_error: float = 0.0) -> Ratio:
    """Return the geometric mean of ratios.

    Its interval is Student's t from their spread, which is each subject's own error, in quadrature with the error that
    they share.

    Args:
        ratios: at least one.
        common_error: see `ratio`.
    """
    if len(ratios) == 1:
        return ratios[0]
    from scipy.stats import t

    logs = np.log([r.value for r in ratios])
    own = float(t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    half_width = math.hypot(own, Z_95 * common_error)
    return _ratio(float(logs.mean()), half_width, half_width)


def _ratio(log: float, down: float, up: float) -> Ratio:
    return Ratio(math.exp(log), math.exp(log - down), math.exp(log + up))


def _log(larger: float, smaller: float) -> float:
    """Return the logarithm of a ratio; an interval that reaches down to zero is infinitely wide."""
    return math.log(larger / smaller) if smaller > 0 else math.inf
