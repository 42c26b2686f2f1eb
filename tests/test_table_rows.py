"""Rows of tables as people have them: chosen, empty, copied, or of several devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from latbench import cli
from latbench.errors import DataError, StoreError
from latbench.records.noise_floor import noise_floor
from latbench.tables import import_table
from tests.test_tables_of_people import CELLS, SPACE, of_values, read, write


@pytest.mark.parametrize("empty", ["", " ", "nan", "NA", "None"])
def test_rows_without_a_value_are_reported_and_left_out_on_request(tmp_path: Path, empty: str) -> None:
    table = of_values(tmp_path / "t.csv", "1.5", empty, "2.5", empty)
    with pytest.raises(DataError, match=r"line 3 of .*2 of 4 rows have no value.*--skip-empty"):
        read(table)
    values, said = read(table, skip_empty=True)
    assert (values, said.empty) == ([1.5, 2.5], 2)
    with pytest.raises(DataError, match="has no value in column 'latency'"):
        read(of_values(tmp_path / "t.csv", empty), skip_empty=True)


def test_the_lines_of_what_is_left_are_those_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 5 of .*'worse'"):
        read(of_values(tmp_path / "t.csv", "1.5", "", "2.5", "worse"), skip_empty=True)


def test_rows_are_chosen_by_their_cells(tmp_path: Path) -> None:
    rows = [f"{cell},{name},{batch},{i + k + 1}" for i, cell in enumerate(CELLS[:4]) for k, (name, batch) in BOTH]
    table = write(tmp_path / "t.csv", rows, "arch,device,batch,latency")
    assert read(table, where={"device": "a", "batch": "1.0"})[0] == [1, 2, 3, 4]
    with pytest.raises(DataError, match=r"no row of .* has 'c' in column 'device': it holds a, b"):
        read(table, where={"device": "c"})
    with pytest.raises(DataError, match=r"no column 'devise': .*did you mean 'device'"):
        read(table, where={"devise": "a"})


BOTH = list(enumerate([("a", 1), ("b", 1), ("a", 256), ("b", 256)]))


def test_a_store_is_for_one_choice_of_rows(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", [f"{CELLS[0]},a,1", f"{CELLS[1]},b,2"], "arch,device,latency")
    options: dict[str, Any] = {"space": SPACE, "architecture_column": "arch", "value_column": "latency"}
    import_table(table, tmp_path / "a.db", where={"device": "a"}, **options)
    assert import_table(table, tmp_path / "a.db", where={"device": "a"}, **options).already_there == 1
    with pytest.raises(StoreError, match="where device"):
        import_table(table, tmp_path / "a.db", where={"device": "b"}, **options)


def test_the_command_chooses_rows_and_skips_empty_ones(tmp_path: Path) -> None:
    table = write(
        tmp_path / "t.csv", [f"{CELLS[0]};a b;1,5", f"{CELLS[1]};c;2", f"{CELLS[2]};a b;"], "arch;device;latency"
    )
    options = ["--space", "nasbench201", "--architecture", "arch", "--value", "latency", "--where", "device=a b"]
    command = ["import", str(table), *options, "--store", str(tmp_path / "a.db")]
    refused = CliRunner().invoke(cli.app, command)
    assert refused.exit_code == 2
    assert "--skip-empty" in refused.stderr
    twice = CliRunner().invoke(cli.app, [*command, "--where", "device=c"])
    assert "names a column twice" in twice.stderr
    done = CliRunner().invoke(cli.app, [*command, "--skip-empty"])
    assert "added 1 measurements" in done.stdout
    assert "1 rows of the table have no value" in done.stdout


# Repeats, copies, and other devices


def repeated(path: Path, second: Callable[[float], float], column: str, cells: tuple[object, object]) -> Path:
    """Write a table with every architecture twice, told apart by the cells of a column."""
    values = np.random.default_rng(0).uniform(1, 6, 30)
    rows = [f"{CELLS[i]},{cells[0]},{value:.4f}" for i, value in enumerate(values)]
    rows += [f"{CELLS[i]},{cells[1]},{second(value):.4f}" for i, value in enumerate(values)]
    return write(path, rows, f"arch,{column},latency")


def noise(size: float) -> Callable[[float], float]:
    rng = np.random.default_rng(1)
    return lambda value: float(value * np.exp(size * rng.standard_normal()))


@pytest.mark.parametrize(
    ("second", "column", "cells"),
    [
        (lambda value: 1.3 * value, "device", ("titan", "pixel3")),
        (lambda value: 1.03 * noise(0.005)(value), "device", ("titan", "pixel3")),
        (noise(0.3), "device", ("titan", "pixel3")),
        (lambda value: 7 - value, "hardware", ("titan", "pixel3")),
        (lambda value: 4 * value, "batch", (1, 8)),
        (lambda value: 1.2 * value, "threads", (1, 2)),
        (lambda value: 0.6 * value, "precision", ("fp32", "fp16")),
        (lambda value: 3 * value, "run", ("titan", "pixel3")),
    ],
)
def test_two_devices_in_one_table_are_no_repeats(
    tmp_path: Path, second: Callable[[float], float], column: str, cells: tuple[object, object]
) -> None:
    table = repeated(tmp_path / "t.csv", second, column, cells)
    with pytest.raises(DataError, match=rf"no repeats of one measurement; choose with --where {column}={cells[0]}"):
        read(table)
    values, said = read(table, where={column: str(cells[1])})
    assert (len(values), said.repeated) == (30, 0)


def test_repeats_that_differ_much_are_noted(tmp_path: Path) -> None:
    rows = [f"{cell},{(i + 1) * factor}" for factor in (1.0, 1.2) for i, cell in enumerate(CELLS[:9])]
    assert "are 20% apart" in read(write(tmp_path / "t.csv", rows))[1].notes[0]


def test_every_column_that_splits_is_named(tmp_path: Path) -> None:
    rows = [
        f"{cell},{name},{batch},{(i + 1) * (k + 1)}" for i, cell in enumerate(CELLS[:9]) for k, (name, batch) in BOTH
    ]
    table = write(tmp_path / "t.csv", rows, "arch,device,batch,latency")
    with pytest.raises(DataError, match=r"--where device=a --where batch=1$"):
        read(table)


@pytest.mark.parametrize(("column", "cells"), [("run", (1, 2)), ("session", ("mon", "tue")), ("trial", (0, 1))])
def test_repeats_that_a_column_tells_apart_are_repeats(
    tmp_path: Path, column: str, cells: tuple[object, object]
) -> None:
    values, said = read(repeated(tmp_path / "t.csv", noise(0.02), column, cells))
    assert (len(values), said.repeated) == (60, 30)
    assert f"differ in column '{column}'" in said.notes[0]


@pytest.mark.parametrize("with_index", [False, True])
def test_copied_rows_are_no_repeats(tmp_path: Path, with_index: bool) -> None:
    cells = [f"{cell},{i + 1.25}" for i, cell in enumerate(CELLS[:10])] * 2
    rows = [f"{i},{row}" for i, row in enumerate(cells)] if with_index else cells
    values, said = read(write(tmp_path / "t.csv", rows, ",arch,latency" if with_index else "arch,latency"))
    assert (len(values), said.copied, said.repeated) == (10, 10, 0)


def test_equal_pairs_are_no_floor_of_zero() -> None:
    pairs = np.repeat(np.arange(1.0, 11.0)[:, None], 2, axis=1)
    floor = noise_floor(pairs)
    assert (floor.mape, floor.pairs) == (None, 10)
    assert "10 of 10 blind duplicates are equal to the last digit" in str(floor)
    pairs[:6, 1] *= 1.01
    assert noise_floor(pairs).mape is not None
