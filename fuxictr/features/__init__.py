"""FeatureMap: which fields a dataset has, in which order, and how many values each takes."""

from fuxictr.features.feature_map import FeatureMap
from fuxictr.features.specs import (
    FIELD_TYPES,
    ID_TYPES,
    POOLINGS,
    SPEC_KEYS,
    fuxictr_pooling,
    parse_pooling,
)

__all__ = [
    "FIELD_TYPES",
    "ID_TYPES",
    "POOLINGS",
    "SPEC_KEYS",
    "FeatureMap",
    "fuxictr_pooling",
    "parse_pooling",
]
