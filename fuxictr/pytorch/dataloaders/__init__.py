"""Loaders of encoded data."""

from fuxictr.pytorch.dataloaders.columnar import ColumnarData, from_arrays, make_layout
from fuxictr.pytorch.dataloaders.encoded import open_parquet, read_encoded
from fuxictr.pytorch.dataloaders.iterators import BatchIterator, EpochIterator
from fuxictr.pytorch.dataloaders.parquet import ParquetRows
from fuxictr.pytorch.dataloaders.rank_dataloader import RankDataLoader
from fuxictr.pytorch.dataloaders.row_ranges import RowRanges
from fuxictr.pytorch.dataloaders.share import Share
from fuxictr.pytorch.dataloaders.streaming import StreamingIterator

__all__ = [
    "BatchIterator",
    "ColumnarData",
    "EpochIterator",
    "ParquetRows",
    "RankDataLoader",
    "RowRanges",
    "Share",
    "StreamingIterator",
    "from_arrays",
    "make_layout",
    "open_parquet",
    "read_encoded",
]
