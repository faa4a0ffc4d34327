"""The numbers of a model's recordings as a csv file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from fuxictr.analysis.summary import RunSummary
from fuxictr.plotting.naming import figure_stem
from fuxictr.plotting.style import save_numbers


def write_summary(
    root: str | Path, dataset_id: str, model: str, summaries: Iterable[RunSummary]
) -> Path:
    """Writes ``<model>_summary.csv``, one row per run; returns its path."""
    return save_numbers(
        f"{figure_stem(root, dataset_id, f'{model}_summary')}.csv",
        [field.name for field in fields(RunSummary)],
        (list(asdict(summary).values()) for summary in summaries),
    )
