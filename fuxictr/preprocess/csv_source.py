"""Csv files, plain or compressed, as tables of text; a fault names file, row and column."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from fuxictr.array_files import brief
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.preprocess.csv_quotes import QuoteWatch
from fuxictr.preprocess.csv_rows import BLOCK, DAMAGE, CsvDialect, csv_fault, csv_rows, shown

_SEPARATORS = ",;\t|:"
_MOST_SHOWN, _MOST_COMPARED = 50, 10_000


def read_csv(path: Path, columns: Sequence[str], dialect: CsvDialect) -> Iterator[pa.Table]:
    """Yields the rows of a csv as text.

    Raises:
        DataError: see sources.read_frames.
    """
    header = csv_header(path, dialect)
    check_columns(header, columns, str(path), dialect.separator)
    watch = QuoteWatch(dialect.separator, dialect.quote_char)
    is_verified = False
    try:
        for batch in _batches(path, columns, dialect, watch):
            if watch.is_suspicious and not is_verified:
                _verify(path, header, dialect)
                is_verified = True
            if batch is not None:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        most_bytes = BLOCK - 2 if "straddling" in str(error) else 2 * BLOCK
        fault = csv_fault(path, header, dialect, most_bytes)
        raise DataError(fault or f"{path}: not readable: {brief(error)}") from error


def csv_header(path: Path, dialect: CsvDialect) -> list[str]:
    """Returns the names of the columns.

    Raises:
        DataError: the file is empty, damaged, or its header is no UTF-8 text.
        ConfigError: it is a parquet file.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    if is_parquet(path):
        raise ConfigError(f"{path}: a parquet file; key 'data_format': found csv, set parquet")
    if path.suffix != ".gz" and _begins(path, b"\x1f\x8b"):
        raise DataError(f"{path}: a gzip file; its name must end in .gz")
    try:
        _, header = next(csv_rows(path, dialect, most_bytes=BLOCK), (0, None))
    except DAMAGE as error:
        raise DataError(f"{path}: damaged, or not a gzip file ({brief(error)})") from error
    except csv.Error as error:
        raise DataError(f"{path}: line 1: not readable ({brief(error)})") from error
    if header is None:
        raise DataError(f"{path}: the file is empty")
    if not header:
        raise DataError(f"{path}: line 1: found a blank line, allowed: the names of the columns")
    for name in header:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{path}: line 1: not UTF-8 text ({name[:60]!a})") from error
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
    repeated = [name for name, count in Counter(found).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: the header names column '{shown(repeated[0])}' more than once")
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
    near = map(shown, found[:_MOST_COMPARED])
    raise DataError(
        f"{where}: column '{missing[0]}' is missing{did_you_mean(missing[0], near)}; "
        f"found: {', '.join(map(shown, found[:_MOST_SHOWN]))}"
        f"{f' and {len(found) - _MOST_SHOWN:,} more' if len(found) > _MOST_SHOWN else ''}"
    )


def is_parquet(path: Path) -> bool:
    """Returns whether the file begins as parquet files do."""
    return _begins(path, b"PAR1")


def estimate_csv_rows(path: Path) -> float:
    """Returns about how many rows a csv has, from its first megabytes."""
    try:
        with open(path, "rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            head = file.read(BLOCK)
            consumed = raw.tell()
    except DAMAGE:
        return 0
    return path.stat().st_size * head.count(b"\n") / max(consumed, 1)


def _begins(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _batches(
    path: Path, columns: Sequence[str], dialect: CsvDialect, watch: QuoteWatch
) -> Iterator[pa.RecordBatch | None]:
    # Yields the rows and, when ``watch`` has seen all bytes, None.
    with (
        _WatchedFile(path, watch) as file,
        pa_csv.open_csv(
            file,
            read_options=pa_csv.ReadOptions(block_size=BLOCK),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=dialect.quote_char or False,
                newlines_in_values=dialect.quote_char is not None,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in columns}, include_columns=columns
            ),
        ) as reader,
    ):
        yield from reader
    watch.finish()
    yield None


def _verify(path: Path, header: list[str], dialect: CsvDialect) -> None:
    fault = csv_fault(path, header, dialect)
    if fault is not None:
        raise DataError(fault)


class _WatchedFile:
    """The bytes of a csv, uncompressed, on their way to the fast reader.

    Args:
        path: the file.
        watch: sees the bytes.
    """

    def __init__(self, path: Path, watch: QuoteWatch) -> None:
        self._file = pa.input_stream(
            str(path), compression="gzip" if path.suffix == ".gz" else None
        )
        self._watch = watch
        self._held = b""

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        is_closed: bool = self._file.closed
        return is_closed

    def readable(self) -> bool:
        """Returns True."""
        return True

    def read(self, size: int) -> bytes:
        """Returns at most ``size`` next bytes, none at the end.

        A carriage return ends no block: the fast reader would drop a line feed that begins the next
        one, also between quotes.
        """
        data: bytes = self._held + self._file.read(size - len(self._held))
        self._held = b""
        behind = self._file.read(1) if data.endswith(b"\r") else b""
        if behind and len(data) > 1:
            data, self._held = data[:-1], b"\r" + behind
        else:
            self._held = behind
        self._watch.add(data)
        return data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> _WatchedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
