"""``latbench import``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_json
from latbench.errors import UsageError


def run(
    table: Annotated[Path, typer.Argument(help="The .parquet, .csv or .tsv file to read, compressed or not.")],
    store: Annotated[Path, typer.Option(help="The store to write; made if missing.")],
    space: Annotated[str | None, typer.Option(help="Space of a table that latbench did not write.")] = None,
    space_option: opt.SpaceOptions = None,
    architecture: Annotated[str, typer.Option(help="Column of the architectures.")] = "subject",
    value: Annotated[str, typer.Option(help="Column of the values.")] = "value",
    unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of the values: s, ms, us or ns is latency; J, mJ, uJ or nJ energy; GiB, MiB, KiB or B memory. "
            "ms unless given."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Name of the device they were measured on.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(help="Keep the rows that have this cell, as column=cell, such as device=pixel3; repeatable."),
    ] = None,
    decimal: Annotated[
        Literal[".", ","] | None, typer.Option(help="What separates decimals, where the column does not tell.")
    ] = None,
    skip_empty: Annotated[bool, typer.Option("--skip-empty", help="Leave out rows that have no value.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Read a Parquet or CSV table into a store: one of latbench's own, or any published latency table.

    A store takes one column of values of one table; the same command adds rows that the table has gained since.
    Delimiter, encoding and decimal separator are found out. Rows that equal an earlier one are left out.

    \b
    Examples:
      latbench import runs/ort.parquet --store runs/copy.db
      latbench import nb201.parquet --space nasbench201 --architecture arch --value titan_rtx_256 --store runs/titan.db
      latbench import long.csv.gz --space nasbench201 --architecture arch --value ms --where soc=a55 --store runs/a55.db
      latbench import old.csv --space nasbench201 --architecture arch --value t --unit us --skip-empty --store runs/a.db
    """
    from latbench.tables import import_table

    said = import_table(
        table,
        store,
        space=opt.space_from(space, space_option) if space else None,
        architecture_column=architecture,
        value_column=value,
        device=device,
        unit=unit,
        where=_conditions(where or []),
        decimal=decimal,
        skip_empty=skip_empty,
    )
    if as_json:
        counts = dataclasses.asdict(said)
        print_json({"store": str(store), "rows": counts.pop("added"), **counts})
        return
    out.print(f"added {said.added} measurements to {store}, which holds {said.held} now")
    if said.already_there:
        every = "" if said.added else "all "
        out.print(f"note: {every}{said.already_there} rows of the table are there already, and stay as they were")
    if said.empty:
        out.print(f"note: {said.empty} rows of the table have no value, and are left out")
    if said.copied:
        out.print(f"note: {said.copied} rows of the table are copies of earlier ones, not repeats, and are left out")
    for note in said.notes:
        out.print(f"note: {note}")
    if said.repeated:
        out.print(f"note: {said.repeated} rows of the table repeat an architecture: they give the noise floor")


def _conditions(where: list[str]) -> dict[str, str]:
    conditions = opt.pairs(where, "--where")
    if len(conditions) < len(where):
        raise UsageError("--where names a column twice: a row has one cell there; import twice, into two stores")
    return conditions
