"""Attention: over fields, over a sequence, and gates of fields."""

from fuxictr.pytorch.layers.attentions.din_attention import DIN_Attention
from fuxictr.pytorch.layers.attentions.scaled_dot_product import ScaledDotProductAttention
from fuxictr.pytorch.layers.attentions.squeeze_excitation import SqueezeExcitation
from fuxictr.pytorch.layers.attentions.target_attention import MultiHeadTargetAttention

__all__ = [
    "DIN_Attention",
    "MultiHeadTargetAttention",
    "ScaledDotProductAttention",
    "SqueezeExcitation",
]
