"""Trained weights in, recorded embeddings out."""
