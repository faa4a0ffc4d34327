"""Layers: embeddings, blocks, interactions, generation."""

from fuxictr.pytorch.layers.blocks import LogisticRegression, MLP_Block
from fuxictr.pytorch.layers.embeddings import FeatureEmbedding
from fuxictr.pytorch.layers.generation import GEN, build_generators
from fuxictr.pytorch.layers.interactions import pair_sum

__all__ = [
    "GEN",
    "FeatureEmbedding",
    "LogisticRegression",
    "MLP_Block",
    "build_generators",
    "pair_sum",
]
