"""Early stopping on the monitor."""

from __future__ import annotations

from dataclasses import dataclass

from fuxictr.errors import ConfigError


@dataclass
class EarlyStopping:
    """Follows the monitor: when it improved, when to lower the rate, when to stop.

    ``mode`` is max or min; another is a ConfigError. ``patience`` is the number of evaluations
    without improvement before stopping, ``min_delta`` the least improvement that counts.
    """

    mode: str = "max"
    patience: int = 2
    min_delta: float = 1e-6
    best: float | None = None
    num_stalled: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("max", "min"):
            raise ConfigError(f"the mode of EarlyStopping: found {self.mode!r}, allowed: max, min")

    def improved(self, value: float) -> bool:
        """Counts one evaluation; returns whether it is the best so far."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.best is None or sign * (value - self.best) > self.min_delta:
            self.best, self.num_stalled = value, 0
            return True
        self.num_stalled += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience is used up."""
        return self.num_stalled >= self.patience
