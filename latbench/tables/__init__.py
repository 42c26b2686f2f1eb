"""Profiles as Parquet and CSV tables: written from a store, and read into one.

Each row says everything that its measurement depends on, so a round trip loses nothing. A table of someone else
needs two columns, the architectures and the values, and the name of their space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """

    added: int
    already_there: int
    repeated: int
    held: int


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
    unit: str = "ms",
) -> Imported:
    """Read a table into a store.

    A store takes one pair of columns of one foreign table, by its file's name. The table may have grown since it was
    read first; a value that has changed is refused.

    Args:
        path: a .parquet or .csv file.
        store: the SQLite file; made if missing.
        space: what the architectures of a foreign table belong to.
        architecture_column: column of the architectures' string forms.
        value_column: column of the measured values.
        device: the device's name in the records of a foreign table; its file name unless given.
        unit: unit of the values of a foreign table (`latbench.tables.foreign.UNITS`); what is kept is in ms, mJ or MiB.

    Raises:
        DataError: the file is not such a table or has no rows, a column is missing, the unit is unknown, or a value is
            NaN, infinite, negative, zero or not the store's (all rows are checked before any is written).
        ParseError: a text is not an architecture of the space.
        StoreError: the store belongs to another profile, or to another table, column or unit.
    """
    path = file.checked(Path(path))
    table = file.read(path, lambda names: own.TYPES if own.wrote(names) else {architecture_column: "string"})
    if not own.wrote(table.column_names):
        columns = foreign.Columns(architecture_column, value_column, unit)
        identity, conditions, measurements = foreign.read(table, path, columns, space, device)
    elif (architecture_column, value_column, device, unit) != ("subject", "value", "", "ms"):
        raise DataError(f"{path} is a table of latbench's own: leave out --architecture, --value, --device and --unit")
    else:
        identity, conditions, measurements = own.read(table, path)
        if space is not None and SpaceSpec.of(space) != identity.space:
            raise DataError(f"{path} is a table of {identity.space}, not of {SpaceSpec.of(space)}: leave out --space")
    with Store(store, identity, quantity=conditions.quantity) as opened:
        before = opened.measurements()
        _check_unchanged(path, measurements, before, opened.path)
        opened.add(conditions, measurements)
        held = len(opened.measurements())
    added = held - len(before)
    return Imported(added, len(measurements) - added, sum(m.replicate > 0 for m in measurements), held)


def _check_unchanged(path: Path, rows: Sequence[Measurement], held: Sequence[Measurement], store: Path) -> None:
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
                f"{file.row_name(path, index)} gives {row.value:.6g} for {row.subject}, and {store} has {value:.6g} "
                "from the table that was read into it first: choose another --store"
            )
