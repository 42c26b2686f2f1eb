"""The text of a table: unpacked, decoded, and split at the delimiter that its line of names shows."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from latbench.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
ENDINGS = (".csv", ".tsv", ".txt")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")

_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
"""Byte order marks, the longer ones first: that of UTF-32 begins with that of UTF-16."""

_FOREIGN = {
    b"PAR1": "a Parquet file: name it .parquet",
    b"ARROW1": "an Arrow file: write it as Parquet",
    b"SQLite format 3": "an SQLite file: export its table as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"\x89HDF": "an HDF5 file: write it as Parquet",
}

_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)
"""What the unpackers raise at a file that is cut off, damaged or encrypted."""


@dataclass(frozen=True, slots=True)
class Text:
    """A table's text.

    Args:
        names: of the columns, without blanks around them.
        body: the lines below the names, each of which ends with a line feed.
        first_line: the number of the body's first line, as an editor counts.
        delimiter: what separates columns.
        encoding: the one it was decoded from.
    """

    names: tuple[str, ...]
    body: str
    first_line: int
    delimiter: str
    encoding: str

    def lines(self) -> Iterator[int]:
        """Yield the line at which each row begins: texts may hold line breaks, empty lines do not count."""
        reader = csv.reader(io.StringIO(self.body, newline=""), delimiter=self.delimiter)
        line = 0
        for row in reader:
            if row:
                yield self.first_line + line
            line = reader.line_num


def read(data: bytes, knows: Callable[[Sequence[str]], bool]) -> Text:
    """Read the bytes of a table.

    Lines that begin with ``#`` may precede the names, and ``sep=;``, which spreadsheets write.

    Args:
        data: the file's content, which may be compressed.
        knows: whether names are those of the columns that are wanted; it finds the line of names and the delimiter.

    Raises:
        DataError: it is no text, or is damaged; the message goes on from the file's name.
    """
    text, encoding = _decoded(_unpacked(data))
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    given, start = "", 0
    if lines[:4].casefold() == "sep=":
        given, _, lines = lines[4:].partition("\n")
        start = 1
    number, names, delimiter, body = _header(lines, [given] if given in DELIMITERS else DELIMITERS, knows)
    return Text(names, body, start + number + 1, delimiter, encoding)


def _header(
    text: str, delimiters: Sequence[str], knows: Callable[[Sequence[str]], bool]
) -> tuple[int, tuple[str, ...], str, str]:
    """Return how many lines end with the names, the names, the delimiter, and the lines below."""
    best: tuple[int, tuple[str, ...], str, str] = (1, (), delimiters[0], "")
    above = 0
    while True:
        line, _, below = text.partition("\n")
        is_comment = line.startswith("#") or not line.strip()
        for delimiter in delimiters:
            names, taken = _first_row(text.lstrip("# ") if is_comment else text, delimiter)
            found = (above + taken, names, delimiter, "".join(text.split("\n", taken)[taken:]))
            if knows(names):
                return found
            # A bar is part of some architectures' texts: it is a delimiter only where it shows the wanted names.
            if not is_comment and (delimiter != "|" or len(best[1]) < 2) and len(names) > len(best[1]):
                best = found
        if not is_comment or not below:
            return best
        text, above = below, above + 1


def _first_row(text: str, delimiter: str) -> tuple[tuple[str, ...], int]:
    """Return the cells of the first row and how many lines it takes."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        row = next(reader, [])
    except csv.Error as error:
        raise DataError(f"is not a table ({error}): write it as CSV") from error
    return tuple(" ".join(name.split()) for name in row), reader.line_num


def _unpacked(data: bytes) -> bytes:
    """Return the content of a compressed file, known by its first bytes, whatever its name."""
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"BZh"):
            return bz2.decompress(data)
        if data.startswith(b"\xfd7zXZ\x00"):
            return lzma.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return _zstd(data)
        if data.startswith(b"PK\x03\x04"):
            return _only_member(data)
    except _BROKEN as error:
        raise DataError(f"is compressed and damaged ({error}): copy it again") from error
    return data


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


def _only_member(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if "[Content_Types].xml" in names or "mimetype" in names:
            raise DataError("is a spreadsheet: save it as CSV")
        if len(names) != 1:
            raise DataError(f"holds {len(names)} files: unpack it, and give one of them")
        return archive.read(names[0])


def _decoded(data: bytes) -> tuple[str, str]:
    """Return the text and its encoding: that of its mark, UTF-16 by its zero bytes, UTF-8, else Windows-1252."""
    for magic, what in _FOREIGN.items():
        if data.startswith(magic):
            raise DataError(f"is {what}")
    encoding = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), _unmarked(data))
    try:
        # Latin-1 names the five bytes that Windows-1252 leaves out.
        text = data.decode("latin-1" if encoding == "cp1252" and set(data) & set(b"\x81\x8d\x8f\x90\x9d") else encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"is not {encoding.upper()} text ({error.reason}): save it as UTF-8") from error
    if any(character < " " and character not in "\t\n\r\f\v" for character in text):
        raise DataError("is not text: save it as CSV")
    return text, encoding


def _unmarked(data: bytes) -> str:
    zeros = [data[start:4096:2].count(0) for start in (0, 1)]
    if sum(zeros) > len(data[:4096]) // 4:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"
