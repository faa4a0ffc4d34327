"""A run described, repeated and compared."""
