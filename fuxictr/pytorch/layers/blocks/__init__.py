"""Blocks that many backbones share."""

from fuxictr.pytorch.layers.blocks.logistic_regression import LogisticRegression
from fuxictr.pytorch.layers.blocks.mlp_block import BatchNorm, MLP_Block

__all__ = ["BatchNorm", "LogisticRegression", "MLP_Block"]
