"""Embedding tables over several processes: in shares, or whole on each of them."""
