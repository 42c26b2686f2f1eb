"""Profiles as Parquet and CSV tables: written from a store, and read into one.

Each row says everything that its measurement depends on, so a round trip loses nothing. A table of someone else
needs two columns, the architectures and the values, and the name of their space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latbench.errors import DataError
from latbench.records.measurement import Measurement
from latbench.space import SearchSpace, SpaceSpec
from latbench.store import Store
from latbench.tables import file, foreign, own


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_table` did.

    Args:
        added: rows that are new to the store.
        already_there: rows of the table that the store held before; they stay as they were.
        repeated: rows that measure an architecture again, from which the noise floor comes.
        held: measurements in the store now.
        copied: rows that equal an earlier one in every cell: they are left out, because they measure nothing again.
        empty: rows without a value, left out on request.
        notes: what a reader should know before trusting the values.
    """

    added: int
    already_there: int
    repeated: int
    held: int
    copied: int = 0
    empty: int = 0
    notes: tuple[str, ...] = ()


def export_table(store: Store, path: str | Path) -> int:
    """Write every measurement of a store's quantity, one row each, and return how many.

    The column ``label`` is what predictors are fitted to: the value with the drift between sessions divided out.

    Raises:
        DataError: the file's ending is neither .parquet nor .csv, or the file cannot be written.
        StoreError: the store is empty.
    """
    path = file.checked(Path(path))
    rows = own.rows(store.profile(), store.identity.space)
    file.write(path, rows)
    return len(rows)


def import_table(
    path: str | Path,
    store: str | Path,
    *,
    space: SearchSpace | None = None,
    architecture_column: str = "subject",
    value_column: str = "value",
    device: str = "",
    unit: str | None = None,
    where: Mapping[str, str] | None = None,
    decimal: Literal[".", ","] | None = None,
    skip_empty: bool = False,
) -> Imported:
    """Read a table into a store.

    A store takes one pair of columns of one foreign table, by its file's name. The table may have grown since it was
    read first; a value that has changed is refused.

    Args:
        path: a .parquet file, or a .csv, .tsv or .txt file, compressed or not, with any usual delimiter and encoding.
        store: the SQLite file; made if missing.
        space: what the architectures of a foreign table belong to.
        architecture_column: column of the architectures' string forms.
        value_column: column of the measured values.
        device: the device's name in the records of a foreign table; its file name unless given.
        unit: unit of the values of a foreign table (`latbench.tables.units.UNITS`); what is kept is in ms, mJ or MiB.
            None is ms, unless the column's name says another.
        where: keeps the rows with these cells, by column.
        decimal: what separates the decimals of a foreign table's numbers; None finds out.
        skip_empty: leaves out rows of a foreign table that have no value.

    Raises:
        DataError: the file is not such a table or has no rows, a column is missing, the unit is unknown, a value is
            missing, NaN, infinite, negative, zero or not the store's, or rows that repeat an architecture are
            measurements of different things (all rows are checked before any is written).
        ParseError: a text is not an architecture of the space.
        StoreError: the store belongs to another profile, or to another table, column, unit or choice of rows.
    """
    columns = foreign.Columns(architecture_column, value_column, unit, decimal, where or {})
    wanted = {architecture_column, value_column, *columns.where}
    table = file.read(
        Path(path),
        lambda names: own.wrote(names) or wanted <= set(names),
        lambda names: own.TYPES if own.wrote(names) else dict.fromkeys(names, "string"),
    ).where(columns.where)
    if not own.wrote(table.names):
        read = foreign.read(table, columns, space, device, skip_empty=skip_empty)
    elif columns != foreign.Columns("subject", "value", where=columns.where) or device or skip_empty:
        raise DataError(
            f"{path} is a table of latbench's own: "
            "leave out --architecture, --value, --device, --unit, --decimal and --skip-empty"
        )
    else:
        read = foreign.Foreign(*own.read(table), table, empty=0, copied=0, notes=())
        if space is not None and SpaceSpec.of(space) != read.identity.space:
            raise DataError(
                f"{path} is a table of {read.identity.space}, not of {SpaceSpec.of(space)}: leave out --space"
            )
    with Store(store, read.identity, quantity=read.conditions.quantity) as opened:
        before = opened.measurements()
        _check_unchanged(read.table, read.measurements, before, opened.path)
        opened.add(read.conditions, read.measurements)
        held = len(opened.measurements())
    added, repeated = held - len(before), sum(m.replicate > 0 for m in read.measurements)
    there = len(read.measurements) - added
    return Imported(added, there, repeated, held, read.copied, read.empty, read.notes)


def _check_unchanged(table: file.Table, rows: Sequence[Measurement], held: Sequence[Measurement], store: Path) -> None:
    """Check that a store's values are those of the table that it is to be extended with; references are of a session.

    Raises:
        DataError: an architecture has another value in the store, so two tables would be mixed.
    """
    known: dict[tuple[str, str, int], float]
    known = {(m.kind, m.subject, m.replicate): m.value for m in held if m.kind != "reference"}
    for index, row in enumerate(rows):
        value = known.get((row.kind, row.subject, row.replicate), row.value)
        if value != row.value:
            raise DataError(
                f"{table.row_name(index)} gives {row.value:.6g} for {row.subject}, and {store} has {value:.6g} "
                "from the table that was read into it first: choose another --store"
            )
