"""Which rows an analysis records; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from fuxictr.errors import DataError


@dataclass(frozen=True)
class Sample:
    """Which validation rows are recorded: a shuffled sample of at most ``num_rows``."""

    num_rows: int = 50_000
    seed: int = 2019

    def __post_init__(self) -> None:
        if self.num_rows < 2:
            raise DataError(f"--rows {self.num_rows}: allowed: >= 2")
