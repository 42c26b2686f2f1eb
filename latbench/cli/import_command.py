"""``latbench import``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_json


def run(
    table: Annotated[Path, typer.Argument(help="The .parquet or .csv file to read.")],
    store: Annotated[Path, typer.Option(help="The store to write; made if missing.")],
    space: Annotated[str | None, typer.Option(help="Space of a table that latbench did not write.")] = None,
    space_option: opt.SpaceOptions = None,
    architecture: Annotated[str, typer.Option(help="Column of the architectures.")] = "subject",
    value: Annotated[str, typer.Option(help="Column of the values.")] = "value",
    unit: Annotated[
        str,
        typer.Option(
            help="Unit of the values: s, ms, us or ns is latency; J, mJ, uJ or nJ energy; GiB, MiB, KiB or B memory."
        ),
    ] = "ms",
    device: Annotated[str, typer.Option(help="Name of the device they were measured on.")] = "",
    as_json: opt.AsJson = False,
) -> None:
    """Read a Parquet or CSV table into a store: one of latbench's own, or any published latency table.

    A store takes one column of values of one table; the same command adds rows that the table has gained since.

    \b
    Examples:
      latbench import runs/ort.parquet --store runs/copy.db
      latbench import nb201.parquet --space nasbench201 --architecture arch --value titan_rtx_256 --store runs/titan.db
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
    )
    if as_json:
        counts = dataclasses.asdict(said)
        print_json({"store": str(store), "rows": counts.pop("added"), **counts})
        return
    out.print(f"added {said.added} measurements to {store}, which holds {said.held} now")
    if said.already_there:
        every = "" if said.added else "all "
        out.print(f"note: {every}{said.already_there} rows of the table are there already, and stay as they were")
    if said.repeated:
        out.print(f"note: {said.repeated} rows of the table repeat an architecture: they give the noise floor")
