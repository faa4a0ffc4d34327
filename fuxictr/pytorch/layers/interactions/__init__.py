"""Interactions of fields: products, crosses, and networks of them."""

from fuxictr.pytorch.layers.interactions.bilinear import BilinearInteraction, BilinearInteractionV2
from fuxictr.pytorch.layers.interactions.compressed_interaction_net import CompressedInteractionNet
from fuxictr.pytorch.layers.interactions.cross_net import (
    CrossInteraction,
    CrossNet,
    CrossNetMix,
    CrossNetV2,
)
from fuxictr.pytorch.layers.interactions.generative_cin import GenerativeCIN
from fuxictr.pytorch.layers.interactions.generative_cross_net import GenerativeCrossNet
from fuxictr.pytorch.layers.interactions.holographic import HolographicInteraction
from fuxictr.pytorch.layers.interactions.inner_product import InnerProductInteraction
from fuxictr.pytorch.layers.interactions.interaction_machine import InteractionMachine
from fuxictr.pytorch.layers.interactions.pair_interactions import (
    MatrixPairSum,
    WeightedPairSum,
    pair_products,
    pair_sum,
)

__all__ = [
    "BilinearInteraction",
    "BilinearInteractionV2",
    "CompressedInteractionNet",
    "CrossInteraction",
    "CrossNet",
    "CrossNetMix",
    "CrossNetV2",
    "GenerativeCIN",
    "GenerativeCrossNet",
    "HolographicInteraction",
    "InnerProductInteraction",
    "InteractionMachine",
    "MatrixPairSum",
    "WeightedPairSum",
    "pair_products",
    "pair_sum",
]
