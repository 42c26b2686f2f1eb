"""Tables on disk, Parquet or CSV, and where a reader finds a row of one."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import DataError, did_you_mean, first_line
from latbench.records.writing import write_atomically
from latbench.tables.text import COMPRESSED, ENDINGS, Text
from latbench.tables.text import read as read_text

if TYPE_CHECKING:
    import pyarrow as pa

_BROKEN_ROW = re.compile(r"Row #(\d+): (.*)")
_SHOWN = 10
_LETTERS = 160


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was read.

    Args:
        path: its file.
        data: all of its rows.
        rows: the indices of those that are kept.
        text: what a CSV file holds; None of a Parquet file.
    """

    path: Path
    data: pa.Table
    rows: Sequence[int]
    text: Text | None = None

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self.data.column_names
        return names

    @property
    def kept(self) -> pa.Table:
        """The rows that are kept."""
        return self.data if len(self.rows) == self.data.num_rows else self.data.take(list(self.rows))

    @property
    def all_rows(self) -> Table:
        """The table with every row that it has on disk."""
        return replace(self, rows=range(self.data.num_rows))

    def check_column(self, name: str) -> None:
        """Check that one column has this name.

        Raises:
            DataError: none has, or several have.
        """
        found = self.names.count(name)
        if found > 1:
            raise DataError(f"{self.path} has {found} columns {name!r}: give each a name of its own")
        if found:
            return
        names = ", ".join(each or "''" for each in self.names)
        if any(map(is_number, self.names)):
            raise DataError(f"{self.path} has no line of names, its first line is {names}: write one above")
        meant = did_you_mean(name, self.names)
        remedy = f"; {meant}" if meant.startswith("did") else ""
        raise DataError(f"{self.path} has no column {name!r}: it has {names}{remedy}")

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the cells of a column, of the rows that are kept.

        Raises:
            DataError: not exactly one column has this name.
        """
        self.check_column(name)
        return self.kept[name]

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column as texts without blanks around them; empty where there is no value.

        Raises:
            DataError: not exactly one column has this name, or it holds what is not written as a text, such as lists.
        """
        return self._texts(self.column(name), name)

    def other_texts(self, *names: str) -> dict[str, list[str]]:
        """Return the cells of the columns with other names, as far as they are written as texts."""
        texts = {}
        for name, column in zip(self.names, self.kept.columns, strict=True):
            if name not in names:
                with suppress(DataError):
                    texts[name] = self._texts(column, name)
        return texts

    def _texts(self, column: pa.ChunkedArray, name: str) -> list[str]:
        import pyarrow as pa

        try:
            return [(text or "").strip() for text in column.cast("string").to_pylist()]
        except pa.ArrowException as error:
            raise DataError(f"column {name!r} of {self.path} holds {column.type}: write it as texts") from error

    def where(self, conditions: Mapping[str, str]) -> Table:
        """Keep the rows whose cells are as asked for; ``1`` is ``1.0``.

        Raises:
            DataError: a column does not exist, or no row is left.
        """
        table = self
        for name, wanted in conditions.items():
            cells = table.texts(name)
            rows = [row for row, cell in zip(table.rows, cells, strict=True) if _equal(cell, wanted.strip())]
            if not rows:
                known = list(dict.fromkeys(cells))
                shown = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
                raise DataError(f"no row of {self.path} has {wanted!r} in column {name!r}: it holds {shown}")
            table = replace(table, rows=rows)
        return table

    def without(self, indices: Collection[int]) -> Table:
        """Leave out kept rows by their index among them."""
        return replace(self, rows=[row for index, row in enumerate(self.rows) if index not in indices])

    def row_name(self, index: int) -> str:
        """Return what messages call a kept row: the line of a CSV file as an editor counts, or a Parquet row."""
        return _row_name(self.path, self.text, self.rows[index])


def checked(path: Path) -> Path:
    """Return the path of a table that is to be written.

    Raises:
        DataError: the ending is not that of a table.
    """
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise DataError(f"{path} ends in neither .parquet nor .csv: name it so, for example {path.stem}.parquet")
    return path


