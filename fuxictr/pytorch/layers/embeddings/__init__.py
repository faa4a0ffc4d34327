"""Embedding layers."""

from fuxictr.pytorch.layers.embeddings.feature_embedding import FeatureEmbedding

__all__ = ["FeatureEmbedding"]
