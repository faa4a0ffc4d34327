"""How parquet files are opened: memory is bounded whatever they declare, checksums are compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_WHOLE_BYTES, _BUFFER = 1 << 25, 1 << 20


def read_buffer(path: Path, metadata: pq.FileMetaData) -> int:
    """Returns the buffer to read a file's columns with, in bytes; 0 = a whole row group's.

    A buffered reader takes the memory that a page declares, up to 2 GB, before it sees that the
    file does not have it. So only row groups that are large themselves are buffered.
    """
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    largest = max((group.total_byte_size for group in groups), default=0)
    return 0 if min(largest, path.stat().st_size) <= _WHOLE_BYTES else _BUFFER


def open_parquet(
    path: Path, metadata: pq.FileMetaData | None = None, buffer: int | None = None
) -> pq.ParquetFile:
    """Opens a parquet file; ``metadata`` and ``buffer`` (see read_buffer) may be known before.

    A damaged file raises pyarrow.ArrowException, OSError or UnicodeDecodeError.
    """
    import pyarrow.parquet as pq

    if metadata is None:
        metadata = pq.read_metadata(path)
    return pq.ParquetFile(
        path,
        metadata=metadata,
        buffer_size=read_buffer(path, metadata) if buffer is None else buffer,
        pre_buffer=False,  # it would hold all bytes of a row group
        page_checksum_verification=True,
    )
