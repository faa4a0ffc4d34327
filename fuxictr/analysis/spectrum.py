"""The spectrum of embeddings: which of their dimensions carry variance (dimensional collapse).

If all rows are equal, all singular values are zero, with logarithms -inf. RankMe, information
abundance and numbers of dimensions are then 0 by definition; the condition number is inf.
"""

from __future__ import annotations

import numpy as np

from fuxictr.analysis.moments import centred_product
from fuxictr.errors import DataError

RANKME_EPSILON = 1e-7
EFFECTIVE_THRESHOLD = 1e-6
HELD_SHARE = 0.98
MAX_CONDITION = 1e14


def covariance(embeddings: np.ndarray) -> np.ndarray:
    """Returns the centred covariance (1 / rows) (X - mean)^T (X - mean), (D, D), float64.

    Raises DataError if ``embeddings`` (rows, D) is empty, no matrix, or not finite.
    """
    return centred_product(embeddings, embeddings) / len(embeddings)


def singular_values(embeddings: np.ndarray) -> np.ndarray:
    """Returns the singular values of the covariance of (rows, D), falling, (D,), float64.

    Values below about 1e-16 of the largest are rounding noise.
    """
    return np.linalg.svd(covariance(embeddings), compute_uv=False, hermitian=True)


def field_spectra(embeddings: np.ndarray) -> np.ndarray:
    """Returns the singular values of each field of (rows, F, D) on its own, (F, D)."""
    return np.stack([singular_values(field) for field in np.moveaxis(embeddings, 1, 0)])


def normalized(values: np.ndarray) -> np.ndarray:
    """Returns the singular values divided by the largest of them; zeros where all are zero."""
    values = np.asarray(values, dtype=np.float64)
    largest = values.max()
    return values / largest if largest > 0 else np.zeros_like(values)


def log_spectrum(values: np.ndarray) -> np.ndarray:
    """Returns the natural logarithm of the normalised singular values; -inf where one is zero."""
    with np.errstate(divide="ignore"):
        return np.log(normalized(values))


def rankme(values: np.ndarray) -> float:
    """Returns RankMe, an effective rank in [0, D]: exp(-sum p log p) with p = S / sum(S) + 1e-7.

    Source: Garrido et al., RankMe, ICML 2023.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.max() <= 0:
        return 0.0
    p = values / values.sum() + RANKME_EPSILON
    return float(np.exp(-np.sum(p * np.log(p))))


def information_abundance(values: np.ndarray) -> float:
    """Returns sum(S) / max(S), in [1, D], or 0 for embeddings without variance.

    Source: Guo et al., On the Embedding Collapse When Scaling up Recommendation Models, ICML 2024.
    """
    return float(normalized(values).sum())


def effective_dimensions(values: np.ndarray, threshold: float = EFFECTIVE_THRESHOLD) -> int:
    """Returns how many singular values lie above ``threshold`` times the largest."""
    return int(np.count_nonzero(normalized(values) > threshold))


def condition_number(values: np.ndarray) -> float:
    """Returns the largest singular value over the smallest, at least 1; inf where that is 0.

    Above MAX_CONDITION the smallest is rounding noise: some direction carries no variance.
    """
    values = np.asarray(values, dtype=np.float64)
    largest, smallest = float(values.max()), float(values.min())
    return largest / smallest if smallest > 0 else float("inf")


def describe_condition(value: float) -> str:
    """Returns a condition number for a table, ``1.2e+05``, or ``> 1e14`` where it is noise."""
    return f"{value:.1e}" if value <= MAX_CONDITION else "> 1e14"


def dimensions_holding(values: np.ndarray, share: float = HELD_SHARE) -> int:
    """Returns how many of the largest singular values hold ``share`` of the sum of all."""
    held = np.cumsum(np.sort(normalized(values))[::-1])
    if held[-1] <= 0:
        return 0
    enough = share * held[-1] * (1 - 1e-12)  # allows for rounding
    return int(np.searchsorted(held, enough)) + 1


def rank_bound(embeddings: np.ndarray, width: int) -> int:
    """Returns an upper bound of the matrix rank of centred (rows, F * D): sum_i min(D, c_i - 1).

    c_i is the number of different vectors of field i in the sample. Centred, they span at most
    c_i - 1 dimensions, and 1 if all are multiples of one vector, as those of a numeric field. No
    training can lift a raw field of few values above it. ``width`` is D.

    Raises DataError if the rows are no whole number of fields of that width.
    """
    rows, size = embeddings.shape
    if size % width:
        raise DataError(f"embeddings of {size} dimensions are no fields of width {width}")
    fields = np.ascontiguousarray(np.moveaxis(embeddings.reshape(rows, -1, width), 1, 0))
    return sum(
        min(width, 1 if _is_line(field) else width, _count_vectors(field, width + 1) - 1)
        for field in fields
    )


def _is_line(field: np.ndarray) -> bool:
    """Returns whether all rows of (rows, D) are multiples of one vector, up to rounding."""
    norms = np.linalg.norm(field, axis=1)
    if not norms.any():
        return True
    direction = field[norms.argmax()] / norms.max()
    rest = field - np.outer(field @ direction, direction)
    return bool(np.abs(rest).max() <= 1e-5 * norms.max())


def _count_vectors(field: np.ndarray, enough: int) -> int:
    """Returns the number of different rows of (rows, D); stops early once ``enough`` are found."""
    for part in (field[:1000], field):
        whole = np.ascontiguousarray(part).view(np.dtype((np.void, part.itemsize * part.shape[1])))
        count = len(np.unique(whole))
        if count >= enough:
            break
    return count
