"""Runs of experiments, their results, and the tables made from them."""
