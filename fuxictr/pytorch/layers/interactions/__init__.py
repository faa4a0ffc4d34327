"""Interaction operators: (left, right) in, each written once."""

from fuxictr.pytorch.layers.interactions.compressed_interaction import CompressedInteractionNet
from fuxictr.pytorch.layers.interactions.cross_net import CrossNet

__all__ = ["CompressedInteractionNet", "CrossNet"]
