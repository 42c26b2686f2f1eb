"""Tables on disk, Parquet or CSV, and where a reader finds a row of one."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.errors import DataError, first_line
from latbench.records.writing import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = (".parquet", ".csv")


def checked(path: Path) -> Path:
    """Return the path of a table.

    Raises:
        DataError: another ending than a table's.
    """
    if path.suffix not in _FORMATS:
        raise DataError(f"{path} ends in neither {' nor '.join(_FORMATS)}: name it so, for example {path.stem}.parquet")
    return path


def read(path: Path, types: Callable[[Sequence[str]], Mapping[str, str]]) -> pa.Table:
    """Read a table.

    Args:
        path: the file.
        types: from the names of a CSV file's columns to what their texts are (``{"subject": "string"}``); those that it
            does not name are what they look like.

    Raises:
        DataError: no such file, not a table, or a table without rows.
    """
    import pyarrow as pa

    try:
        table = _read_csv(path, types) if path.suffix == ".csv" else _read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"no file {path}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no {path.suffix} table ({first_line(error)})") from error
    if not table.num_rows:
        raise DataError(f"{path} has no rows, only the names of its columns: write it again, or choose another")
    return table


def place(path: Path, index: int) -> str:
    """Return where the row of an index is: the line of a CSV file as in an editor, or the row of a Parquet file."""
    if path.suffix != ".csv":
        return f"row {index + 1} of {path}"
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        line = next(itertools.islice(_first_lines(stream), index + 1, None))  # the header is a row here
    return f"line {line} of {path}"


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a table, which is there as a whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa

    table = pa.Table.from_pylist(rows)
    content = pa.BufferOutputStream()
    _write(table, content, path.suffix)
    try:
        write_atomically(path, content.getvalue().to_pybytes())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another file") from error


def _read_csv(path: Path, types: Callable[[Sequence[str]], Mapping[str, str]]) -> pa.Table:
    from pyarrow import csv as arrow

    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        names = next(csv.reader(stream), [])
    return arrow.read_csv(
        path,
        read_options=arrow.ReadOptions(use_threads=False),  # several threads do not know the number of a broken row
        convert_options=arrow.ConvertOptions(column_types=types(names)),
    )


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


def _first_lines(stream: Iterator[str]) -> Iterator[int]:
    """Yield the line that each row of a CSV file begins at: texts may hold line breaks, empty lines are no rows."""
    reader = csv.reader(stream)
    line = 1
    for row in reader:
        if row:
            yield line
        line = reader.line_num + 1
