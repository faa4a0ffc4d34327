"""Embedding layers."""

from fuxictr.pytorch.layers.embeddings.feature_embedding import FeatureEmbedding
from fuxictr.pytorch.layers.embeddings.mixed_embedding import MixedEmbedding, make_embedding

__all__ = ["FeatureEmbedding", "MixedEmbedding", "make_embedding"]
