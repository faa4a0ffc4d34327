"""FeatureMap: which fields a dataset has, in which order, and how many values each takes."""

from fuxictr.features.encoders import (
    POOLINGS,
    Encoder,
    allowed_encoders,
    fuxictr_pooling,
    is_encoder,
    parse_encoder,
    parse_pooling,
)
from fuxictr.features.feature_map import FeatureMap
from fuxictr.features.specs import FIELD_TYPES, ID_TYPES, SPEC_KEYS

__all__ = [
    "FIELD_TYPES",
    "ID_TYPES",
    "POOLINGS",
    "SPEC_KEYS",
    "Encoder",
    "FeatureMap",
    "allowed_encoders",
    "fuxictr_pooling",
    "is_encoder",
    "parse_encoder",
    "parse_pooling",
]
