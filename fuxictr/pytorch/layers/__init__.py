"""Layers: embeddings, blocks, generation, interactions."""

from fuxictr.pytorch.layers.blocks.logistic_regression import LogisticRegression
from fuxictr.pytorch.layers.blocks.mlp_block import BatchNorm, MLP_Block, idle_without_layers
from fuxictr.pytorch.layers.embeddings import (
    FeatureEmbedding,
    FeatureEmbeddingDict,
    MixedEmbedding,
    make_embedding,
)
from fuxictr.pytorch.layers.generation import GEN, build_generators, generator_config, target_side
from fuxictr.pytorch.layers.interactions.compressed_interaction import CompressedInteractionNet
from fuxictr.pytorch.layers.interactions.cross_net import CrossNet
from fuxictr.pytorch.layers.interactions.pair_interactions import (
    MatrixPairSum,
    WeightedPairSum,
    pair_products,
    pair_sum,
)
from fuxictr.pytorch.layers.pooling import KMaxPooling, MaskedAveragePooling, MaskedSumPooling

__all__ = [
    "GEN",
    "BatchNorm",
    "CompressedInteractionNet",
    "CrossNet",
    "FeatureEmbedding",
    "FeatureEmbeddingDict",
    "KMaxPooling",
    "LogisticRegression",
    "MLP_Block",
    "MaskedAveragePooling",
    "MaskedSumPooling",
    "MatrixPairSum",
    "MixedEmbedding",
    "WeightedPairSum",
    "build_generators",
    "generator_config",
    "idle_without_layers",
    "make_embedding",
    "pair_products",
    "pair_sum",
    "target_side",
]
