"""Csv files, plain or compressed, as tables of text; a fault names file, row and column."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from fuxictr.array_files import brief, partitions
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.preprocess.sources.csv_quotes import QuoteWatch, WatchedFile
from fuxictr.preprocess.sources.csv_rows import (
    BLOCK,
    DAMAGE,
    CsvDialect,
    csv_fault,
    csv_rows,
    shown,
)

_SEPARATORS = ",;\t|:\x01"
# Labels other than 0 and 1, for a first check.
_LABELS = ("", "true", "false", "t", "f", "yes", "no", "y", "n")
_MOST_SHOWN, _MOST_COMPARED = 50, 10_000
# Most bytes of a gzip file without content; its header may hold a file name.
_MOST_OF_BLANK = 1000


def read_csv(path: Path, columns: Sequence[str], dialect: CsvDialect) -> Iterator[pa.Table]:
    """Yields the rows of a csv as text; raises as sources.frames.read_frames does."""
    header = csv_header(path, dialect)
    _check_label(path, header, columns, dialect)
    check_columns(header, columns, str(path), dialect)
    if _first_row(path, dialect) == []:
        return
    watch = QuoteWatch(dialect.separator, dialect.quote_char)
    is_verified = False
    try:
        for batch in _batches(path, header, columns, dialect, watch):
            if watch.is_suspicious and not is_verified:
                fault = csv_fault(path, header, dialect)
                if fault is not None:
                    raise DataError(fault)
                is_verified = True
            if batch is not None:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        most_bytes = BLOCK - 2 if "straddling" in str(error) else 2 * BLOCK
        fault = csv_fault(path, header, dialect, most_bytes)
        raise DataError(fault or f"{path}: not readable: {brief(error)}") from error


def csv_header(path: Path, dialect: CsvDialect) -> list[str]:
    """Returns the column names of a csv, from its header or the dialect; raises where it is bad."""
    if path.stat().st_size == 0 and dialect.names is None:
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
    if dialect.names is not None:
        return _own_names(path, header, dialect)
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
    found: Sequence[str], columns: Sequence[str], where: str, dialect: CsvDialect | None = None
) -> None:
    """Raises DataError where a column is missing or named twice; ``dialect`` is that of a csv."""
    repeated = [name for name, count in Counter(found).items() if count > 1]
    if repeated:
        raise DataError(
            f"{where}: the header names column '{shown(repeated[0])}' more than once"
            f"{_no_header_hint(found, columns, dialect)}"
        )
    missing = [name for name in columns if name not in found]
    if not missing:
        return
    if dialect is not None and len(found) == 1 and len(columns) > 1:
        separator = dialect.separator
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
        f"{_no_header_hint(found, columns, dialect)}"
    )


def is_parquet(path: Path) -> bool:
    """Returns whether the file begins as parquet files do."""
    return _begins(path, b"PAR1")


def is_blank(path: Path) -> bool:
    """Returns whether a csv has no bytes at all, like parts without rows that Hive writes."""
    if path.stat().st_size == 0:
        return True
    if path.suffix != ".gz" or path.stat().st_size > _MOST_OF_BLANK:
        return False
    try:
        with gzip.open(path) as file:
            return not file.read(1)
    except DAMAGE:
        return False


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


def _own_names(path: Path, first_row: list[str] | None, dialect: CsvDialect) -> list[str]:
    """Returns the names of a file without a header; label and folder columns may be absent."""
    names = list(dialect.names or ())
    unlabelled = [name for name in names if name not in dialect.labels]
    folders = partitions(path)
    own = [name for name in names if name not in folders]
    choices = [names, own, [name for name in own if name not in dialect.labels]]
    has_own = first_row is not None and len(first_row) == len(unlabelled)
    pairs = zip(unlabelled, first_row or (), strict=False)
    if own == names or (has_own and all(folders.get(n, cell) == cell for n, cell in pairs)):
        choices.insert(1, unlabelled)
    if first_row and len(first_row) > 1 and set(first_row) <= set(names):
        raise DataError(
            f"{path}: line 1: found the names of the columns; key 'header': found false, or a "
            "list, set true"
        )
    for found in choices:
        if first_row is None or len(first_row) == len(found):
            return found
    raise DataError(
        f"{path}: line 1: found {len(first_row or ())} fields, but {len(names)} columns are named: "
        f"{', '.join(map(shown, names[:_MOST_SHOWN]))}; key 'header': name the file's columns in "
        "order, as header: [label, I1, ...]"
    )


def _check_label(
    path: Path, header: Sequence[str], columns: Sequence[str], dialect: CsvDialect
) -> None:
    """Raises DataError where a file without a header has no label, or has it elsewhere."""
    names = dialect.names or ()
    labels = [name for name in dialect.labels if name in columns and name in names]
    if not labels:
        return
    order = f"found the order {', '.join(map(shown, names[:_MOST_SHOWN]))}"
    if not set(labels) <= set(header):
        raise DataError(
            f"{path}: line 1: found {len(header)} fields, but {len(names)} columns are "
            f"named; key 'header': {order}"
        )
    row = _first_row(path, dialect)
    for label in labels:
        cell = row[header.index(label)].strip().lower() if row else ""
        if label in dialect.numeric or cell in _LABELS or _is_number(cell, (0, 1)):
            continue
        raise DataError(
            f"{path}: row 1, column '{label}': found {cell[:60]!r}, allowed: 0 or 1; key "
            f"'header': {order}; where the file has another, name its columns, as header: [a, y]"
        )


def _first_row(path: Path, dialect: CsvDialect) -> list[str] | None:
    """Returns the first row of data; empty where there is none, None where it is broken."""
    num_headers = int(dialect.names is None)
    try:
        rows = list(itertools.islice(csv_rows(path, dialect), num_headers + 1))
    except (csv.Error, *DAMAGE):
        return None
    return rows[num_headers][1] if len(rows) > num_headers else []


def _no_header_hint(
    found: Sequence[str], columns: Sequence[str], dialect: CsvDialect | None
) -> str:
    """Returns a hint where the header of a csv seems to be a row, else ""."""
    if dialect is None or dialect.names is not None:
        return ""
    is_data = any(not cell.strip() or _is_number(cell) for cell in found[:_MOST_COMPARED])
    has_other_names = any(
        name in found or did_you_mean(name, map(shown, found[:_MOST_COMPARED])) for name in columns
    )
    if not is_data and has_other_names:
        return ""
    return "; where the first line is a row and no header, set header: false (docs/data.md)"


def _is_number(cell: str, allowed: Sequence[float] = ()) -> bool:
    try:
        return float(cell) in allowed or not allowed
    except ValueError:
        return False


def _batches(
    path: Path,
    header: list[str],
    columns: Sequence[str],
    dialect: CsvDialect,
    watch: QuoteWatch,
) -> Iterator[pa.RecordBatch | None]:
    # Yields the rows and, when ``watch`` has seen all bytes, None.
    with (
        WatchedFile(path, watch) as file,
        pa_csv.open_csv(
            file,
            read_options=pa_csv.ReadOptions(
                block_size=BLOCK, column_names=None if dialect.names is None else header
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=dialect.quote_char or False,
                newlines_in_values=dialect.quote_char is not None,
                ignore_empty_lines=len(header) > 1,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in columns}, include_columns=columns
            ),
        ) as reader,
    ):
        yield from reader
    watch.finish()
    yield None
