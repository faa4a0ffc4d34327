"""Encoded parquet files, read in slices of bounded size."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuxictr.array_files import brief, require_memory
from fuxictr.array_files.parquet import open_parquet, read_buffer
from fuxictr.errors import DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.columnar import (
    ColumnarData,
    allocate,
    as_index,
    check_columns,
    check_groups_present,
    make_layout,
    store_column,
)
from fuxictr.pytorch.dataloaders.parquet_cells import check_present, to_numpy
from fuxictr.pytorch.dataloaders.row_ranges import RowRanges

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Limits of what is decoded at once, whatever the size of row groups or sequences.
SLICE_ROWS = 65_536
_SLICE_BYTES = 1 << 25


@dataclass(frozen=True)
class Block:
    """A row group, or small neighbouring ones, which shuffling moves together."""

    file: int  # index of its file
    row_groups: tuple[int, ...]  # their indices in that file
    first_row: int  # rows of the file before it
    num_rows: int


class ParquetRows:
    """The rows of encoded parquet files, in the order of ``files``, which stay on disk.

    Attributes:
        blocks: the blocks, in the rows' order.
        row_bytes: bytes of a row in memory.
        slice_rows: most rows of a slice.
        group_ids: np.int64 (rows,), equal where column ``group_id`` is equal; None without groups.

    Raises:
        ConfigError: the column ``group_id`` is missing.
        DataError: a file is not readable or lacks a column; a group is missing.
    """

    def __init__(
        self,
        files: Sequence[Path],
        feature_map: FeatureMap,
        group_id: str | None = None,
        labels: bool = True,
    ) -> None:
        self.files = files
        self.feature_map = feature_map
        self.layout = make_layout(feature_map, labels)
        self.row_bytes = 4 * (self.layout.num_ids + self.layout.num_values)
        self.slice_rows = max(1, min(SLICE_ROWS, _SLICE_BYTES // self.row_bytes))
        self.blocks: list[Block] = []
        self._metadata: list[pq.FileMetaData] = []
        self._states: list[tuple[int, ...]] = []
        self._buffers: list[int] = []
        for index, path in enumerate(files):
            with _opened(path) as file:
                names = file.schema_arrow.names
                check_columns(names, self.layout.positions, str(path), group_id)
                self._metadata.append(file.metadata)
                self._states.append(_state_of(path))
                self._buffers.append(read_buffer(path, file.metadata))
                self.blocks += _make_blocks(index, file.metadata, str(path))
        sizes = (metadata.num_rows for metadata in self._metadata)
        self._first_rows = list(accumulate(sizes, initial=0))
        self.num_rows = self._first_rows[-1]
        self._all_rows = RowRanges.run(0, self.num_rows, self.num_rows)
        # Shuffling and scores take a number per row.
        self._where = f"{files[0] if len(files) == 1 else files[0].parent}: {self.num_rows:,} rows"
        require_memory(4 * self.num_rows, self._where)
        self.group_ids = None if group_id is None else self._read_group_ids(group_id)

    def load(self, own: RowRanges | None = None) -> ColumnarData:
        """Reads rows (None: all) into memory, beside one slice; errors are those of ``read``."""
        wanted = self._all_rows if own is None else own
        where = f"{self._where} at once (streaming: true leaves them on disk)"
        require_memory(wanted.num_rows * self.row_bytes, where)
        data = allocate(self.layout, wanted.num_rows)
        start = 0
        for block in self.blocks_of(wanted):
            for rows in self.read(block, True, wanted):
                start = data.write(start, rows.rows(slice(None)))
        return replace(data, group_ids=self.group_ids, cut=own)

    def blocks_of(self, own: RowRanges) -> list[Block]:
        """Returns the blocks that have some of the rows, without row groups that have none."""
        found = (self._trimmed(block, own) for block in self.blocks)
        return [block for block in found if block.num_rows]

    def read(
        self, block: Block, use_threads: bool = False, own: RowRanges | None = None
    ) -> Iterator[ColumnarData]:
        """Yields the wanted rows (None: all) of a block in slices of ``slice_rows`` at most.

        Raises DataError, which names file, column and row, for a damaged file and for invalid
        cells.
        """
        own = self._all_rows if own is None else own
        where = str(self.files[block.file])
        before = self._first_rows[block.file]
        end = block.first_row + block.num_rows
        last = own.hull(before + block.first_row, before + end)[1] - before
        with closing(self._batches(block, list(self.layout.positions), use_threads)) as batches:
            for batch, row in batches:
                stop = row + batch.num_rows
                if own.count(before + row, before + stop):
                    index = as_index(own.within(before + row, before + stop))
                    yield self._decode(batch, where, row).take(index)
                if last <= stop < end:  # the rest belongs to other ranks
                    return

    def _decode(self, batch: pa.RecordBatch, where: str, row: int) -> ColumnarData:
        data = allocate(self.layout, batch.num_rows)
        for name in self.layout.positions:
            width = self.layout.widths.get(name)
            cells = to_numpy(batch.column(name), width, f"{where}: column '{name}'", row)
            numbers = range(row, row + batch.num_rows)
            store_column(data, name, cells, self.feature_map, where, numbers)
        return data

    def _trimmed(self, block: Block, own: RowRanges) -> Block:
        # From the first row group that has some of the rows to the last one; no rows if none has.
        before = self._first_rows[block.file]
        metadata = self._metadata[block.file]
        sizes = [metadata.row_group(group).num_rows for group in block.row_groups]
        starts = list(accumulate(sizes, initial=block.first_row))
        wanted = [
            index
            for index, size in enumerate(sizes)
            if own.count(before + starts[index], before + starts[index] + size)
        ]
        if not wanted:
            return Block(block.file, (), block.first_row, 0)
        first, stop = wanted[0], wanted[-1] + 1
        groups = block.row_groups[first:stop]
        return Block(block.file, groups, starts[first], starts[stop] - starts[first])

    def _batches(
        self, block: Block, names: list[str], use_threads: bool
    ) -> Generator[tuple[pa.RecordBatch, int], None, None]:
        # Yields decoded rows and the number of rows of the file before them.
        path = self.files[block.file]
        row, last = block.first_row, block.first_row + block.num_rows
        with _opened(path, self._metadata[block.file], self._buffers[block.file]) as file:
            if _state_of(path) != self._states[block.file]:
                raise DataError(
                    f"{path}: not readable as parquet any more, another process has written it "
                    "anew meanwhile; start again"
                )
            for batch in file.iter_batches(
                self.slice_rows, list(block.row_groups), names, use_threads=use_threads
            ):
                if row + batch.num_rows <= last:
                    yield batch, row
                row += batch.num_rows
        if row != last:
            raise DataError(
                f"{path}: found {row - block.first_row:,} rows, expected {block.num_rows:,}; it is "
                "damaged, or changed"
            )

    def _read_group_ids(self, name: str) -> np.ndarray:
        import pyarrow as pa

        chunks: list[pa.DictionaryArray] = []
        for block in self.blocks:
            where = f"{self.files[block.file]}: column '{name}' (key 'group_id')"
            for batch, row in self._batches(block, [name], True):
                column = batch.column(name)
                if pa.types.is_nested(column.type):
                    raise DataError(f"{where}: found {column.type}, expected one value per row")
                check_present(column, where, row)
                if pa.types.is_floating(column.type):
                    check_groups_present(column.to_numpy(zero_copy_only=False), where, row)
                if chunks and column.type != chunks[0].type.value_type:
                    first = chunks[0].type.value_type
                    raise DataError(f"{where}: found {column.type}, expected {first} as before it")
                chunks.append(column.dictionary_encode())
        if not chunks:
            return np.empty(0, dtype=np.int64)
        # One dictionary for all chunks: equal values get equal indices.
        unified = pa.chunked_array(chunks).unify_dictionaries().chunks
        return np.concatenate([chunk.indices.to_numpy() for chunk in unified]).astype(np.int64)


def _state_of(path: Path) -> tuple[int, ...]:
    """Returns numbers that change when a file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _opened(
    path: Path, metadata: pq.FileMetaData | None = None, buffer: int | None = None
) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa

    try:
        with open_parquet(path, metadata, buffer) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not readable as parquet ({brief(error)}); rebuild the dataset"
        ) from error


def _make_blocks(file: int, metadata: pq.FileMetaData, where: str) -> Iterator[Block]:
    groups: list[int] = []
    first_row = num_rows = 0
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(sizes, default=0) < 0 or sum(sizes) != metadata.num_rows:
        raise DataError(
            f"{where}: damaged: it declares {metadata.num_rows:,} rows, its row groups "
            f"{sum(sizes):,}; rebuild the dataset"
        )
    for group, size in enumerate(sizes):
        if groups and num_rows + size > SLICE_ROWS:
            yield Block(file, tuple(groups), first_row, num_rows)
            first_row, num_rows, groups = first_row + num_rows, 0, []
        groups.append(group)
        num_rows += size
    if num_rows:
        yield Block(file, tuple(groups), first_row, num_rows)
