"""Numbers that float32, or float64 before it, cannot tell apart."""

from __future__ import annotations

import numpy as np
import polars as pl

from fuxictr.preprocess.columns.normalizers import Normalizer
from fuxictr.preprocess.columns.whole_numbers import merged_integers

# Relative difference that rounding in float64 explains, and share of values that matters.
_NOISE, _MATERIAL = 1e-11, 0.1


def precision_note(
    name: str, raw: pl.Series, values: np.ndarray, normalizer: Normalizer | None
) -> str | None:
    """Returns a sentence on values of a numeric column that become equal, or None.

    Args:
        name: the column.
        raw: its cells, (rows,).
        values: the numbers in them, (rows,) float64.
        normalizer: what scales these before they become float32; None = nothing.
    """
    if (np.abs(values) >= 2.0**53).any():
        integers = merged_integers(raw)
        if integers is not None:
            return (
                f"column '{name}': {integers[0]} and {integers[1]} are one number in float64; is "
                "it an id? Make it categorical, with dtype: int or str"
            )
    merged = merged_in_float32(values, normalizer)
    if merged is None:
        return None
    share, first, second = merged
    advice = "set a normalizer, which computes in float64, or subtract a constant beforehand"
    if normalizer is not None:
        advice = (
            "though they are scaled in float64: an outlier, or fill_na, is far from the other "
            "values; set another fill_na or subtract a constant beforehand"
        )
    return (
        f"column '{name}': {100 * share:.3g} % of its distinct values become equal to the next one "
        f"in float32, as {first:.17g} and {second:.17g}; {advice}"
    )


def merged_in_float32(
    values: np.ndarray, normalizer: Normalizer | None = None
) -> tuple[float, float, float] | None:
    """Returns how many distinct values float32 makes equal to the next one, or None where few.

    Epoch seconds, say: 128 s are one float32. Values that differ in the last digits of float64
    only count as equal.

    Args:
        values: the values (rows,) float64.
        normalizer: what scales them before they become float32; None = nothing.

    Returns:
        The share of the distinct values, and two neighbours that become equal.
    """
    scaled = values if normalizer is None else normalizer.apply(values)
    if (scaled.astype(np.float32) == scaled).all():
        return None
    distinct = np.unique(values)
    scaled = distinct if normalizer is None else normalizer.apply(distinct)
    differ = np.diff(distinct) > _NOISE * np.abs(distinct[1:])
    merged = differ & (np.diff(scaled.astype(np.float32)) == 0)
    if merged.sum() < max(_MATERIAL * len(distinct), 1):
        return None
    place = int(merged.argmax())
    return float(merged.mean()), float(distinct[place]), float(distinct[place + 1])
