"""Raw click logs in, encoded parquet out."""

from fuxictr.preprocess.dataset.build import build_dataset, find_current, prepare_dataset
from fuxictr.preprocess.dataset.finished import (
    EncodedDataset,
    check_current,
    find_built,
    load_encoders,
)
from fuxictr.preprocess.dataset.processor import FeatureProcessor

__all__ = [
    "EncodedDataset",
    "FeatureProcessor",
    "build_dataset",
    "check_current",
    "find_built",
    "find_current",
    "load_encoders",
    "prepare_dataset",
]
