"""Embedding tables over several processes: sharded by rows, or full on each of them."""
