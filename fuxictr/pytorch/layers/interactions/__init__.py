"""Interaction operators: (left, right) in, each written once."""

from fuxictr.pytorch.layers.interactions.compressed_interaction import CompressedInteractionNet
from fuxictr.pytorch.layers.interactions.cross_net import CrossNet
from fuxictr.pytorch.layers.interactions.pair_interactions import (
    MatrixPairSum,
    WeightedPairSum,
    pair_products,
    pair_sum,
)

__all__ = [
    "CompressedInteractionNet",
    "CrossNet",
    "MatrixPairSum",
    "WeightedPairSum",
    "pair_products",
    "pair_sum",
]
