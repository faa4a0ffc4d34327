"""The paper's tables from the results store alone: DIS beside GEN, ablations, published figures."""

from fuxictr.experiment.tables.ablations import ablation_markdown, write_ablation_tables
from fuxictr.experiment.tables.backbones import COLUMNS, find_ceiling, to_markdown, write_tables
from fuxictr.experiment.tables.comparisons import (
    ArmResult,
    Comparison,
    ablation_results,
    compare_backbones,
)
from fuxictr.experiment.tables.published import write_average_lifts
from fuxictr.experiment.tables.seed_runs import SeedRuns

__all__ = [
    "COLUMNS",
    "ArmResult",
    "Comparison",
    "SeedRuns",
    "ablation_markdown",
    "ablation_results",
    "compare_backbones",
    "find_ceiling",
    "to_markdown",
    "write_ablation_tables",
    "write_average_lifts",
    "write_tables",
]
