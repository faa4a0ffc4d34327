"""Interaction operators: (left, right) in, each written once."""

from fuxictr.pytorch.layers.interactions.pair_interactions import pair_sum

__all__ = ["pair_sum"]
