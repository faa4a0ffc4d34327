"""Epochs, steps and evaluation: how a model is trained."""
