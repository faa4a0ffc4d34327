"""Uniformity: how evenly the directions of embeddings cover the unit sphere."""

from __future__ import annotations

import math

import numpy as np

from fuxictr.analysis.moments import column_means

TEMPERATURE = 2.0
MAX_ROWS = 5000
_CHUNK_ROWS = 1000


def uniformity(embeddings: np.ndarray, max_rows: int = MAX_ROWS) -> float:
    """Returns log of the mean of exp(-2 ||x - y||^2) over all pairs of rows, x and y of length 1.

    0 if all rows have one direction, lower the more evenly they are spread, never below -8. Rows of
    zeros are left out; the result is 0 if fewer than two others remain. In float64; of more than
    ``max_rows``, so many evenly spaced ones are used. Raises DataError as ``column_means``.

    Source: Wang and Isola, Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere, ICML 2020, with its t of 2.
    """
    column_means(embeddings)  # checks shape and values
    count = min(max_rows, len(embeddings))
    rows = embeddings[np.arange(count) * len(embeddings) // count].astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, None]
    num_rows = len(rows)
    if num_rows < 2:
        return 0.0
    total = 0.0
    for start in range(0, num_rows, _CHUNK_ROWS):
        cosines = rows[start : start + _CHUNK_ROWS] @ rows.T
        squared = np.maximum(2 - 2 * cosines, 0)  # ||x - y||^2 of rows of length 1
        total += float(np.exp(-TEMPERATURE * squared).sum())
    # Each row meets itself once, at distance 0, which is not a pair, and each other row twice.
    return math.log(max(total - num_rows, 0.0) / (num_rows * (num_rows - 1)))
