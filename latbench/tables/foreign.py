"""Tables that someone else wrote: a column of architectures, and one of what was measured."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latbench.backend import Device
from latbench.errors import DataError, ParseError
from latbench.records.measurement import Conditions, Measurement
from latbench.space import SearchSpace, SpaceSpec
from latbench.store import IMPORTED, Identity
from latbench.tables import mixtures, units
from latbench.tables.file import Table, shortened, stem
from latbench.tables.numbers import MISSING, decimal_of, number

_UNKNOWN = "unknown"
_WITH_UNIT = re.compile(r"[-+0-9.,eE]+\s*[a-zA-Z\u00b5\u03bc%]+")


@dataclass(frozen=True, slots=True)
class Columns:
    """What is read of a foreign table, and so what a store of it is for.

    Args:
        architecture: column of the architectures' string forms.
        value: column of the measured values.
        unit: their unit, spelt in any usual way; None is ms, unless the column's name says another.
        decimal: what separates their decimals, ``"."`` or ``","``; None finds out.
        where: the rows that were kept, by column.
    """

    architecture: str
    value: str
    unit: str | None = None
    decimal: str | None = None
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign table that was read.

    Args:
        identity: of its store.
        conditions: of its measurements.
        measurements: one a row.
        table: the rows that they come from.
        empty: rows that were left out because they have no value.
        copied: rows that were left out because they equal earlier ones.
        notes: what a reader should know before trusting the values.
    """

    identity: Identity
    conditions: Conditions
    measurements: list[Measurement]
    table: Table
    empty: int
    copied: int
    notes: tuple[str, ...]


def read(table: Table, columns: Columns, space: SearchSpace | None, device: str, *, skip_empty: bool) -> Foreign:
    """Read a foreign table; each row is a measurement, and an architecture's second row its first replicate.

    Args:
        table: the rows that were asked for.
        columns: its columns.
        space: of the architectures.
        device: what they were measured on; the table's name unless given.
        skip_empty: whether rows without a value are left out.

    Raises:
        DataError: the space or a column is missing, the unit is unknown, a value cannot have been measured, or the rows
            are measurements of different things.
        ParseError: a text is not an architecture of the space.
    """
    path = table.path
    if space is None:
        raise DataError(f"{path} does not say which space its architectures belong to: give --space")
    for name in (columns.architecture, columns.value):
        table.check_column(name)
    _check_decimals_are_one_column(table, columns.value)
    asked, note = units.of_column(columns.value, columns.unit)
    unit = units.UNITS[asked]
    table, values, empty = _values(table, columns, unit.factor, skip_empty=skip_empty)
    subjects = _subjects(table, columns.architecture, space)
    table, rows, copied = _without_copies(table, columns, subjects, values)
    notes = [note, _check_sizes(rows.values, table, columns), *_check_repeats(rows, table)]
    if columns.unit is None:
        notes.append(units.doubt(rows.values))
    if table.text is not None and not table.text.encoding.startswith("utf"):
        notes.append(f"{path} is not UTF-8, and is read as Latin-1 (Windows-1252)")
    # No digest of the table: one that has grown since is the same table.
    options = {"table": path.name, "architecture": columns.architecture, "value": columns.value, "unit": asked}
    options |= {f"where {name}": wanted for name, wanted in columns.where.items()}
    identity = Identity(SpaceSpec.of(space), IMPORTED, _UNKNOWN, 1, 1, _UNKNOWN, options)
    conditions = Conditions(
        *(unit.quantity, unit.name, _UNKNOWN, _UNKNOWN, IMPORTED),
        *(Device(device or stem(path), _UNKNOWN), _UNKNOWN, 1, 1, options),
    )
    measurements = _measurements(rows, path.name)
    return Foreign(identity, conditions, measurements, table, empty, copied, tuple(filter(None, notes)))


def _measurements(rows: mixtures.Rows, session: str) -> list[Measurement]:
    times: Counter[str] = Counter()
    measurements = []
    for subject, value in zip(rows.subjects, rows.values, strict=True):
        replicate = times[subject]
        measurements.append(
            Measurement(subject, "architecture", value, value, value, replicate=replicate, session=session)
        )
        times[subject] += 1
    return measurements


def _values(table: Table, columns: Columns, factor: float, *, skip_empty: bool) -> tuple[Table, list[float], int]:
    """Return the rows that have a value, their values, and how many have none."""
    import pyarrow as pa

    column, name = table.column(columns.value), columns.value
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_number or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(f"column {name!r} of {table.path} holds {kind}: write it as numbers")
    cells = column.to_pylist()
    missing = [index for index, cell in enumerate(cells) if _is_missing(cell)]
    if missing and not skip_empty:
        given = "is empty" if not str(cells[missing[0]] or "").strip() else f"is {cells[missing[0]]!r}"
        raise DataError(
            f"{table.row_name(missing[0])}: {name} {given} ({len(missing)} of {len(cells)} rows have no value): "
            "fill in what was measured, or leave such rows out with --skip-empty"
        )
    if len(missing) == len(cells):
        raise DataError(f"{table.path} has no value in column {name!r}: give another --value")
    left_out = set(missing)
    table, cells = table.without(left_out), [cell for index, cell in enumerate(cells) if index not in left_out]
    texts = [cell for cell in cells if isinstance(cell, str)]
    decimal = columns.decimal or decimal_of(texts, name)
    values = []
    for index, cell in enumerate(cells):
        value = (number(cell, decimal) if isinstance(cell, str) else float(cell)) * factor
        if not math.isfinite(value) or value <= 0:
            raise DataError(f"{table.row_name(index)}: {name} is {shortened(repr(cell))}; {_remedy(str(cell), name)}")
        values.append(value)
    return table, values, len(missing)


