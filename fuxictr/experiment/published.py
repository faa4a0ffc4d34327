"""Published figures beside ours: docs/reference/published_results.csv, each with its provenance."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from fuxictr.datasets import registry
from fuxictr.errors import DataError
from fuxictr.experiment.zoo import ROOT

PUBLISHED = ROOT / "docs" / "reference" / "published_results.csv"
# Names of backbones in the publications that differ from ours.
_NAMES = {"PNN": "IPNN"}


def read_published(path: Path = PUBLISHED) -> list[dict[str, str]]:
    """Returns the published figures: source, dataset, model, variant, metric, value, note.

    Raises:
        DataError: the file is missing.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of published figures") from None


def compare_published(
    table: list[dict[str, Any]], dataset: str, figures: list[dict[str, str]] | None = None
) -> list[str]:
    """Returns a line for each published figure of the table's rows, with ours beside it.

    Args:
        table: what build_table returned.
        dataset: the dataset, as --dataset.
        figures: what read_published returned; null = that.
    """
    if not registry.is_known(dataset):
        return []
    name = registry.resolve(dataset).name.lower()
    known = [f for f in (read_published() if figures is None else figures) if f["dataset"] == name]
    lines = []
    for row in table if known else []:
        model, variant = _NAMES.get(row["model"], row["model"]), row["variant"]
        found = [f for f in known if (f["model"], f["variant"]) == (model, variant)]
        for figure in found:
            ours = row.get(f"test {figure['metric']}")
            if ours is not None:
                lines.append(
                    f"{row['model']} {variant} {figure['metric']}: {ours:.6f}, published "
                    f"{figure['value']} ({ours - float(figure['value']):+.6f}; {figure['note']})"
                )
        if not found and variant in ("DIS", "GEN"):
            lines.append(f"{row['model']} {variant}: not published here")
    return lines
