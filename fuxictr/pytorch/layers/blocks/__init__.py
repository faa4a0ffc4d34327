"""Blocks that many backbones share."""
