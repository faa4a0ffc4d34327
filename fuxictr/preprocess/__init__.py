"""Raw click logs in, encoded parquet out."""

from fuxictr.preprocess.build import EncodedDataset, build_dataset, prepare_dataset
from fuxictr.preprocess.processor import FeatureProcessor

__all__ = ["EncodedDataset", "FeatureProcessor", "build_dataset", "prepare_dataset"]
