"""Raw click logs in, encoded parquet out."""

from fuxictr.preprocess.build import (
    EncodedDataset,
    build_dataset,
    find_built,
    load_encoders,
    prepare_dataset,
)
from fuxictr.preprocess.processor import FeatureProcessor

__all__ = [
    "EncodedDataset",
    "FeatureProcessor",
    "build_dataset",
    "find_built",
    "load_encoders",
    "prepare_dataset",
]
