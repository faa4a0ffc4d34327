"""Columns that a user's functions make from raw columns."""
