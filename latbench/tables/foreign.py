"""Tables that someone else wrote: a column of architectures, and one of what was measured."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.backend import Device
from latbench.errors import DataError, ParseError
from latbench.records.measurement import Conditions, Measurement
from latbench.space import SearchSpace, SpaceSpec
from latbench.store import IMPORTED, Identity
from latbench.tables.file import row_name

if TYPE_CHECKING:
    import pyarrow as pa

UNITS = {
    **{"s": ("latency", "ms", 1e3), "ms": ("latency", "ms", 1.0)},
    **{"us": ("latency", "ms", 1e-3), "ns": ("latency", "ms", 1e-6)},
    **{"J": ("energy", "mJ", 1e3), "mJ": ("energy", "mJ", 1.0)},
    **{"uJ": ("energy", "mJ", 1e-3), "nJ": ("energy", "mJ", 1e-6)},
    **{"GiB": ("memory", "MiB", 2.0**10), "MiB": ("memory", "MiB", 1.0)},
    **{"KiB": ("memory", "MiB", 2.0**-10), "B": ("memory", "MiB", 2.0**-20)},
}
"""Units of foreign values: the quantity, its own unit, and the factor to that. Case does not matter."""

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of a foreign table, and so what a store of it is for.

    Args:
        architecture: column of the architectures' string forms.
        value: column of the measured values.
        unit: their unit, spelt in any usual way.
    """

    architecture: str
    value: str
    unit: str


def read(
    table: pa.Table, path: Path, columns: Columns, space: SearchSpace | None, device: str
) -> tuple[Identity, Conditions, list[Measurement]]:
    """Read a foreign table; each row is a measurement, and an architecture's second row its first replicate.

    Raises:
        DataError: the space or a column is missing, the unit is unknown, or a value cannot have been measured.
        ParseError: a text is not an architecture of the space.
    """
    if space is None:
        raise DataError(f"{path} does not say which space its architectures belong to: give --space")
    columns = dataclasses.replace(columns, unit=_spelling(columns.unit))
    quantity, unit, factor = UNITS[columns.unit]
    # No digest of the table: one that has grown since is the same table.
    options = {"table": path.name, **dataclasses.asdict(columns)}
    identity = Identity(SpaceSpec.of(space), IMPORTED, _UNKNOWN, 1, 1, _UNKNOWN, options)
    conditions = Conditions(
        *(quantity, unit, _UNKNOWN, _UNKNOWN, IMPORTED),
        *(Device(device or path.stem, _UNKNOWN), _UNKNOWN, 1, 1, options),
    )
    return identity, conditions, _measurements(table, path, columns, space, factor)


def _measurements(
    table: pa.Table, path: Path, columns: Columns, space: SearchSpace, factor: float
) -> list[Measurement]:
    rows = zip(*(_column(table, path, name) for name in (columns.architecture, columns.value)), strict=True)
    times: Counter[str] = Counter()
    measurements = []
    for index, (text, given) in enumerate(rows):
        value = _number(given) * factor
        if not math.isfinite(value) or value <= 0:
            raise DataError(
                f"{row_name(path, index)}: {columns.value} {'is not a number' if given is None else f'is {given!r}'}; "
                "a measured value is finite and positive: correct or drop the row"
            )
        try:
            subject = str(space.parse(str(text)))
        except ParseError as error:
            raise ParseError(f"{row_name(path, index)}: {error}") from error
        measurements.append(
            Measurement(subject, "architecture", value, value, value, replicate=times[subject], session=path.name)
        )
        times[subject] += 1
    return measurements


def _column(table: pa.Table, path: Path, name: str) -> list[Any]:
    found = table.column_names.count(name)
    if not found:
        raise DataError(f"{path} has no column {name!r}: it has {', '.join(table.column_names)}")
    if found > 1:
        raise DataError(f"{path} has {found} columns {name!r}: give each a name of its own")
    values: list[Any] = table[name].to_pylist()
    return values


def _spelling(unit: str) -> str:
    """Return how `UNITS` spells a unit: ``"µs"`` is ``"us"``."""
    plain = unit.strip().casefold().replace("\N{GREEK SMALL LETTER MU}", "u")  # the micro sign folds to the letter
    for known in UNITS:
        if known.casefold() == plain:
            return known
    raise DataError(f"no unit {unit!r}: choose one of {', '.join(UNITS)}")


def _number(value: Any) -> float:
    """Return a value as a number, NaN if it is not one: a single text makes a whole column of a CSV file text."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
