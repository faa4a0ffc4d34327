"""How tables name runs and write numbers, and their csv files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fuxictr.datasets import registry
from fuxictr.experiment.tables.seed_runs import SeedRuns


def to_csv(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Returns csv with all digits; a missing value is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def describe_runs(sides: Sequence[SeedRuns], dataset: str, name_expids: bool = False) -> str:
    """Returns the data, their rows, the seeds and on demand the expids of runs, as one sentence."""
    text = registry.dataset_id_of(dataset)
    rows = [run.rows for side in sides for run in side.runs.values()]
    if rows and rows[0] and all(found == rows[0] for found in rows):
        text += f" ({', '.join(f'{n:,} {split}' for split, n in rows[0].items())} rows)"
    groups: dict[str, list[str]] = {}
    for side in sides:
        groups.setdefault(", ".join(map(str, side.seeds)) or "none", []).append(side.expid)
    if len(groups) == 1:
        parts = [f"seeds {seeds}" for seeds in groups]
    else:
        parts = [f"seeds {seeds} of {', '.join(expids)}" for seeds, expids in groups.items()]
    if name_expids:
        parts.append(f"configs of model_zoo: {', '.join(side.expid for side in sides)}")
    return "; ".join([text, *parts]) + "."


def format_mean(side: SeedRuns, metric: str) -> str:
    """Returns ``0.712345 ± 0.000123``, or what is missing."""
    value, deviation = side.mean(metric), side.std(metric)
    if value is None:
        return side.status
    return f"{value:.6f}" + ("" if deviation is None else f" ± {deviation:.6f}")


def format_p(p: float | None) -> str:
    """Returns ``0.012`` or ``<0.001``, empty where the test is not defined."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def format_number(value: float | None, spec: str = ".6f") -> str:
    """Returns the number in a format, empty for None."""
    return "" if value is None else f"{value:{spec}}"
