"""Raw click logs in, encoded parquet out."""

from fuxictr.preprocess.build import build_dataset, find_current, prepare_dataset
from fuxictr.preprocess.finished import EncodedDataset, find_built, load_encoders
from fuxictr.preprocess.processor import FeatureProcessor

__all__ = [
    "EncodedDataset",
    "FeatureProcessor",
    "build_dataset",
    "find_built",
    "find_current",
    "load_encoders",
    "prepare_dataset",
]
