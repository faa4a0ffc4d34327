"""The redundancy of two interacting sides: the correlations between all their dimensions."""

from __future__ import annotations

import numpy as np

from fuxictr.analysis.moments import centred_product, centred_squares
from fuxictr.errors import DataError


def correlation_matrix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the Pearson correlations of the columns of two matrices, (D_left, D_right), float64.

    A^T B / (rows - 1), where A (rows, D_left) and B (rows, D_right) are the z-scored sides, with
    standard deviations over rows - 1 too. A constant dimension has correlation 0 with all others.

    Raises DataError if sides are empty, not finite, under two rows, or differ in rows.
    """
    product = centred_product(left, right)
    if len(left) < 2:
        raise DataError("a correlation needs two rows at least; found 1")
    # The factors 1 / (rows - 1) of the product and of the two standard deviations cancel.
    scale = np.sqrt(np.outer(centred_squares(left), centred_squares(right)))
    correlation = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return np.clip(correlation, -1.0, 1.0)


def mean_absolute_correlation(matrix: np.ndarray) -> float:
    """Returns the mean of |r| over a correlation matrix; constant dimensions count as 0.

    For DIS, where a side meets itself, the ones of the diagonal add at most 1 / D.
    """
    return float(np.abs(matrix).mean())
