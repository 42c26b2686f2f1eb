"""Units of values that others measured, and what the name of a column says of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of foreign values.

    Args:
        quantity: what is measured in it.
        name: the unit that latbench keeps that quantity in.
        factor: from the one to the other.
    """

    quantity: str
    name: str
    factor: float


UNITS = {
    **{"s": Unit("latency", "ms", 1e3), "ms": Unit("latency", "ms", 1.0)},
    **{"us": Unit("latency", "ms", 1e-3), "ns": Unit("latency", "ms", 1e-6)},
    **{"J": Unit("energy", "mJ", 1e3), "mJ": Unit("energy", "mJ", 1.0)},
    **{"uJ": Unit("energy", "mJ", 1e-3), "nJ": Unit("energy", "mJ", 1e-6)},
    **{"GiB": Unit("memory", "MiB", 2.0**10), "MiB": Unit("memory", "MiB", 1.0)},
    **{"KiB": Unit("memory", "MiB", 2.0**-10), "B": Unit("memory", "MiB", 2.0**-20)},
}
"""Units of foreign values by their names. Case does not matter."""

DEFAULT = "ms"
FASTEST, SLOWEST = 0.02, 1000.0
"""Medians outside these milliseconds are more often those of another unit than of such networks."""

_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "usecs", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"), "ns"),
    **{name.casefold(): name for name in UNITS if len(name) > 1},
}
_OTHERS = {
    "fps": "inputs a second: write 1000 / fps",
    "qps": "inputs a second: write 1000 / qps",
    "hz": "inputs a second: write 1000 / Hz",
    "kb": "kB: write B or KiB",
    "mb": "MB: write B or MiB",
    "gb": "GB: write B or GiB",
}
"""Units that no `UNITS` hold, and how to write the values instead."""


def spelling(unit: str) -> str:
    """Return how `UNITS` spells a unit: ``"\u00b5s"`` is ``"us"``.

    Raises:
        DataError: there is no such unit.
    """
    plain = _plain(unit.strip())
    for known in UNITS:
        if known.casefold() == plain:
            return known
    raise DataError(f"no unit {unit!r}: choose one of {', '.join(UNITS)}")


def of_column(column: str, unit: str | None) -> tuple[str, str]:
    """Return the unit of a column's values, as `UNITS` spells it, and a note where its name says another.

    Args:
        column: its name.
        unit: as the user gives it; None is `DEFAULT`, which the name must not contradict.

    Raises:
        DataError: the unit is unknown, or the name says another and none is given.
    """
    said = _said_by(column)
    if unit is not None:
        asked = spelling(unit)
        is_other = said is not None and said != asked
        return asked, f"column {column!r} is read as {asked}, though its name says {said}" if is_other else ""
    if said in _OTHERS:
        raise DataError(f"column {column!r} seems to hold {_OTHERS[said]}, or give --unit if it does not")
    if said is not None and said != DEFAULT:
        raise DataError(f"column {column!r} seems to be in {said}: give --unit {said}, or --unit ms if it is not")
    return DEFAULT, ""


def doubt(values_ms: Sequence[float]) -> str:
    """Return a note where values that are taken for milliseconds are hardly those of networks; otherwise nothing."""
    median = float(np.median(values_ms))
    if median < FASTEST:
        return f"half of the values are below {median:.3g} ms: give --unit s if they are seconds"
    if median > SLOWEST:
        return f"half of the values are above {median:.3g} ms: give --unit us if they are microseconds"
    return ""


def _said_by(column: str) -> str | None:
    """Return the unit that a name such as ``latency_us``, ``Latenz \u00b5s``, ``time [s]`` or ``latencyMs`` says."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]+$)", "_", column)
    for word in reversed(re.findall(r"[^\W\d_]+", apart)):
        plain = _plain(word)
        if plain in _WORDS:
            return _WORDS[plain]
        if plain in _OTHERS:
            return plain
    single = re.search(r"[(\[]\s*(s|J|B)\s*[)\]]$|_(s|J)$|\s(s|J)$", column)
    return next(filter(None, single.groups())) if single else None


def _plain(unit: str) -> str:
    return unit.casefold().replace("\N{GREEK SMALL LETTER MU}", "u")  # the micro sign folds to the letter
