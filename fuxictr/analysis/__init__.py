"""Recorded embeddings: arrays in, numbers out."""
