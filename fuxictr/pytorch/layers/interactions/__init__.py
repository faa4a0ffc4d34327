"""Interaction operators: (left, right) in, each written once."""
