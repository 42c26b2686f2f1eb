"""Tables as people have them: any delimiter, encoding, compression and decimal, read right or refused in words."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from latbench.errors import DataError
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store
from latbench.tables import Imported, import_table

SPACE = NasBench201Space()
CELLS = [str(cell) for cell in SPACE.sample(40, seed=0)]


def read(table: Path, value: str = "latency", **options: Any) -> tuple[list[float], Imported]:
    """Read a table into a store of its own; return its values and what was done."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "a.db"
        said = import_table(table, store, space=SPACE, architecture_column="arch", value_column=value, **options)
        with Store(store) as opened:
            return [m.value for m in opened.measurements()], said


def write(path: Path, rows: list[str], head: str = "arch,latency", encoding: str = "utf-8") -> Path:
    path.write_bytes("".join(f"{line}\n" for line in (head, *rows)).encode(encoding))
    return path


def of_values(path: Path, *cells: str, delimiter: str = ";") -> Path:
    """Write a table with one architecture a cell."""
    return write(path, [f"{CELLS[i]}{delimiter}{cell}" for i, cell in enumerate(cells)], f"arch{delimiter}latency")


def zipped(data: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("inner.csv", data)
    return content.getvalue()


def zstd(data: bytes) -> bytes:
    content = pa.BufferOutputStream()
    with pa.CompressedOutputStream(content, "zstd") as stream:
        stream.write(data)
    return bytes(content.getvalue())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    **{"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress},
    **{".zst": zstd, ".zip": zipped},
}
ENCODED: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16-be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-16-le without a mark": lambda text: text.encode("utf-16-le"),
    "utf-32": lambda text: text.encode("utf-32"),
    "latin-1": lambda text: text.encode("latin-1"),
}


@dataclass(frozen=True)
class Form:
    """How a table is written."""

    digits: int
    thousands: str
    delimiter: str
    decimal: str
    encoded: str
    packed: str
    ends: str
    preamble: str
    is_named: bool


FORMS = st.builds(
    Form,
    digits=st.integers(4, 8),
    thousands=st.sampled_from(["", "'", " ", "other"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from([".", ","]),
    encoded=st.sampled_from(sorted(ENCODED)),
    packed=st.sampled_from(sorted(PACKED)),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    preamble=st.sampled_from(["", "# measured on device \u00e9\n", "\n"]),
    is_named=st.booleans(),
)


@given(values=st.lists(st.floats(10, 1900), min_size=1, max_size=8), form=FORMS)
def test_however_numbers_are_written_the_same_ones_are_read(values: list[float], form: Form) -> None:
    separator = {".": ",", ",": "."}[form.decimal] if form.thousands == "other" else form.thousands
    swapped = {",": separator, ".": form.decimal}
    texts = ["".join(swapped.get(c, c) for c in f"{value:,.{form.digits}f}") for value in values]
    content = io.StringIO(newline="")
    rows = csv.writer(content, delimiter=form.delimiter, lineterminator=form.ends)
    rows.writerows([["note", "arch", "latency"], *(["\u00fc", *row] for row in zip(CELLS, texts, strict=False))])
    data = ENCODED[form.encoded](form.preamble.replace("\n", form.ends) + content.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / f"t.csv{form.packed if form.is_named else ''}"
        table.write_bytes(PACKED[form.packed](data))
        assert read(table)[0] == [float(f"{value:.{form.digits}f}") for value in values]


# Encodings and compression


def test_text_that_is_not_utf_8_is_read_and_said(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", [f"{CELLS[0]},4184.8"], "arch,Latenz \u00b5s", encoding="latin-1")
    values, said = read(table, "Latenz \u00b5s", unit="us")
    assert values == pytest.approx([4.1848])
    assert "not UTF-8, and is read as Latin-1" in " ".join(said.notes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"arch,latency\n" * 99)[:-20], "compressed and damaged"),
        (lzma.compress(b"arch,latency\n" * 99)[:-20], "compressed and damaged"),
        (zipped(b"")[:-8], "compressed and damaged"),
        (b"PAR1\x00\x00", "Parquet file: name it .parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet: save it as CSV"),
        (codecs.BOM_UTF16_LE + b"a\x00b", "not UTF-16 text"),
        (bytes(range(1, 30)) * 4, "not text"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"arch,latency", "no rows"),
    ],
    # Compressed bytes hold the time, and every process must give a test the same name.
    ids=["gzip", "xz", "zip", "parquet", "spreadsheet", "utf-16", "binary", "nothing", "spaces", "head"],
)
def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv")


def test_an_archive_of_several_files_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("a.csv", "")
        archive.writestr("b.csv", "")
    with pytest.raises(DataError, match="holds 2 files: unpack it"):
        read(tmp_path / "t.csv.zip")
    with pytest.raises(DataError, match=r"t\.jsonl ends in neither"):
        read(write(tmp_path / "t.jsonl", []))


@pytest.mark.parametrize("name", ["T.CSV", "t.tsv", "t.txt", "T.Csv.GZ"])
def test_endings_are_read_in_any_case(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, [f"{CELLS[0]}\t1.5"], "arch\tlatency"))[0] == [1.5]


