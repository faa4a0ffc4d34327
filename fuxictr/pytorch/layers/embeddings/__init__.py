"""Embedding layers."""

from fuxictr.pytorch.layers.embeddings.feature_embedding import (
    FeatureEmbedding,
    FeatureEmbeddingDict,
)
from fuxictr.pytorch.layers.embeddings.field_blocks import FieldBlocks
from fuxictr.pytorch.layers.embeddings.mixed_embedding import MixedEmbedding, make_embedding
from fuxictr.pytorch.layers.embeddings.own_table import OwnTable
from fuxictr.pytorch.layers.embeddings.row_share import RowShare

__all__ = [
    "FeatureEmbedding",
    "FeatureEmbeddingDict",
    "FieldBlocks",
    "MixedEmbedding",
    "OwnTable",
    "RowShare",
    "make_embedding",
]
