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
        DataError: the ending is not that of a table.
    """
    if path.suffix not in _FORMATS:
        raise DataError(f"{path} ends in neither {' nor '.join(_FORMATS)}: name it so, for example {path.stem}.parquet")
    return path


def read(path: Path, types: Callable[[Sequence[str]], Mapping[str, str]]) -> pa.Table:
    """Read a table.

    Args:
        path: the file.
        types: maps the names of a CSV file's columns to their types (``{"subject": "string"}``); the type of other
            columns is inferred.

    Raises:
        DataError: the file does not exist, is not a table, or has no rows.
    """
    import pyarrow as pa

    try:
        table = _read_csv(path, types) if path.suffix == ".csv" else _read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"no file {path}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a {path.suffix} table ({first_line(error)})") from error
    if not table.num_rows:
        raise DataError(f"{path} has column names but no rows: write it again, or choose another")
    return table


def row_name(path: Path, index: int) -> str:
    """Return what messages call the row of an index: the line of a CSV file as an editor counts, or a Parquet row."""
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
    """Yield the line at which each row of a CSV file begins: texts may hold line breaks, empty lines do not count."""
    reader = csv.reader(stream)
    line = 1
    for row in reader:
        if row:
            yield line
        line = reader.line_num + 1
