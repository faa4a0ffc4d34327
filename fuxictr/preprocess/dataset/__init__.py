"""Encoded datasets: built, cached, published and read again."""
