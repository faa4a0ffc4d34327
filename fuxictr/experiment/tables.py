"""The results table: DIS and GEN side by side, from the results store alone."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError
from fuxictr.files import write_atomically

COLUMNS = (
    "model",
    "variant",
    "seeds",
    "test AUC",
    "AUC std",
    "AUC lift %",
    "test logloss",
    "logloss std",
    "logloss lift %",
    "parameters",
    "train rows/s",
    "seconds",
)
_DIGITS = {"test AUC": 6, "AUC std": 6, "test logloss": 6, "logloss std": 6}
_DIGITS |= {"AUC lift %": 3, "logloss lift %": 3, "seconds": 1}


@dataclass(frozen=True)
class Cell:
    """What one row of the table is made of: one expid over some seeds."""

    model: str
    variant: str
    expid: str
    seeds: tuple[int, ...]


def latest_runs(
    rows: Iterable[dict[str, Any]], cell: Cell, dataset_id: str
) -> list[dict[str, Any]]:
    """Returns the newest run of each of the cell's seeds, all of one config and one data hash.

    Raises:
        DataError: a seed has no run with the config and data of the expid's newest run.
    """
    runs = [r for r in rows if r["expid"] == cell.expid and r["dataset_id"] == dataset_id]
    runs = [r for r in runs if r["seed"] in cell.seeds and "test" in r]
    same = [r for r in runs if all(r[k] == runs[-1][k] for k in ("config_hash", "data_hash"))]
    newest = {r["seed"]: r for r in same}
    missing = [seed for seed in cell.seeds if seed not in newest]
    if missing:
        raise DataError(
            f"no run of expid '{cell.expid}' on '{dataset_id}' with test metrics for seed "
            f"{', '.join(map(str, missing))}; run `bash 2.reproduce.sh` for it"
        )
    return [newest[seed] for seed in cell.seeds]


def build_table(
    rows: list[dict[str, Any]],
    cells: list[Cell],
    dataset_id: str,
    bayes_ceiling: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Returns the table's rows: column -> value, None where there is nothing to say.

    A lift is relative, 100 * (GEN - DIS) / DIS of the means over the seeds.

    Args:
        rows: the results store.
        cells: the rows wanted; GEN is compared with the DIS of the same model.
        dataset_id: the dataset.
        bayes_ceiling: AUC and logloss of the true click probabilities, where they are known.

    Raises:
        DataError: a run is missing; names it.
    """
    table: list[dict[str, Any]] = []
    dis_means: dict[str, dict[str, float]] = {}
    for cell in sorted(cells, key=lambda c: (c.model, c.variant)):
        runs = latest_runs(rows, cell, dataset_id)
        line: dict[str, Any] = dict.fromkeys(COLUMNS)
        line.update({"model": cell.model, "variant": cell.variant.upper(), "seeds": len(runs)})
        means = {}
        for metric in ("AUC", "logloss"):
            values = [run["test"][metric] for run in runs if metric in run["test"]]
            if values:
                means[metric] = line[f"test {metric}"] = statistics.fmean(values)
                line[f"{metric} std"] = statistics.stdev(values) if len(values) > 1 else None
        if cell.variant == "dis":
            dis_means[cell.model] = means
        for metric, base in dis_means.get(cell.model, {}).items():
            if cell.variant == "gen" and metric in means:
                line[f"{metric} lift %"] = 100 * (means[metric] - base) / base
        line["parameters"] = runs[-1]["parameters"]
        line["train rows/s"] = statistics.median(run["train_rows_per_second"] for run in runs)
        line["seconds"] = statistics.fmean(run["seconds"] for run in runs)
        table.append(line)
    if bayes_ceiling:
        line = dict.fromkeys(COLUMNS)
        line.update({"model": "Bayes ceiling", "variant": "true probabilities"})
        line.update({f"test {m}": bayes_ceiling[m] for m in ("AUC", "logloss")})
        table.append(line)
    return table


def to_markdown(table: list[dict[str, Any]]) -> str:
    """Returns the table as aligned Markdown."""
    texts = [[_text(name, row[name]) for name in COLUMNS] for row in table]
    widths = [max(len(row[i]) for row in [list(COLUMNS), *texts]) for i in range(len(COLUMNS))]

    def line(cells: Iterable[str]) -> str:
        padded = [
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rules = ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(COLUMNS), line(rules), *map(line, texts)]) + "\n"


def to_csv(table: list[dict[str, Any]]) -> str:
    """Returns the table as csv with all digits; empty where there is nothing to say."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return buffer.getvalue()


def write_table(table: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Writes table.md and table.csv, each whole or not at all; returns their paths."""
    contents = {"table.md": to_markdown(table), "table.csv": to_csv(table)}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _text(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in _DIGITS:
        sign = "+" if column.endswith("lift %") else ""
        return f"{value:{sign}.{_DIGITS[column]}f}"
    if column in ("parameters", "train rows/s"):
        return f"{value:,.0f}"
    return str(value)
