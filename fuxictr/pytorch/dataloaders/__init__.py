"""Loaders of encoded data."""

from fuxictr.pytorch.dataloaders.columnar import ColumnarData, from_arrays, read_parquet
from fuxictr.pytorch.dataloaders.rank_dataloader import BatchIterator, RankDataLoader

__all__ = ["BatchIterator", "ColumnarData", "RankDataLoader", "from_arrays", "read_parquet"]
