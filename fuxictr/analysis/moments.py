"""Means and centred products of large embedding matrices, in float64 and chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fuxictr.errors import DataError

CHUNK_ROWS = 8192


def column_means(embeddings: np.ndarray) -> np.ndarray:
    """Returns the means (D,), float64, exact for a constant column; DataError if not finite."""
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise DataError(
            f"embeddings of shape {embeddings.shape}: a matrix (rows, dimensions) that is not "
            f"empty is needed"
        )
    # Summing differences to the first row makes the mean of a constant column exact.
    first_row = embeddings[0].astype(np.float64)
    total = np.zeros(embeddings.shape[1])
    with np.errstate(invalid="ignore"):
        for chunk in _chunks(embeddings, first_row):
            total += chunk.sum(axis=0)
        means = first_row + total / len(embeddings)
    broken = np.flatnonzero(~np.isfinite(means))
    if broken.size:
        raise DataError(
            f"embeddings hold NaN or infinite values in {broken.size} of {means.size} dimensions "
            f"(the first: {broken[0]}); the model has diverged, train it again"
        )
    return means


def centred_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns sum over rows of (left - mean)^T (right - mean), (D_left, D_right), float64.

    Raises DataError if the numbers of rows differ, or as ``column_means``.
    """
    left_means = column_means(left)
    if left is right:
        product = np.zeros((left_means.size, left_means.size))
        for chunk in _chunks(left, left_means):
            product += chunk.T @ chunk
        return product
    right_means = column_means(right)
    if len(left) != len(right):
        raise DataError(f"the sides have {len(left)} and {len(right)} rows; they must be equal")
    product = np.zeros((left_means.size, right_means.size))
    chunks = zip(_chunks(left, left_means), _chunks(right, right_means), strict=True)
    for left_chunk, right_chunk in chunks:
        product += left_chunk.T @ right_chunk
    return product


def centred_squares(embeddings: np.ndarray) -> np.ndarray:
    """Returns sum over rows of (x - mean)^2 for each column (D,); raises as ``column_means``."""
    means = column_means(embeddings)
    return sum(np.square(chunk).sum(axis=0) for chunk in _chunks(embeddings, means))


def _chunks(embeddings: np.ndarray, offset: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(embeddings), CHUNK_ROWS):
        yield embeddings[start : start + CHUNK_ROWS].astype(np.float64) - offset
