"""Scaling of numeric columns, fitted on the training split."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from fuxictr.errors import ConfigError


class Normalizer:
    """Base of the normalizers: y = (x - shift) / scale.

    The parameters are fitted by frames of fixed size with sums in a fixed order, so that they are
    the same bits whatever the files, the threads and the machine.
    """

    name: ClassVar[str]

    def __init__(self, shift: float = 0.0, scale: float = 1.0) -> None:
        self.shift, self.scale = shift, scale

    def observe(self, values: np.ndarray) -> None:
        """Takes one frame's values (rows,) float64 into account."""
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
    """Returns the normalizer that ``to_json`` described.

    Raises:
        ConfigError: its name is unknown.
    """
    name = content["normalizer"]
    if name not in NORMALIZERS:
        raise ConfigError(f"normalizer '{name}': allowed: {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name](float(content["shift"]), float(content["scale"]))
