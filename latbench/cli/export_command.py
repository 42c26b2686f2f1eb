"""``latbench export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_json


def run(
    store: Annotated[Path, typer.Argument(help="The store to read.")],
    table: Annotated[Path, typer.Argument(help="The .parquet or .csv file to write.")],
    quantity: opt.Quantity = None,
    old: opt.OldQuantity = None,
    as_json: opt.AsJson = False,
) -> None:
    """Write one quantity of a store as a Parquet or CSV table, one row a measurement.

    \b
    Examples:
      latbench export runs/ort.db runs/ort.parquet
      latbench export runs/ort.db runs/ort.csv
      latbench export runs/cuda.db runs/energy.parquet --quantity energy
    """
    from latbench.store import Store
    from latbench.tables import export_table

    with Store(store, quantity=opt.quantity_of(quantity, old)) as opened:
        rows = export_table(opened, table)
    if as_json:
        print_json({"table": str(table), "rows": rows})
    else:
        out.print(f"wrote {rows} rows to {table}")
