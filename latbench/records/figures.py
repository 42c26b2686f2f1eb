"""How numbers are written for people."""

from __future__ import annotations

import math


def figures(value: float | None, count: int = 4) -> str:
    """Write a number in decimals with at least so many significant figures, a dash for None.

    >>> figures(0.0000123456), figures(1.23456), figures(123456.7), figures(None)
    ('0.00001235', '1.235', '123457', '-')
    """
    if value is None:
        return "-"
    if not value or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, count - 1 - math.floor(math.log10(abs(value))))}f}"
