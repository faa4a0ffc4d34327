"""Raw files, read as frames of equal size in bounded memory, each cell's origin known."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fuxictr.errors import ConfigError, DataError, did_you_mean

# Rows of a frame, and of a row group of the encoded files. Frames are cut by the position of a row
# in its split, never by files or blocks, so that what is computed by frames depends on rows alone.
FRAME_ROWS = 100_000
_CSV_BLOCK = 4 << 20


@dataclass(frozen=True)
class Frame:
    """Up to FRAME_ROWS successive rows of a split.

    Attributes:
        table: the columns that were asked for.
        origins: (first row in the frame, file, that row's index in the file), ascending.
    """

    table: pa.Table
    origins: tuple[tuple[int, Path | None, int], ...]

    def locate(self, row: int) -> str:
        """Returns ``file: row 5 (line 6)`` of a row of the frame; rows of data count from 1."""
        start, path, first = [origin for origin in self.origins if origin[0] <= row][-1]
        index = first + row - start
        if path is None:
            return f"the given table: row {index + 1}"
        line = "" if _is_parquet(path) else f" (line {_line_of_row(path, index)})"
        return f"{path}: row {index + 1}{line}"


def find_files(given: str, key: str, base_dir: Path, data_format: str) -> list[Path]:
    """Returns the files of a split, sorted by name.

    Args:
        given: a file, a folder (all of its files of the format) or a glob.
        key: the config key that gave it.
        base_dir: folder that relative paths resolve against.
        data_format: csv or parquet.

    Raises:
        DataError: there is no such file.
    """
    path = (base_dir / Path(given).expanduser()).resolve()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.glob(f"*.{data_format}"))
    else:
        found = [Path(name) for name in sorted(glob.glob(str(path)))]
    files = [file for file in found if file.is_file() and not file.name.startswith(".")]
    if not files:
        kind = f"no .{data_format} file in this folder" if path.is_dir() else "no such file"
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: {kind} (key '{key}': '{given}'){did_you_mean(path.name, near)}")
    return files


def read_frames(files: Sequence[Path], data_format: str, columns: Sequence[str]) -> Iterator[Frame]:
    """Yields the rows of the files in order.

    A csv cell is read as the text that is written there.

    Args:
        files: what find_files returned.
        data_format: csv or parquet.
        columns: names of the raw columns to read.

    Raises:
        DataError: a file is empty, lacks a column, or is not readable; names the row if it has one.
    """
    reader = _read_parquet if data_format == "parquet" else _read_csv
    pending: list[tuple[Path, int, pa.Table]] = []
    num_pending = 0
    for path in files:
        row = 0
        for table in reader(path, columns):
            pending.append((path, row, table))
            row += table.num_rows
            num_pending += table.num_rows
            while num_pending >= FRAME_ROWS:
                frame, pending = _cut_frame(pending)
                num_pending -= frame.table.num_rows
                yield frame
        if not row:
            raise DataError(f"{path}: no rows")
    if num_pending:
        yield _cut_frame(pending)[0]


def table_frames(table: pa.Table, columns: Sequence[str]) -> Iterator[Frame]:
    """Yields the rows of a table in memory.

    Raises:
        DataError: a column is missing, or there are no rows.
    """
    _check_columns(table.column_names, columns, "the given table")
    if not table.num_rows:
        raise DataError("the given table: no rows")
    for start in range(0, table.num_rows, FRAME_ROWS):
        chosen = table.select(list(columns)).slice(start, FRAME_ROWS)
        yield Frame(chosen, ((0, None, start),))


def estimate_rows(files: Iterable[Path], data_format: str) -> int:
    """Returns about how many rows the files hold, for a progress bar."""
    total = 0.0
    for path in files:
        if data_format == "parquet":
            total += _open_parquet(path).metadata.num_rows
            continue
        with open(path, "rb") as file:
            head = file.read(1 << 20)
        total += path.stat().st_size * head.count(b"\n") / max(len(head), 1)
    return int(total)


def _cut_frame(
    pending: list[tuple[Path, int, pa.Table]],
) -> tuple[Frame, list[tuple[Path, int, pa.Table]]]:
    tables, origins, size = [], [], 0
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
    columns = [_join([table.column(name) for table in tables]) for name in names]
    return Frame(pa.table(columns, names=names), tuple(origins)), pending


def _join(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    # Files of one split may differ in a column's type: one of them has no missing value, say.
    types = {column.type for column in columns}
    chunks = [chunk for column in columns for chunk in column.chunks]
    if len(types) == 1:
        return pa.chunked_array(chunks, type=columns[0].type)
    return pa.chunked_array([chunk.cast(pa.string()) for chunk in chunks], type=pa.string())


def _read_csv(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    header = _csv_header(path)
    _check_columns(header, columns, str(path))
    types = {name: pa.string() for name in columns}
    try:
        reader = pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=columns),
        )
        for batch in reader:
            yield pa.Table.from_batches([batch])
    except pa.ArrowException as error:
        raise DataError(_csv_fault(path, header) or f"{path}: not readable: {error}") from error


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    file = _open_parquet(path)
    _check_columns(file.schema_arrow.names, columns, str(path))
    try:
        for batch in file.iter_batches(FRAME_ROWS, columns=list(columns)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: a damaged parquet file ({error})") from error


def _open_parquet(path: Path) -> pq.ParquetFile:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged, or not a parquet file ({error})") from error


def _is_parquet(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def _csv_header(path: Path) -> list[str]:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    if _is_parquet(path):
        raise ConfigError(f"{path}: a parquet file; key 'data_format': found csv, set parquet")
    try:
        with open(path, "rb") as file:
            return next(csv.reader([file.readline().decode("utf-8-sig")]))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line 1: not UTF-8 text ({error.reason})") from error


def _check_columns(found: Sequence[str], columns: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in found if list(found).count(name) > 1})
    if repeated:
        raise DataError(f"{where}: the header names column '{repeated[0]}' more than once")
    for name in columns:
        if name not in found:
            raise DataError(
                f"{where}: column '{name}' is missing{did_you_mean(name, found)}; "
                f"found: {', '.join(found)}"
            )


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    # Yields (line of the row's end, cells) below the header; empty lines are no rows.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from ((reader.line_num, row) for row in reader if row)


def _line_of_row(path: Path, row: int) -> int:
    return next(line for index, (line, _) in enumerate(_csv_rows(path)) if index == row)


def _csv_fault(path: Path, header: list[str]) -> str | None:
    # Only read once the fast reader has failed: it does not say where.
    for index, (line, cells) in enumerate(_csv_rows(path)):
        where = f"{path}: row {index + 1} (line {line})"
        if len(cells) != len(header):
            return f"{where}: found {len(cells)} cells, allowed: {len(header)}, as in the header"
        for name, cell in zip(header, cells, strict=True):
            if any("\udc80" <= char <= "\udcff" for char in cell):
                raw = cell.encode("utf-8", "surrogateescape")
                return f"{where}, column '{name}': found {raw!r}, allowed: UTF-8 text"
    return None
