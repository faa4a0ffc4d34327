"""Scaling of numeric columns, and values that become equal in float32."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import polars as pl

from fuxictr.errors import ConfigError
from fuxictr.preprocess.columns.whole_numbers import merged_integers

# Relative difference that rounding in float64 explains, and share of values that matters.
_NOISE, _MATERIAL = 1e-11, 0.1


class Normalizer:
    """Base of the normalizers: y = (x - shift) / scale.

    Frames have a fixed size and sums a fixed order, so the fitted bits are the same on any machine.
    """

    name: ClassVar[str]

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        self.shift, self.scale = shift, scale

    def observe(self, values: np.ndarray) -> None:
        """Adds one frame's values (rows,) float64."""
        raise NotImplementedError

    def finish(self) -> None:
        """Sets shift and scale; a constant column keeps scale 1."""
        raise NotImplementedError

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Returns the scaled values (rows,)."""
        return (values - self.shift) / self.scale

    def to_json(self) -> dict[str, Any]:
        """Returns the fitted parameters."""
        return {"normalizer": self.name, "shift": self.shift, "scale": self.scale}


class StandardScaler(Normalizer):
    """y = (x - mean) / standard deviation, the latter over all rows (divisor n)."""

    name = "StandardScaler"

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(shift, scale)
        self._count = 0
        self._origin = math.nan
        self._sums: list[float] = []
        self._squares: list[float] = []

    def observe(self, values: np.ndarray) -> None:
        """Adds one frame's sums of x and x^2, both about the first value seen."""
        if not self._count:
            self._origin = float(values[0])
        centred = values - self._origin
        self._count += len(values)
        # A running sum adds in row order on every machine; np.sum's order depends on the CPU.
        self._sums.append(float(np.cumsum(centred)[-1]))
        self._squares.append(float(np.cumsum(centred * centred)[-1]))

    def finish(self) -> None:
        """Sets mean and standard deviation."""
        mean = math.fsum(self._sums) / self._count
        variance = max(math.fsum(self._squares) / self._count - mean * mean, 0.0)
        self.shift = self._origin + mean
        self.scale = math.sqrt(variance) or 1.0


class MinMaxScaler(Normalizer):
    """y = (x - min) / (max - min)."""

    name = "MinMaxScaler"

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(shift, scale)
        self._low, self._high = math.inf, -math.inf

    def observe(self, values: np.ndarray) -> None:
        """Widens the range by one frame's values."""
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def finish(self) -> None:
        """Sets minimum and range."""
        self.shift = self._low
        self.scale = (self._high - self._low) or 1.0


NORMALIZERS = {scaler.name: scaler for scaler in (StandardScaler, MinMaxScaler)}


def normalizer_from_json(content: dict[str, Any]) -> Normalizer:
    """Returns the normalizer that ``to_json`` described; ConfigError where it is unknown."""
    name = content["normalizer"]
    if name not in NORMALIZERS:
        raise ConfigError(f"normalizer '{name}': allowed: {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name](float(content["shift"]), float(content["scale"]))


def precision_note(
    name: str, raw: pl.Series, values: np.ndarray, normalizer: Normalizer | None
) -> str | None:
    """Returns a warning where ``values`` (float64) of ``raw`` cells become equal, or None."""
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
    """Returns the share of distinct values that merge in float32, and two of them; None for few.

    Float32 steps by 128 s in epoch seconds. Differences in the last digits of float64 do not count.
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
