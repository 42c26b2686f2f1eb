"""Tables of others: what a store takes of them, what it refuses, and where the mistake is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from latbench import cli
from latbench.errors import DataError, LatbenchError, ParseError, StoreError
from latbench.records.noise_floor import noise_floor
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.tables import Imported, export_table, import_table

SPACE = NasBench201Space()
CELLS = [str(cell) for cell in SPACE.sample(12, seed=0)]


def read(table: Path, store: Path, value: str = "ms", **options: Any) -> Imported:
    options = {"space": SPACE, "architecture_column": "arch", **options}
    return import_table(table, store, value_column=value, **options)


def write(path: Path, *rows: object, head: str = "arch,ms") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (head, *rows)))
    return path


def values(store: Path) -> list[float]:
    with Store(store) as opened:
        return [m.value for m in opened.measurements()]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = (f"{cell},{cell},{i + 1},{i + 101}" for i, cell in enumerate(CELLS[:5]))
    return write(tmp_path / "small.csv", *rows, head="arch,same,ms,other")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"value": "other"}, r"another options\.value \(ms there, other here\)"),
        ({"architecture_column": "same"}, r"another options\.architecture \(arch there, same here\)"),
        ({"unit": "s"}, r"another options\.unit \(ms there, s here\)"),
        ({"space": NasBench201Space(cells=1)}, "another space"),
        ({"device": "other"}, r"device\.name"),
    ],
)
def test_a_store_is_for_one_column_of_one_table(table: Path, store: Path, options: dict[str, Any], named: str) -> None:
    read(table, store)
    with pytest.raises(StoreError, match=named):
        read(table, store, **options)
    assert values(store) == [1, 2, 3, 4, 5]


def test_a_table_that_has_grown_adds_its_new_rows(tmp_path: Path, store: Path) -> None:
    rows = [f"{cell},{i + 1}" for i, cell in enumerate(CELLS)]
    table = write(tmp_path / "t.csv", *rows[:4])
    assert read(table, store) == Imported(added=4, already_there=0, repeated=0, held=4)
    write(table, *reversed(rows))
    assert read(table, store) == Imported(added=8, already_there=4, repeated=0, held=12)
    assert sorted(values(store)) == list(range(1, 13))


def test_a_value_that_has_changed_is_refused(tmp_path: Path, store: Path) -> None:
    read(write(tmp_path / "one" / "t.csv", f"{CELLS[0]},1", f"{CELLS[1]},2"), store)
    other = write(tmp_path / "two" / "t.csv", f"{CELLS[2]},3", f"{CELLS[1]},4")
    with pytest.raises(DataError, match=r"line 3 of .* gives 4 for .* has 2 .*another --store"):
        read(other, store)
    assert values(store) == [1, 2]


def test_the_command_says_why_it_added_nothing(table: Path, store: Path) -> None:
    options = ["--space", "nasbench201", "--architecture", "arch", "--value", "ms", "--store", str(store)]
    assert CliRunner().invoke(cli.app, ["import", str(table), *options]).exit_code == 0
    again = CliRunner().invoke(cli.app, ["import", str(table), *options]).stdout
    assert "added 0 measurements" in again
    assert "all 5 rows of the table are there already" in again
    said = json.loads(CliRunner().invoke(cli.app, ["import", str(table), *options, "--json"]).stdout)
    counts = {"rows": 0, "already_there": 5, "repeated": 0, "held": 5, "copied": 0, "empty": 0}
    assert said == {"store": str(store), **counts, "notes": []}


def test_the_command_takes_a_store_of_any_name(table: Path, tmp_path: Path) -> None:
    store = tmp_path / "a[" / "b].db"
    options = ["--space", "nasbench201", "--architecture", "arch", "--value", "ms", "--store", str(store)]
    for _ in range(2):
        result = CliRunner().invoke(cli.app, ["import", str(table), *options])
        assert (result.exit_code, result.exception) == (0, None)
        assert "b].db" in result.stdout


def test_every_repeated_measurement_is_kept_and_tells_the_noise_floor(tmp_path: Path, store: Path) -> None:
    rows = [f"{cell},{base + 0.01 * time}" for base, cell in enumerate(CELLS[:3], start=1) for time in range(4)]
    assert read(write(tmp_path / "t.csv", *rows), store) == Imported(added=12, already_there=0, repeated=9, held=12)
    with Store(store) as opened:
        profile = opened.profile()
    assert profile.y.tolist() == [1, 2, 3]
    assert profile.duplicates[:3].tolist() == [[1, 1.01], [1, 1.02], [1, 1.03]]
    assert noise_floor(profile.duplicates).pairs == 9


@pytest.mark.parametrize(
    ("unit", "quantity", "kept"),
    [
        *(("ms", "latency", 2.0), ("MS", "latency", 2.0), ("s", "latency", 2000.0), ("ns", "latency", 2e-6)),
        *(("us", "latency", 2e-3), ("\N{MICRO SIGN}s", "latency", 2e-3)),
        *(("\N{GREEK SMALL LETTER MU}s", "latency", 2e-3), ("mj", "energy", 2.0), ("J", "energy", 2000.0)),
        *(("uj", "energy", 2e-3), ("nJ", "energy", 2e-6)),
    ],
)
def test_usual_units_are_kept_as_milliseconds_and_millijoules(
    tmp_path: Path, store: Path, unit: str, quantity: str, kept: float
) -> None:
    read(write(tmp_path / "t.csv", f"{CELLS[0]},2"), store, unit=unit)
    with Store(store, quantity=quantity) as opened:
        assert opened.profile().conditions.unit == {"latency": "ms", "energy": "mJ"}[quantity]
        assert opened.profile().y == pytest.approx([kept])


def test_another_spelling_of_a_unit_is_the_same_unit(table: Path, store: Path) -> None:
    read(table, store, unit="us")
    assert read(table, store, unit="\N{MICRO SIGN}S").already_there == 5


def test_an_unknown_unit_is_refused_with_the_choices(table: Path, store: Path) -> None:
    with pytest.raises(DataError, match=r"no unit 'minutes': choose one of s, ms, .*mJ"):
        read(table, store, unit="minutes")
    assert not store.exists()


def test_no_meter_is_recommended_for_a_table_of_others(table: Path, store: Path) -> None:
    read(table, store)
    with Store(store, quantity="energy") as opened, pytest.raises(StoreError) as refused:
        opened.profile()
    assert "holds latency and no energy: leave out --quantity" in str(refused.value)
    assert "profile" not in str(refused.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_without_rows_is_refused_and_leaves_no_store(tmp_path: Path, store: Path, suffix: str) -> None:
    table = tmp_path / f"t.{suffix}"
    write(table)
    if suffix == "parquet":
        parquet.write_table(pa.table({"arch": pa.array([], pa.string()), "ms": pa.array([], pa.float64())}), table)
    with pytest.raises(DataError, match="has column names but no rows"):
        read(table, store)
    assert not store.exists()


BAD_VALUES = ["nan", "-1", "0", "inf", "", "1.5 ms", "true"]


@pytest.mark.parametrize("bad", BAD_VALUES)
def test_a_value_that_is_none_is_named_by_its_line(tmp_path: Path, store: Path, bad: str) -> None:
    """Empty lines and line breaks in quotes count, as they do in an editor; the first row is good."""
    rows = [f'{CELLS[0]},1.0,"a\nb"', "", f"{CELLS[1]},{bad},c", f"{CELLS[2]},worse,d"]
    if bad == "true":  # else the column is not of truth values
        rows = ["", "", f"{CELLS[1]},true,c", f"{CELLS[2]},false,d"]
    table = write(tmp_path / "t.csv", *rows, head="arch,ms,note")
    with pytest.raises(DataError, match=f"line {4 if bad == 'true' else 5} of .*: ms"):
        read(table, store)
    assert not store.exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 0.0, None])
def test_a_value_that_is_none_is_named_by_its_row_in_a_parquet_file(tmp_path: Path, store: Path, bad: float) -> None:
    table = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"arch": CELLS[:3], "ms": [1.0, bad, 2.0]}), table)
    with pytest.raises(DataError, match=r"row 2 of .*: ms"):
        read(table, store)
    assert not store.exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_text_that_is_no_architecture_is_named_by_its_place(tmp_path: Path, store: Path, suffix: str) -> None:
    table = write(tmp_path / "t.csv", f"{CELLS[0]},1", "7,2")
    if suffix == "parquet":
        table = tmp_path / "t.parquet"
        parquet.write_table(pa.table({"arch": [CELLS[0], "7"], "ms": [1.0, 2.0]}), table)
    with pytest.raises(ParseError, match=rf"{'line 3' if suffix == 'csv' else 'row 2'} of .*'7'"):
        read(table, store)
    assert not store.exists()


def test_a_row_with_too_few_columns_is_named(tmp_path: Path, store: Path) -> None:
    with pytest.raises(DataError, match=r"line 3 of .* does not fit its columns \(Expected 2 columns, got 1"):
        read(write(tmp_path / "t.csv", f"{CELLS[0]},1", CELLS[1]), store)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(DataError, match="2 columns 'ms'"):
        read(write(tmp_path / "t.csv", f"{CELLS[0]},1,2", head="arch,ms,ms"), store)


# Tables of latbench's own


@pytest.fixture
def exported(table: Path, tmp_path: Path) -> Path:
    read(table, tmp_path / "exported.db")
    path = tmp_path / "exported.csv"
    with Store(tmp_path / "exported.db") as opened:
        export_table(opened, path)
    return path


def test_what_was_imported_goes_out_and_comes_back_and_grows(exported: Path, table: Path, store: Path) -> None:
    assert import_table(exported, store).added == 5
    assert read(table, store).already_there == 5


def test_another_run_of_the_same_profile_is_refused(exported: Path, store: Path) -> None:
    import_table(exported, store)
    exported.write_text(exported.read_text().replace(",5,5,5,", ",5.5,5.5,5.5,"))
    with pytest.raises(DataError, match=r"line 6 of .* gives 5\.5 for .* has 5 from the table that was read into it"):
        import_table(exported, store)
    assert values(store) == [1, 2, 3, 4, 5]


def test_a_column_cannot_be_chosen_where_every_column_has_its_meaning(exported: Path, store: Path) -> None:
    with pytest.raises(DataError, match="latbench's own: leave out"):
        import_table(exported, store, value_column="low")
    with pytest.raises(DataError, match=r"a table of nasbench201\(.*\), not of nasbench201\(.*\): leave out --space"):
        import_table(exported, store, space=NasBench201Space(cells=1))


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [(",5,5,5,", ",abc,5,5,", "line 6.*'abc'"), (",5,5,5,", ",,5,5,", "line 6"), (",5,5,5,", ",5,6,7,", "line 6")],
)
def test_a_row_that_was_broken_by_hand_is_named(exported: Path, store: Path, good: str, bad: str, named: str) -> None:
    text = exported.read_text()
    assert text.count(good) == 1
    exported.write_text(text.replace(good, bad))
    with pytest.raises(LatbenchError, match=named):
        import_table(exported, store)
    assert not store.exists()
