"""Weights and the state of a training on disk, and back."""