# Lines above the values


@pytest.mark.parametrize("above", ["# a comment, with commas\n# and another\n", "sep=;\n", "\n\n"])
def test_lines_count_from_the_top_of_the_file(tmp_path: Path, above: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"{above}arch;latency\n{CELLS[0]};1.5\n\n{CELLS[1]};worse\n")
    with pytest.raises(DataError, match=f"line {4 + above.count(chr(10))} of .*'worse'"):
        read(table)
    table.write_text(f"{above}#arch;latency\n{CELLS[0]};1.5\n")
    assert read(table)[0] == [1.5]


def test_a_table_without_a_line_of_names_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no line of names"):
        read(write(tmp_path / "t.csv", [f"{CELLS[1]},2.5"], f"{CELLS[0]},1.5"))
    with pytest.raises(DataError, match=r"no column 'latency'.*did you mean 'Latency'"):
        read(write(tmp_path / "t.csv", [f"{CELLS[1]},2.5"], "arch,Latency"))


def test_blanks_around_names_and_cells_do_not_count(tmp_path: Path) -> None:
    assert read(write(tmp_path / "t.csv", [f" {CELLS[0]} , 1.5 ,"], "arch , latency,"))[0] == [1.5]


# Numbers


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (("4,1848", "950"), (4.1848, 950)),
        (("4.184", "0.95"), (4.184, 0.95)),
        (("4.184", "950,25"), (4184, 950.25)),
        (("4,184", "950.25"), (4184, 950.25)),
        (("4,184", "0,950"), (4.184, 0.95)),
        (("4,184", "12345,678"), (4.184, 12345.678)),
        (("1'234.5", "4\u00a0184.5"), (1234.5, 4184.5)),
        (("1.234.567", "4.184"), (1234567, 4184)),
        (("4,184e-3", "1,5E+2"), (4.184e-3, 150)),
        (("1_000", "+2.5", "3."), (1000, 2.5, 3)),
    ],
)
def test_a_column_shows_what_separates_its_decimals(
    tmp_path: Path, cells: tuple[str, ...], numbers: tuple[float, ...]
) -> None:
    assert read(of_values(tmp_path / "t.csv", *cells), unit="ms")[0] == pytest.approx(numbers)


def test_a_column_that_does_not_show_it_is_not_guessed_at(tmp_path: Path) -> None:
    table = of_values(tmp_path / "t.csv", "4,184", "2,349")
    with pytest.raises(DataError, match=r"does not tell whether '4,184' .*--decimal"):
        read(table)
    assert read(table, decimal=",")[0] == [4.184, 2.349]
    assert read(table, decimal=".")[0] == [4184, 2349]
    with pytest.raises(DataError, match=r"decimal points \('1\.5'\) and decimal commas \('2,5'\)"):
        read(of_values(tmp_path / "t.csv", "1.5", "2,5"))


@pytest.mark.parametrize("cells", [("4.184", "950"), ("1,204", "950"), ("1.204", "12", "2.300")])
def test_separated_thousands_are_not_taken_for_decimals(tmp_path: Path, cells: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="more than a thousand or has three decimals"):
        read(of_values(tmp_path / "t.csv", *cells))


