"""Csv files, plain or compressed, as tables of text; a fault names file, row and column."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from fuxictr.errors import ConfigError, DataError, did_you_mean

csv.field_size_limit(2**31 - 1)  # a long cell is no fault
_BLOCK = 4 << 20
_SEPARATORS = ",;\t|:"


@dataclass(frozen=True)
class CsvDialect:
    """How the cells of a csv are told apart.

    Attributes:
        separator: the character between two cells.
        quote_char: the character around a cell that holds separators, or None.
    """

    separator: str = ","
    quote_char: str | None = '"'

    def reader(self, lines: IO[str]) -> Any:
        """Returns the standard library's reader of this dialect."""
        if self.quote_char is None:
            return csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=self.separator, quotechar=self.quote_char)


def read_csv(path: Path, columns: Sequence[str], dialect: CsvDialect) -> Iterator[pa.Table]:
    """Yields the rows of a csv as text.

    Raises:
        DataError: see sources.read_frames.
    """
    header = csv_header(path, dialect)
    check_columns(header, columns, str(path), dialect.separator)
    types = {name: pa.string() for name in columns}
    try:
        reader = pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=dialect.quote_char or False,
                newlines_in_values=dialect.quote_char is not None,
            ),
            convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=columns),
        )
        for batch in reader:
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        fault = csv_fault(path, header, dialect)
        raise DataError(fault or f"{path}: not readable: {error}") from error


def csv_header(path: Path, dialect: CsvDialect) -> list[str]:
    """Returns the names in the first line.

    Raises:
        DataError: the file is empty, damaged, or its first line is no UTF-8 text.
        ConfigError: it is a parquet file.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    if is_parquet(path):
        raise ConfigError(f"{path}: a parquet file; key 'data_format': found csv, set parquet")
    try:
        with open_csv(path) as file:
            line = file.readline().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line 1: not UTF-8 text ({error.reason})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged, or not a gzip file ({error})") from error
    try:
        header: list[str] = next(dialect.reader(io.StringIO(line)), [])
    except csv.Error as error:
        raise DataError(f"{path}: line 1: not readable ({error})") from error
    if not header:
        raise DataError(f"{path}: line 1: found a blank line, allowed: the names of the columns")
    return header


def check_columns(
    found: Sequence[str], columns: Sequence[str], where: str, separator: str | None = None
) -> None:
    """Raises DataError where a column is missing or named twice.

    Args:
        found: the names that there are.
        columns: the names that are needed.
        where: the file.
        separator: that of a csv; null = it is none.
    """
    repeated = sorted({name for name in found if list(found).count(name) > 1})
    if repeated:
        raise DataError(f"{where}: the header names column '{repeated[0]}' more than once")
    missing = [name for name in columns if name not in found]
    if not missing:
        return
    if separator is not None and len(found) == 1 and len(columns) > 1:
        others = [c for c in _SEPARATORS if c != separator and c in found[0]]
        if others:
            best = max(others, key=found[0].count)
            raise DataError(
                f"{where}: line 1: found no {separator!r} in {found[0][:60]!r}; "
                f"key 'separator': found {separator!r}, did you mean {best!r}?"
            )
    raise DataError(
        f"{where}: column '{missing[0]}' is missing{did_you_mean(missing[0], found)}; "
        f"found: {', '.join(found)}"
    )


def open_csv(path: Path) -> IO[bytes]:
    """Opens a csv for reading, uncompressed where its name ends in .gz."""
    file: Any = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
    return file


def is_parquet(path: Path) -> bool:
    """Returns whether the file begins as parquet files do."""
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def line_of_row(path: Path, row: int, dialect: CsvDialect) -> int:
    """Returns the line in which a row ends; rows count from 0, lines from 1."""
    return next(line for i, (line, _) in enumerate(_csv_rows(path, dialect)) if i == row)


def estimate_csv_rows(path: Path) -> float:
    """Returns about how many rows a csv has, from its first megabytes."""
    try:
        with open(path, "rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            head = file.read(4 << 20)
            consumed = raw.tell()
    except (OSError, EOFError, zlib.error):
        return 0
    return path.stat().st_size * head.count(b"\n") / max(consumed, 1)


def csv_fault(path: Path, header: list[str], dialect: CsvDialect) -> str | None:
    """Returns what is wrong with a csv that the fast reader gave up on, which does not say where.

    None where this slower reader finds no fault.
    """
    index = -1
    try:
        for index, (line, cells) in enumerate(_csv_rows(path, dialect)):
            where = f"{path}: row {index + 1} (line {line})"
            if len(cells) != len(header):
                return (
                    f"{where}: found {len(cells)} cells, allowed: {len(header)}, as in the header"
                )
            for name, cell in zip(header, cells, strict=True):
                if any("\udc80" <= char <= "\udcff" for char in cell):
                    raw = cell.encode("utf-8", "surrogateescape")
                    return f"{where}, column '{name}': found {raw!r}, allowed: UTF-8 text"
    except (OSError, EOFError, zlib.error) as error:
        return f"{path}: after row {index + 1}: damaged, or cut off ({error})"
    except csv.Error as error:
        return f"{path}: after row {index + 1}: not readable ({error})"
    return None


def _csv_rows(path: Path, dialect: CsvDialect) -> Iterator[tuple[int, list[str]]]:
    # Yields (line of the row's end, cells) below the header; empty lines are no rows.
    with (
        open_csv(path) as raw,
        io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as file,
    ):
        reader = dialect.reader(file)
        next(reader)
        yield from ((reader.line_num, row) for row in reader if row)
