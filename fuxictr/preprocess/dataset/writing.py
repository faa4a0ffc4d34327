"""Encoded rows on disk: parquet row groups of equal size, and a digest of the rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fuxictr.preprocess.sources.frames import FRAME_ROWS


class SplitWriter:
    """Writes a split's rows to ``<split>.parquet``, or to ``<split>/part_*.parquet``.

    Row groups have FRAME_ROWS rows, so files and digest do not depend on how rows were read. A part
    file has ``block_size`` rows; 0 = one file. ``digest`` is SHA-256 over column names and rows.
    """

    def __init__(self, folder: Path, split: str, block_size: int = 0) -> None:
        self._folder, self._split, self._block_size = folder, split, block_size
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.Table] = []
        self._num_pending = self._num_parts = self._rows_in_part = self.num_rows = 0
        self.digest = hashlib.sha256(split.encode())

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._num_pending:
            self._write_group(self._take(self._num_pending))
        self._close()

    def write(self, table: pa.Table) -> None:
        """Adds rows."""
        self._pending.append(table)
        self._num_pending += table.num_rows
        while self._num_pending >= FRAME_ROWS:
            self._write_group(self._take(FRAME_ROWS))

    def _take(self, count: int) -> pa.Table:
        table = self._pending[0] if len(self._pending) == 1 else pa.concat_tables(self._pending)
        rest = table.slice(count)
        self._pending = [rest] if rest.num_rows else []
        self._num_pending = rest.num_rows
        return table.slice(0, count).combine_chunks()

    def _write_group(self, table: pa.Table) -> None:
        if not self.num_rows:
            self.digest.update(repr(table.column_names).encode())
        for column in table.columns:
            self.digest.update(_bytes(column))
        self.num_rows += table.num_rows
        while table.num_rows:
            room = self._block_size - self._rows_in_part if self._block_size else table.num_rows
            self._write_rows(table.slice(0, room))
            table = table.slice(room)

    def _write_rows(self, table: pa.Table) -> None:
        if self._writer is None:
            path = self._folder / f"{self._split}.parquet"
            if self._block_size:
                path = self._folder / self._split / f"part_{self._num_parts:05d}.parquet"
                path.parent.mkdir(exist_ok=True)
            self._num_parts += 1
            self._writer = pq.ParquetWriter(
                path, table.schema, compression="lz4", write_page_checksum=True
            )
        self._writer.write_table(table, row_group_size=FRAME_ROWS)
        self._rows_in_part += table.num_rows
        if self._rows_in_part == self._block_size:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._rows_in_part = None, 0


def _bytes(column: pa.ChunkedArray) -> bytes:
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    if column.type in (pa.int32(), pa.float32()):
        return column.to_numpy().tobytes()
    return repr(column.to_pylist()).encode()