def stem(path: Path) -> str:
    """Return a table's name without the endings that say how it is written."""
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).stem


def read(
    path: Path, knows: Callable[[Sequence[str]], bool], types: Callable[[Sequence[str]], Mapping[str, str]]
) -> Table:
    """Read a table.

    Args:
        path: the file.
        knows: whether columns have the names that are wanted; a CSV file's delimiter is the one that shows them.
        types: maps the names of a CSV file's columns to their types (``{"subject": "string"}``); the type of other
            columns is inferred.

    Raises:
        DataError: the file does not exist, is not a table, or has no rows.
    """
    import pyarrow as pa

    ending = (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).suffix.lower()
    if ending not in ENDINGS and path.suffix.lower() != ".parquet":
        raise DataError(
            f"{path} ends in neither .parquet nor {' nor '.join(ENDINGS)}, with or without .gz: "
            "write it as one of these, and name it so"
        )
    text = None
    try:
        if path.suffix.lower() == ".parquet":
            data = _read_parquet(path)
        else:
            text = _read_text(path, knows)
            data = _parse(path, text, types)
    except FileNotFoundError as error:
        raise DataError(f"no file {path}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a {ending} table ({first_line(error)})") from error
    if not data.num_rows:
        raise DataError(f"{path} has column names but no rows: write it again, or choose another")
    return Table(path, data, range(data.num_rows), text)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a table, which is there as a whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa

    table = pa.Table.from_pylist(rows)
    content = pa.BufferOutputStream()
    _write(table, content, path.suffix.lower())
    try:
        write_atomically(path, content.getvalue().to_pybytes())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another file") from error


def _read_text(path: Path, knows: Callable[[Sequence[str]], bool]) -> Text:
    data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path} is empty: write it again, or choose another")
    try:
        return read_text(data, knows)
    except DataError as error:
        raise DataError(f"{path} {error}") from error


def _parse(path: Path, text: Text, types: Callable[[Sequence[str]], Mapping[str, str]]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow

    if not text.body.strip():
        return pa.table({name: [] for name in dict.fromkeys(text.names)})
    try:
        return arrow.read_csv(
            pa.BufferReader(text.body.encode()),
            # Several threads do not know the number of a broken row.
            read_options=arrow.ReadOptions(use_threads=False, column_names=text.names),
            parse_options=arrow.ParseOptions(delimiter=text.delimiter, newlines_in_values=True),
            convert_options=arrow.ConvertOptions(column_types=types(text.names)),
        )
    except pa.ArrowInvalid as error:
        broken = _BROKEN_ROW.search(first_line(error))
        if broken is None:
            raise
        where = _row_name(path, text, int(broken[1]) - 1)
        raise DataError(f"{where} does not fit its columns ({shortened(broken[2])}): correct or drop it") from error


def _read_parquet(path: Path) -> pa.Table:
    from pyarrow import parquet

    return parquet.read_table(path)


def _write(table: pa.Table, content: pa.NativeFile, suffix: str) -> None:
    if suffix == ".csv":
        from pyarrow import csv as arrow

        arrow.write_csv(table, content)
    else:
        from pyarrow import parquet

        parquet.write_table(table, content)


def _row_name(path: Path, text: Text | None, row: int) -> str:
    if text is None:
        return f"row {row + 1} of {path}"
    with suppress(csv.Error):  # a cell is longer than Python's reader takes
        return f"line {next(itertools.islice(text.lines(), row, None))} of {path}"
    return f"row {row + 1} of {path}"


def _equal(cell: str, wanted: str) -> bool:
    return cell == wanted or (is_number(cell) and is_number(wanted) and float(cell) == float(wanted))


def shortened(text: str) -> str:
    """Return at most the first of a text's letters, for a message."""
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}..."


def is_number(text: str) -> bool:
    """Whether a cell is a plain number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