def _check_decimals_are_one_column(table: Table, name: str) -> None:
    """Refuse a column whose decimals lie in the nameless one beside it, cut off at a decimal comma.

    Raises:
        DataError: the next column has no name and holds digits alone.
    """
    at = table.names.index(name) + 1
    if at < len(table.names) and not table.names[at]:
        cells = [cell for cell in table.kept.column(at).cast("string").to_pylist() if cell and cell.strip()]
        if cells and all(cell.strip().isdigit() for cell in cells):
            raise DataError(
                f"{table.path}: the column after {name!r} has no name and holds digits, such as {cells[0]!r}: "
                "name it, or write decimal points if these are decimals"
            )


def _remedy(cell: str, column: str) -> str:
    if cell.strip() == column:
        return "this repeats the line of names, as where two tables were joined: drop it"
    if "\u00b1" in cell or "+/-" in cell or "+-" in cell:
        return "give the value alone, without its error"
    if "[" in cell or "(" in cell:
        return "give one number"
    if _WITH_UNIT.fullmatch(cell.strip()):
        return "give numbers alone, and their unit with --unit"
    return "a measured value is finite and positive: correct or drop the row"


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip().casefold() in MISSING
    return cell is None or math.isnan(cell)


def _subjects(table: Table, column: str, space: SearchSpace) -> list[str]:
    subjects = []
    for index, text in enumerate(table.texts(column)):
        try:
            subjects.append(str(space.parse(text)))
        except ParseError as error:
            raise ParseError(f"{table.row_name(index)}: {error}") from error
    return subjects


def _without_copies(
    table: Table, columns: Columns, subjects: Sequence[str], values: Sequence[float]
) -> tuple[Table, mixtures.Rows, int]:
    """Return the rows that are no copies; where all architectures differ, none is one, and no other column matters."""
    if len(set(subjects)) == len(subjects):
        return table, mixtures.Rows(subjects, values, {}), 0
    others = table.other_texts(columns.architecture, columns.value)
    for name in mixtures.row_numbers(table.all_rows.other_texts(columns.architecture, columns.value)):
        del others[name]
    copied = mixtures.copies(mixtures.Rows(subjects, values, others))
    kept = [index for index in range(len(subjects)) if index not in copied]
    rows = mixtures.Rows(
        [subjects[index] for index in kept],
        [values[index] for index in kept],
        {name: [cells[index] for index in kept] for name, cells in others.items()},
    )
    return table.without(copied), rows, len(copied)


def _check_sizes(values: Sequence[float], table: Table, columns: Columns) -> str:
    """Return what is odd about the sizes of values; raise if they are in two units."""
    sizes = mixtures.two_sizes(values)
    if sizes is None:
        return ""
    said = (
        f"{sizes.smaller} values of {table.path} are at most {sizes.below:.4g} and {sizes.larger} at least "
        f"{sizes.above:.4g}, with none between"
    )
    if sizes.are_units:
        raise DataError(
            f"{said}, about {sizes.ratio:,.0f} times as much: column {columns.value!r} seems to be in two units; "
            "write it in one, or choose rows with --where"
        )
    return f"{said}: check that all are of one unit and none stands for a failure"


def _check_repeats(rows: mixtures.Rows, table: Table) -> list[str]:
    """Return what is odd about repeated architectures; raise if their rows are of different things."""
    splits = mixtures.splits(rows)
    if mixed := [split for split in splits if split.is_mixture]:
        columns = " and ".join(f"{split.column!r} ({_some(split.levels)})" for split in mixed)
        raise DataError(
            f"{table.path} holds an architecture more than once, with values {mixed[0].difference:.0%} apart that "
            f"differ in column {columns}: these are no repeats of one measurement; choose with "
            f"{mixtures.where_flags(mixed)}"
        )
    notes = [
        f"rows that repeat an architecture differ in column {split.column!r} ({_some(split.levels)}): "
        "they count as repeats of one measurement"
        for split in splits
    ]
    if (apart := mixtures.disagreement(rows)) > mixtures.NOTED:
        notes.append(f"rows that repeat an architecture are {apart:.0%} apart: check that they repeat one measurement")
    return notes


def _some(levels: Sequence[str]) -> str:
    shown = ", ".join(level or "''" for level in levels[:4])
    return shown if len(levels) <= 4 else f"{shown} and {len(levels) - 4} more"
