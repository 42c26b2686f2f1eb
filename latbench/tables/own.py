"""Tables that latbench wrote: a column for each field of a measurement and of the conditions that all rows share."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from latbench.errors import DataError, LatbenchError, reason
from latbench.records.measurement import Conditions, Measurement
from latbench.records.profile import Profile
from latbench.space import SpaceSpec
from latbench.store import Identity
from latbench.tables.file import Table

_AS_JSON = ("space", "device", "options", "environment")
_NUMBERS = {"int": "int64", "int | None": "int64", "float": "double", "float | None": "double"}

TYPES = {"space": "string"} | {
    field.name: _NUMBERS.get(str(field.type), "string")
    for record in (Conditions, Measurement)
    for field in dataclasses.fields(record)
}
"""The types of columns, whatever their texts look like: a session may be named 123e4, and a clock null."""


def wrote(names: Sequence[str]) -> bool:
    """Whether columns of these names are those of a table that latbench wrote."""
    return {"space", *_names(Conditions)} <= set(names)


def rows(profile: Profile, space: SpaceSpec) -> list[dict[str, Any]]:
    """Return a profile as rows of plain values."""
    shared = {"space": dataclasses.asdict(space), **profile.conditions.to_json()}
    shared |= {name: json.dumps(value) for name, value in shared.items() if name in _AS_JSON}
    return [_row(m) | {"label": profile.value(m)} | shared for m in profile.measurements]


def read(table: Table) -> tuple[Identity, Conditions, list[Measurement]]:
    """Read what `rows` returned.

    Raises:
        DataError: the rows are of several profiles, or one is not a measurement.
    """
    names = ["space", *_names(Conditions)]
    kinds = table.kept.select(names).group_by(names).aggregate([]).to_pylist()
    if len(kinds) != 1:
        differing = next(name for name in names if len({kind[name] for kind in kinds}) > 1)
        raise DataError(
            f"{table.path} holds {len(kinds)} profiles, and a store is for one: "
            f"give --where {shlex.quote(f'{differing}={kinds[0][differing]}')}"
        )
    shared = {name: json.loads(value) if name in _AS_JSON else value for name, value in kinds[0].items()}
    space = SpaceSpec(**shared.pop("space"))
    conditions = Conditions.from_json(shared)
    identity = Identity(space, **{name: getattr(conditions, name) for name in _names(Identity) if name != "space"})
    return identity, conditions, [_measurement(row, table, index) for index, row in enumerate(table.kept.to_pylist())]


def _row(measurement: Measurement) -> dict[str, Any]:
    row = {name: getattr(measurement, name) for name in _names(Measurement)}
    return row | {
        "flags": " ".join(measurement.flags),
        "blocks": " ".join(f"{block:.6g}" for block in measurement.blocks),
        "environment": json.dumps(dict(measurement.environment)),
    }


def _measurement(row: Mapping[str, Any], table: Table, index: int) -> Measurement:
    values = {name: row[name] for name in _names(Measurement) if name in row}  # older tables have fewer columns
    try:
        return Measurement.from_json(
            {
                **values,
                "flags": row["flags"].split(),
                "blocks": map(float, row["blocks"].split()),
                "environment": json.loads(row["environment"]),
            }
        )
    except (LatbenchError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{table.row_name(index)} is not a measurement ({reason(error)}): correct or drop it, or export it again"
        ) from error


def _names(record: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(record)]
