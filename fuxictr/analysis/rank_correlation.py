"""Spearman's rank correlation: whether two numbers of runs or fields rise together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation; equal values share their mean position.

    None for fewer than three pairs, or a side of equal values.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} numbers; pairs are needed")
    if len(first) < 3:
        return None
    left, right = (
        _centred_positions(np.asarray(side, dtype=np.float64)) for side in (first, second)
    )
    scale = np.sqrt((left @ left) * (right @ right))
    return float(np.clip(left @ right / scale, -1, 1)) if scale > 0 else None


def _centred_positions(values: np.ndarray) -> np.ndarray:
    """Returns each value's position in ascending order, minus the mean position."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse] - (len(values) + 1) / 2
