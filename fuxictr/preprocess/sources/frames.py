"""Raw files as frames of equal size, in bounded memory; the origin of each cell is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fuxictr.array_files import partitions
from fuxictr.errors import DataError
from fuxictr.preprocess.sources import typed_files
from fuxictr.preprocess.sources.arrow_types import check_table, join, kind_of, texts_agree
from fuxictr.preprocess.sources.csv_files import (
    check_columns,
    csv_header,
    estimate_csv_rows,
    is_blank,
    is_parquet,
    read_csv,
)
from fuxictr.preprocess.sources.csv_rows import CsvDialect, line_of_row
from fuxictr.preprocess.sources.files import SUFFIXES, SourceFormat

# Rows of a frame, and of an encoded row group. Frames are cut by a row's position in its split,
# never by files or blocks, so that what is computed by frames depends on rows alone.
FRAME_ROWS = 100_000
# Most bytes of the raw cells of a frame: about 20,000 a row.
_FRAME_BYTES = 2 << 30


class NoRowsError(DataError):
    """Files or a table without rows, which may be scored but not learnt from."""


@dataclass(frozen=True)
class Frame:
    """Up to FRAME_ROWS successive rows of the raw files, or some of them.

    ``origins`` are (first row in the frame, file, that row's index in the file), ascending.
    ``chosen`` are the frame's rows that the table holds, ascending; None = all.
    """

    table: pa.Table
    origins: tuple[tuple[int, Path | None, int], ...]
    dialect: CsvDialect = field(default_factory=CsvDialect)
    chosen: np.ndarray | None = None

    def select(self, mask: np.ndarray) -> Frame:
        """Returns the frame with only the rows where ``mask`` (rows,) is true."""
        return replace(self, table=self.table.filter(pa.array(mask)), chosen=np.flatnonzero(mask))

    def locate(self, row: int) -> str:
        """Returns ``file: row 5 (line 6)`` for a row of the table; rows of data count from 1."""
        row = row if self.chosen is None else int(self.chosen[row])
        start, path, first = [origin for origin in self.origins if origin[0] <= row][-1]
        index = first + row - start
        if path is None:
            return f"the given table: row {index + 1}"
        is_text = path.name.endswith(SUFFIXES["csv"]) or not (
            path.suffix in (".npz", ".h5") or is_parquet(path)
        )
        line = line_of_row(path, index, self.dialect) if is_text else None
        return f"{path}: row {index + 1}{'' if line is None else f' (line {line})'}"


def read_frames(
    files: Sequence[Path], source_format: SourceFormat, columns: Sequence[str]
) -> Iterator[Frame]:
    """Yields the rows of the files in order; some of the files may have none.

    Csv cells and values of partition folders (``dt=2024-01-01/``) are texts. A folder's value is a
    column of those files in it that have no column of that name. DataError: a file lacks a column
    or is not readable. NoRowsError: no file has a row.
    """
    dialect = source_format.dialect
    with_content = [p for p in files if source_format.name != "csv" or not is_blank(p)]
    if len(files) > 1 and not with_content:
        raise NoRowsError(f"{files[0]} and {len(files) - 1} more: no rows")
    pending: list[tuple[Path, int, pa.Table]] = []
    folders = _FolderValues(columns)
    num_pending = num_frames = 0
    for path in with_content or files:
        row = 0
        for table in _read_file(path, source_format, columns):
            if not table.num_rows:
                continue
            folders.check(path, table, source_format)
            pending.append((path, row, table))
            row += table.num_rows
            if sum(part.nbytes for _, _, part in pending) > _FRAME_BYTES:
                raise DataError(
                    f"{path}: row {row} and those before it, fewer than {FRAME_ROWS:,}, have more "
                    f"than {_FRAME_BYTES:,} bytes, which is allowed; shorten the cells"
                )
            num_pending += table.num_rows
            while num_pending >= FRAME_ROWS:
                frame, pending = _cut_frame(pending, dialect)
                num_pending -= frame.table.num_rows
                num_frames += 1
                yield frame
    if num_pending:
        yield _cut_frame(pending, dialect)[0]
    elif not num_frames:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise NoRowsError(f"{files[0]}{more}: no rows")


def table_frames(table: pa.Table, columns: Sequence[str]) -> Iterator[Frame]:
    """Yields the rows of a table; DataError where a column is absent or there are no rows."""
    check_columns(table.column_names, columns, "the given table")
    check_table(table.select(list(columns)), "the given table")
    if not table.num_rows:
        raise NoRowsError("the given table: no rows")
    for start in range(0, table.num_rows, FRAME_ROWS):
        chosen = table.select(list(columns)).slice(start, FRAME_ROWS)
        yield Frame(chosen, ((0, None, start),))


def column_names(path: Path, source_format: SourceFormat) -> list[str]:
    """Returns the names of a raw file's columns."""
    if source_format.name == "csv":
        return csv_header(path, source_format.dialect)
    return typed_files.array_names(path, source_format.name)


def estimate_rows(files: Sequence[Path], source_format: SourceFormat, column: str) -> int:
    """Returns about how many rows the files hold, for a progress bar."""
    if source_format.name == "csv":
        return int(sum(estimate_csv_rows(path) for path in files))
    return sum(count_rows(files, source_format, column))


def count_rows(files: Sequence[Path], source_format: SourceFormat, column: str) -> list[int]:
    """Returns how many rows a column of each file has; a csv is read for it."""
    is_part = len(files) > 1 and source_format.name == "csv"
    return [
        0 if is_part and is_blank(path) else _count_rows(path, source_format, column)
        for path in files
    ]


def check_schemas(files: Sequence[Path], data_format: str, columns: Sequence[str]) -> None:
    """Raises DataError where a column read as text has two kinds of values, as 7 and 7.0."""
    if data_format == "csv":
        return
    known: dict[str, tuple[str, Path]] = {}
    for path in files:
        for name, found in typed_files.array_schema(path, data_format, columns).items():
            try:
                kind = kind_of(found)
            except ValueError as error:
                raise DataError(f"{path}: column '{name}': {error}") from None
            first, where = known.setdefault(name, (kind, path))
            if first == "null":
                known[name] = (kind, path)
            elif not texts_agree(first, kind):
                if not typed_files.count_rows(path, data_format, name):
                    continue
                if not typed_files.count_rows(where, data_format, name):
                    known[name] = (kind, path)
                    continue
                raise DataError(
                    f"{path}: column '{name}': found {kind} values, but {first} values in {where}; "
                    "write both files with one type, or set the column's dtype to int or float"
                )


def empty_table(path: Path, source_format: SourceFormat, columns: Sequence[str]) -> pa.Table:
    """Returns columns of a file as a table without rows; those of a csv are texts."""
    types = {}
    if source_format.name != "csv":
        types = typed_files.array_schema(path, source_format.name, columns)
    return pa.table({name: pa.array([], types.get(name, pa.string())) for name in columns})


def _read_file(
    path: Path, source_format: SourceFormat, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yields the rows of a file in tables of up to FRAME_ROWS rows, or one block of a csv."""
    values = partition_values(path, source_format, columns)
    own = [name for name in columns if name not in values]
    own = own or column_names(path, source_format)[:1]
    if source_format.name == "csv":
        tables = read_csv(path, own, source_format.dialect)
    else:
        tables = typed_files.read_typed(path, source_format.name, own, FRAME_ROWS)
    for table in tables:
        for name, value in values.items():
            cells = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, cells)
        yield table.select(list(columns))


def partition_values(
    path: Path, source_format: SourceFormat, columns: Sequence[str]
) -> dict[str, str | None]:
    """Returns column -> value for those of the columns that only the file's folders have."""
    values = {name: value for name, value in partitions(path).items() if name in columns}
    own = column_names(path, source_format) if values else []
    return {name: value for name, value in values.items() if name not in own}


class _FolderValues:
    """Checks that no column is the folder's value in one file and in cells of another."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._of_folder: dict[str, Path] = {}
        self._of_file: dict[str, Path] = {}

    def check(self, path: Path, table: pa.Table, source_format: SourceFormat) -> None:
        """Raises DataError where a file takes its folder's value and another's cells differ."""
        named = {n: value for n, value in partitions(path).items() if n in self._columns}
        if not named:
            return
        taken = partition_values(path, source_format, list(named))
        for name, value in named.items():
            if name in taken:
                self._of_folder.setdefault(name, path)
            elif not pc.all(pc.equal(table.column(name).cast(pa.string()), value)).as_py():
                self._of_file.setdefault(name, path)
            if name in self._of_folder and name in self._of_file:
                raise DataError(
                    f"{self._of_file[name]}: column '{name}': found other values than its folder's "
                    f"({partitions(self._of_file[name])[name]}), but {self._of_folder[name]} has "
                    "no such column and takes its folder's; write the column in all files, or none"
                )


def _count_rows(path: Path, source_format: SourceFormat, column: str) -> int:
    if source_format.name == "csv":
        return sum(table.num_rows for table in _read_file(path, source_format, [column]))
    if partition_values(path, source_format, [column]):
        column = column_names(path, source_format)[0]
    return typed_files.count_rows(path, source_format.name, column)


def _cut_frame(
    pending: list[tuple[Path, int, pa.Table]], dialect: CsvDialect
) -> tuple[Frame, list[tuple[Path, int, pa.Table]]]:
    tables: list[pa.Table] = []
    origins: list[tuple[int, Path, int]] = []
    size = 0
    for index, (path, row, table) in enumerate(pending):
        origins.append((size, path, row))
        tables.append(table.slice(0, FRAME_ROWS - size))
        size += tables[-1].num_rows
        if size == FRAME_ROWS:
            used = tables[-1].num_rows
            rest = [(path, row + used, table.slice(used))] if used < table.num_rows else []
            pending = [*rest, *pending[index + 1 :]]
            break
    names = tables[0].column_names
    paths = [path for _, path, _ in origins]
    columns = [
        join([(p, t.column(name)) for p, t in zip(paths, tables, strict=True)], name)
        for name in names
    ]
    return Frame(pa.table(columns, names=names), tuple(origins), dialect), pending
