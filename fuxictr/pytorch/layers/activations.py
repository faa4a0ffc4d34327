"""Activations, under the path that FuxiCTR's users import them from."""

from fuxictr.pytorch.activations import GELU, Dice

__all__ = ["GELU", "Dice"]
