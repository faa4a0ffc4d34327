"""The rows of a csv, read strictly and slowly, to say where a fault is."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fuxictr.array_files import brief
from fuxictr.errors import ConfigError

csv.field_size_limit(2**31 - 1)  # rows are bounded below, cells need no bound of their own
# Bytes that the fast reader takes at once. It reads rows of up to one block, and none over two.
BLOCK = 4 << 20
DAMAGE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class CsvDialect:
    """How the cells of a csv are told apart; ConfigError where both characters are equal.

    ``names`` are the columns of files without a header, else None; these may lack the
    ``labels``, all of them. A label is 0 or 1, one of ``numeric`` is any number.
    """

    separator: str = ","
    quote_char: str | None = '"'
    names: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ()
    numeric: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.separator == self.quote_char:
            raise ConfigError(
                f"keys 'separator' and 'quote_char': found {self.separator!r} for both, allowed: "
                "two characters"
            )

    def reader(self, lines: Iterator[str], strict: bool) -> Any:
        """Returns the standard library's reader of this dialect."""
        if self.quote_char is None:
            return csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=self.separator, quotechar=self.quote_char, strict=strict)


def open_csv(path: Path) -> IO[bytes]:
    """Opens a csv for reading, uncompressed where its name ends in .gz."""
    file: Any = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
    return file


def csv_rows(
    path: Path, dialect: CsvDialect, strict: bool = True, most_bytes: int = 2 * BLOCK
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line of the row's end, cells), the header first, where there is one.

    An empty line is no row, except in a file of one column, where it is an empty cell (polars
    writes it so). A blank first line is an empty header. Bytes that are not UTF-8 become lone
    surrogates. Damaged files raise DAMAGE. A row over ``most_bytes``, a header that ends in CR
    alone and, if ``strict``, bad quotes raise csv.Error.
    """
    with (
        open_csv(path) as raw,
        io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as file,
    ):
        lines = _Lines(file, most_bytes)
        reader = dialect.reader(lines, strict)
        width = len(dialect.names or ())
        for index, row in enumerate(reader):
            if not index and lines.last.endswith("\r"):
                raise csv.Error("it ends in a carriage return alone")
            lines.num_bytes = 0
            is_header = dialect.names is None and not index
            if is_header:
                width = len(row)
            if row or is_header or width == 1:
                yield reader.line_num, row if row or is_header else [""]


def line_of_row(path: Path, row: int, dialect: CsvDialect) -> int | None:
    """Returns the line (from 1) where a row of data (from 0) ends; None where it is unknown."""
    num_headers = int(dialect.names is None)
    with contextlib.suppress(csv.Error, *DAMAGE):
        for index, (line, _) in enumerate(csv_rows(path, dialect, strict=False)):
            if index == row + num_headers:
                return line
    return None


def csv_fault(
    path: Path, header: list[str], dialect: CsvDialect, most_bytes: int = 2 * BLOCK
) -> str | None:
    """Returns what is wrong with a csv and where, or None."""
    index = 0
    start = int(dialect.names is not None)  # rows count from 1, a header is row 0
    try:
        for index, (line, cells) in enumerate(csv_rows(path, dialect, True, most_bytes), start):
            fault = _row_fault(header, cells, dialect)
            if fault is not None:
                return f"{path}: row {index} (line {line}){fault}"
    except DAMAGE as error:
        return f"{path}: after row {index}: damaged, or cut off ({brief(error)})"
    except csv.Error as error:
        return (
            f"{path}: row {index + 1}: {brief(error)}; key 'quote_char': null where quotes have "
            "no meaning"
        )
    return None


def shown(name: str) -> str:
    """Returns a name for a message: on one line, and not too long."""
    text = name if name.isprintable() else repr(name)[1:-1]
    return text if len(text) <= 100 else f"{text[:100]}..."


def _row_fault(header: list[str], cells: list[str], dialect: CsvDialect) -> str | None:
    if len(cells) != len(header):
        where = "in the header" if dialect.names is None else "in the first row"
        return f": found {len(cells)} cells, allowed: {len(header)}, as {where}"
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii() and any("\udc80" <= char <= "\udcff" for char in cell):
            raw = cell.encode("utf-8", "surrogateescape")
            return f", column '{shown(name)}': found {raw[:100]!r}, allowed: UTF-8 text"
    return None


class _Lines:
    # Lines as they are read; those of one row may have most_bytes together.

    def __init__(self, file: IO[str], most_bytes: int) -> None:
        self._file, self._most_bytes = file, most_bytes
        self.num_bytes, self.last = 0, ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._most_bytes + 1)
        if not line:
            raise StopIteration
        raw = line if line.isascii() else line.encode("utf-8", "surrogateescape")
        self.num_bytes += len(raw)
        if self.num_bytes > self._most_bytes:
            raise csv.Error(f"found more than {self._most_bytes:,} bytes in one row")
        self.last = line
        return line
