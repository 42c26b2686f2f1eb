"""Profiles as Parquet and CSV tables: written from a store, and read into one.

Each row says everything that its measurement depends on, so a round trip loses nothing. A table of someone else's
needs two columns, the architecture and the value, and the space they belong to.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.backend import Device
from latbench.errors import DataError
from latbench.measurement import Conditions, Measurement
from latbench.space import SearchSpace, SpaceSpec
from latbench.store import Identity, Store

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = (".parquet", ".csv")
_QUANTITIES = {"ms": "latency", "mJ": "energy"}
_AS_JSON = ("space", "device", "options", "environment")
_AS_TEXT = (
    *(*_AS_JSON, "subject", "kind", "session", "digest", "flags", "blocks", "created_at"),
    *("quantity", "unit", "clock", "cache", "backend", "precision"),
)
"""Columns that hold text whatever it looks like: a session named 123e4 is no number, a clock named null is one."""


def export_table(store: Store, path: str | Path) -> int:
    """Write every measurement of a store's quantity, one row each, and return how many.

    The column ``label`` is what predictors are fitted to: the value with the drift between sessions divided out.

    Raises:
        DataError: the file's ending is neither .parquet nor .csv, or the file cannot be written.
        StoreError: the store is empty.
    """
    import pyarrow as pa

    path = _checked(Path(path))
    profile = store.profile()
    shared = {"space": dataclasses.asdict(store.identity.space), **profile.conditions.to_json()}
    shared |= {name: json.dumps(value) for name, value in shared.items() if name in _AS_JSON}
    rows = [_row(m) | {"label": profile.value(m)} | shared for m in profile.measurements]
    table = pa.Table.from_pylist(rows)
    partial = path.with_name(path.name + ".partial")
    try:
        _write(table, partial, path.suffix)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another file") from error
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
) -> int:
    """Read a table into a store and return how many rows it added.

    Args:
        path: a .parquet or .csv file.
        store: the SQLite file; made if missing.
        space: what the architectures of a foreign table belong to.
        architecture_column: column of the architectures' string forms.
        value_column: column of the measured values.
        device: the device's name in the records of a foreign table; its file name unless given.
        unit: unit of the values of a foreign table.

    Raises:
        DataError: not such a table, a missing column, or a value that is NaN, infinite, negative or zero (all rows are
            checked before any is written).
        ParseError: a text that is no architecture of the space.
        StoreError: the store is another profile's.
    """
    path = _checked(Path(path))
    table = _read(path)
    if {"space", *_names(Conditions)} <= set(table.column_names):
        identity, conditions, measurements = _own(table, path)
    else:
        if space is None:
            raise DataError(f"{path} does not say which space its architectures belong to: give --space")
        identity = Identity(SpaceSpec.of(space), "imported", "unknown", 1, 1, "unknown", {"table": path.name})
        conditions = Conditions(
            *(_QUANTITIES.get(unit, "unknown"), unit, "unknown", "unknown", "imported"),
            *(Device(device or path.stem, "unknown"), "unknown", 1, 1, {"table": path.name}),
        )
        measurements = _foreign(table, space, architecture_column, value_column, path)
    with Store(store, identity, quantity=conditions.quantity) as opened:
        before = len(opened.measurements())
        opened.add(conditions, measurements)
        return len(opened.measurements()) - before


def _own(table: pa.Table, path: Path) -> tuple[Identity, Conditions, list[Measurement]]:
    names = ["space", *_names(Conditions)]
    kinds = table.select(names).group_by(names).aggregate([]).to_pylist()
    if len(kinds) != 1:
        raise DataError(f"{path} holds {len(kinds)} profiles: keep the rows of one, a store is for one")
    shared = {name: json.loads(value) if name in _AS_JSON else value for name, value in kinds[0].items()}
    space = SpaceSpec(**shared.pop("space"))
    conditions = Conditions.from_json(shared)
    identity = Identity(space, **{name: getattr(conditions, name) for name in _names(Identity) if name != "space"})
    return identity, conditions, [_measurement(row) for row in table.to_pylist()]


def _foreign(table: pa.Table, space: SearchSpace, architectures: str, values: str, path: Path) -> list[Measurement]:
    for column in (architectures, values):
        if column not in table.column_names:
            raise DataError(f"{path} has no column {column!r}: it has {', '.join(table.column_names)}")
    measurements: dict[str, Measurement] = {}
    pairs = zip(table[architectures].to_pylist(), table[values].to_pylist(), strict=True)
    for number, (text, value) in enumerate(pairs, start=1):
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise DataError(
                f"row {number} of {path}: {values} is {value!r}; a measured value is finite and positive: "
                "correct or drop the row"
            )
        subject = str(space.parse(str(text)))
        replicate = 0 if subject not in measurements else 1
        key = subject if replicate == 0 else f"{subject} again"
        measurements.setdefault(
            key, Measurement(subject, "architecture", value, value, value, replicate=replicate, session=path.name)
        )
    return list(measurements.values())


def _row(measurement: Measurement) -> dict[str, Any]:
    row = {name: getattr(measurement, name) for name in _names(Measurement)}
    return row | {
        "flags": " ".join(measurement.flags),
        "blocks": " ".join(f"{block:.6g}" for block in measurement.blocks),
        "environment": json.dumps(dict(measurement.environment)),
    }


def _measurement(row: Mapping[str, Any]) -> Measurement:
    values = {name: row[name] for name in _names(Measurement) if name in row}  # older tables have fewer columns
    return Measurement(
        **{
            **values,
            "flags": tuple(row["flags"].split()),
            "blocks": tuple(map(float, row["blocks"].split())),
            "environment": json.loads(row["environment"]),
        }
    )


def _names(record: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(record)]


def _write(table: pa.Table, path: Path, suffix: str) -> None:
    if suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    else:
        from pyarrow import parquet

        parquet.write_table(table, path)


def _read(path: Path) -> pa.Table:
    import pyarrow as pa

    try:
        if path.suffix == ".csv":
            from pyarrow import csv

            types = dict.fromkeys(_AS_TEXT, pa.string())
            return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))
        from pyarrow import parquet

        return parquet.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"no file {path}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no {path.suffix} table ({str(error).splitlines()[0]})") from error


def _checked(path: Path) -> Path:
    if path.suffix not in _FORMATS:
        raise DataError(f"{path} ends in neither {' nor '.join(_FORMATS)}: name it so, for example {path.stem}.parquet")
    return path
