"""Layers: embeddings, blocks, generation, interactions."""

from fuxictr.pytorch.layers.blocks import LogisticRegression, MLP_Block
from fuxictr.pytorch.layers.embeddings import FeatureEmbedding
from fuxictr.pytorch.layers.generation import (
    GEN,
    build_generators,
    generator_config,
    target_side,
)
from fuxictr.pytorch.layers.interactions import (
    CompressedInteractionNet,
    CrossNet,
    MatrixPairSum,
    WeightedPairSum,
    pair_products,
    pair_sum,
)

__all__ = [
    "GEN",
    "CompressedInteractionNet",
    "CrossNet",
    "FeatureEmbedding",
    "LogisticRegression",
    "MLP_Block",
    "MatrixPairSum",
    "WeightedPairSum",
    "build_generators",
    "generator_config",
    "pair_products",
    "pair_sum",
    "target_side",
]
