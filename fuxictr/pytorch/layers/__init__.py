"""Layers: embeddings, blocks, generation, interactions, attentions."""

from fuxictr.pytorch.layers import activations as activations
from fuxictr.pytorch.layers.activations import GELU, Dice
from fuxictr.pytorch.layers.attentions import (
    DIN_Attention,
    MultiHeadTargetAttention,
    ScaledDotProductAttention,
    SqueezeExcitation,
)
from fuxictr.pytorch.layers.blocks.factorization_machine import FactorizationMachine
from fuxictr.pytorch.layers.blocks.logistic_regression import LogisticRegression
from fuxictr.pytorch.layers.blocks.mlp_block import BatchNorm, MLP_Block, idle_without_layers
from fuxictr.pytorch.layers.embeddings import (
    FeatureEmbedding,
    FeatureEmbeddingDict,
    MixedEmbedding,
    make_embedding,
)
from fuxictr.pytorch.layers.generation import GEN, build_generators, generator_config, target_side
from fuxictr.pytorch.layers.interactions import (
    BilinearInteraction,
    BilinearInteractionV2,
    CompressedInteractionNet,
    CrossInteraction,
    CrossNet,
    CrossNetMix,
    CrossNetV2,
    GenerativeCIN,
    GenerativeCrossNet,
    HolographicInteraction,
    InnerProductInteraction,
    InteractionMachine,
    MatrixPairSum,
    WeightedPairSum,
    pair_products,
    pair_sum,
)
from fuxictr.pytorch.layers.pooling import KMaxPooling, MaskedAveragePooling, MaskedSumPooling

__all__ = [
    "GELU",
    "GEN",
    "BatchNorm",
    "BilinearInteraction",
    "BilinearInteractionV2",
    "CompressedInteractionNet",
    "CrossInteraction",
    "CrossNet",
    "CrossNetMix",
    "CrossNetV2",
    "DIN_Attention",
    "Dice",
    "FactorizationMachine",
    "FeatureEmbedding",
    "FeatureEmbeddingDict",
    "GenerativeCIN",
    "GenerativeCrossNet",
    "HolographicInteraction",
    "InnerProductInteraction",
    "InteractionMachine",
    "KMaxPooling",
    "LogisticRegression",
    "MLP_Block",
    "MaskedAveragePooling",
    "MaskedSumPooling",
    "MatrixPairSum",
    "MixedEmbedding",
    "MultiHeadTargetAttention",
    "ScaledDotProductAttention",
    "SqueezeExcitation",
    "WeightedPairSum",
    "build_generators",
    "generator_config",
    "idle_without_layers",
    "make_embedding",
    "pair_products",
    "pair_sum",
    "target_side",
]
