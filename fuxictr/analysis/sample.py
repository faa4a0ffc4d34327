"""Which rows are recorded: of every analysis. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from fuxictr.errors import DataError


@dataclass(frozen=True)
class Sample:
    """Which validation rows are recorded: ``num_rows`` of them, or all there are, shuffled."""

    num_rows: int = 50_000
    seed: int = 2019

    def __post_init__(self) -> None:
        if self.num_rows < 2:
            raise DataError(f"--rows {self.num_rows}: allowed: >= 2")