def test_decimals_that_a_comma_cuts_off_are_not_lost(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", [f"{CELLS[0]},4,1848", f"{CELLS[1]},2,3489"], "arch,latency,")
    with pytest.raises(DataError, match="column after 'latency' has no name and holds digits, such as '1848'"):
        read(table)


@pytest.mark.parametrize(
    ("cell", "remedy"),
    [
        ("4.18\u00b10.08", "without its error"),
        ("4.18 +/- 0.08", "without its error"),
        ("4.18 ms", "unit with --unit"),
        ("4.18ms", "unit with --unit"),
        ("[4.18, 4.19]", "give one number"),
        ("latency", "repeats the line of names"),
        ("1,23.4", "correct or drop"),
        ("1_00", "correct or drop"),
        ("-1", "correct or drop"),
        ("inf", "correct or drop"),
        ("timeout", "correct or drop"),
    ],
)
def test_a_cell_that_is_no_number_is_refused_with_its_own_remedy(tmp_path: Path, cell: str, remedy: str) -> None:
    with pytest.raises(DataError, match=f"line 3 of .*: latency is .*{remedy}"):
        read(of_values(tmp_path / "t.csv", "1.5", cell))


@pytest.mark.parametrize(
    "column", [pa.array([[1.0], [2.0]]), pa.array([1, 2], pa.duration("ns")), pa.array([True, False])]
)
def test_columns_of_other_things_than_numbers_are_refused(tmp_path: Path, column: pa.Array) -> None:
    parquet.write_table(pa.table({"arch": CELLS[:2], "latency": column}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"'latency' of .* holds .*: write it as numbers"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["1,5", "2,25"]),
        pa.array(["1.5", "2.25"]).dictionary_encode(),
        pa.array([1.5, 2.25], pa.float16()),
        pa.array([1.5, 2.25]).cast(pa.decimal128(6, 3)),
    ],
)
def test_columns_of_numbers_are_read_however_they_are_kept(tmp_path: Path, column: pa.Array) -> None:
    parquet.write_table(pa.table({"arch": CELLS[:2], "latency": column}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet")[0] == [1.5, 2.25]


# Units


@pytest.mark.parametrize(
    ("name", "unit"),
    [("latency_us", "us"), ("Latenz \u00b5s", "us"), ("time [s]", "s"), ("latencyUs", "us"), ("energy_mJ", "mJ")],
)
def test_a_unit_in_the_name_of_a_column_is_asked_about(tmp_path: Path, name: str, unit: str) -> None:
    table = write(tmp_path / "t.csv", [f"{CELLS[0]},2"], f"arch,{name}")
    with pytest.raises(DataError, match=f"seems to be in {unit}: give --unit {unit}"):
        read(table, name)
    assert "though its name says" in read(table, name, unit="ns")[1].notes[0]


@pytest.mark.parametrize("name", ["latency_ms", "edges", "bus", "pixels", "class_b"])
def test_a_name_that_says_no_other_unit_is_not_asked_about(tmp_path: Path, name: str) -> None:
    values, said = read(write(tmp_path / "t.csv", [f"{CELLS[0]},2"], f"arch,{name}"), name)
    assert (values, said.notes) == ([2], ())


def test_values_in_two_units_are_refused(tmp_path: Path) -> None:
    cells = [f"{(i % 7 + 1) * (1000 if i % 3 else 1)}" for i in range(20)]
    with pytest.raises(DataError, match="seems to be in two units"):
        read(of_values(tmp_path / "t.csv", *cells))
    one = of_values(tmp_path / "t.csv", *(f"{i + 1}" for i in range(19)), "9999")
    assert "none stands for a failure" in read(one)[1].notes[0]


@pytest.mark.parametrize(("factor", "remedy"), [(1e-3, "--unit s"), (1e3, "--unit us"), (1, "")])
def test_a_median_that_no_network_has_is_noted(tmp_path: Path, factor: float, remedy: str) -> None:
    notes = read(of_values(tmp_path / "t.csv", *(f"{(i + 2) * factor:.6f}" for i in range(9))))[1].notes
    assert remedy in " ".join(notes)
    assert bool(notes) == bool(remedy)
