"""Published figures beside ours: docs/reference/published_results.csv, each with its provenance."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuxictr.datasets import registry
from fuxictr.datasets.registry import PAPER_DATASETS
from fuxictr.errors import DataError
from fuxictr.experiment.tables.comparisons import Average, Comparison, average, mean_of
from fuxictr.experiment.tables.seed_runs import METRICS, SeedRuns
from fuxictr.experiment.tables.text import format_number, to_csv, write_files
from fuxictr.experiment.zoo.ablations import Arm
from fuxictr.experiment.zoo.models import ROOT, backbones
from fuxictr.text_tables import TextTable

PUBLISHED = ROOT / "docs" / "reference" / "published_results.csv"
COLUMNS = (
    "backbone",
    "variant",
    "metric",
    "ours_mean",
    "ours_std",
    "num_seeds",
    "published",
    "difference",
    "source",
    "note",
    "reference",
)
NOT_PUBLISHED = "not published"
LIFT_COLUMNS = (
    "average",
    "metric",
    *(f"ours_{name}" for name in PAPER_DATASETS),
    "ours",
    "paper",
    "difference",
    "averaged_over",
    "left_out",
)
# The publication that has the ablations.
_OF_ABLATIONS = "ge4rec_figures"
PAPER_NAMES = {"PNN": "IPNN"}  # of backbones, where the publications' differ from ours


@dataclass(frozen=True)
class Figure:
    """A metric of one side beside a published value of it; ``published`` is None without one."""

    backbone: str
    variant: str
    metric: str
    side: SeedRuns
    published: float | None = None
    source: str = ""
    note: str = NOT_PUBLISHED
    reference: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published value."""
        ours = self.side.mean(self.metric)
        return None if ours is None or self.published is None else ours - self.published

    def record(self) -> dict[str, object]:
        """Returns the row of published.csv."""
        ours = (self.side.mean(self.metric), self.side.std(self.metric), len(self.side.seeds))
        theirs = (self.published, self.difference, self.source, self.note, self.reference)
        return dict(zip(COLUMNS, (*_names_of(self), *ours, *theirs), strict=True))


def read_published(path: Path = PUBLISHED) -> list[dict[str, str]]:
    """Returns the published figures, one dict per row.

    The columns are source, dataset, model, variant, metric, value, note, and reference: where the
    value is published. ``dataset`` is the source's name, or the dataset_id of another encoding.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of published figures") from None


def published_value(
    dataset_name: str, model: str, variant: str, metric: str
) -> list[dict[str, str]]:
    """Returns the published figures of one metric, one per source; [] where none is published.

    Dataset and model are named as in our options or as in the file, such as avazu_x4 or all.
    ``variant`` is DIS, GEN or an arm of an ablation, as ``source=own``.
    """
    key = (_file_name(dataset_name), PAPER_NAMES.get(model, model), variant, metric)
    found = ("dataset", "model", "variant", "metric")
    return [dict(row) for row in _shipped() if tuple(row[name] for name in found) == key]


def published_arms(dataset: str, backbone: str, arms: Iterable[Arm]) -> dict[str, float]:
    """Returns expid -> published test AUC, of the arms of an ablation that have one."""
    return {
        arm.expid: float(row["value"])
        for arm in arms
        for row in published_value(dataset, backbone, arm.published, "AUC")
        if row["source"] == _OF_ABLATIONS
    }


def has_published(dataset: str) -> bool:
    """Returns whether any figure of the dataset, as --dataset, is published."""
    return any(row["dataset"] == _file_name(dataset) for row in _shipped())


def beside_published(
    sides: Iterable[tuple[str, str, SeedRuns]], dataset: str, metrics: Sequence[str] = METRICS
) -> list[Figure]:
    """Returns each side's metrics beside every published value, or beside none.

    A side is backbone, variant (as in published_value) and runs.
    """
    figures = []
    for backbone, variant, side in sides:
        for metric in metrics:
            known = published_value(dataset, backbone, variant, metric)
            for row in known:
                value, texts = float(row["value"]), (row["source"], row["note"], row["reference"])
                figures.append(Figure(backbone, variant, metric, side, value, *texts))
            if not known:
                figures.append(Figure(backbone, variant, metric, side))
    return figures


def published_table(figures: Sequence[Figure], is_ablation: bool = False) -> TextTable:
    """Returns the table of figures; those of an ablation are the AUC of one backbone's arms."""
    rows = [
        [
            *([figure.variant] if is_ablation else _names_of(figure)),
            figure.source,
            figure.note if figure.source else "",
            format_number(figure.side.mean(figure.metric)) or figure.side.status,
            format_number(figure.published) or NOT_PUBLISHED,
            format_number(figure.difference, "+.6f"),
        ]
        for figure in figures
    ]
    names = ["arm"] if is_ablation else ["backbone", "variant", "metric"]
    head = [*names, "source", "note", "ours", "published", "difference"]
    title = "Test AUC beside published figures" if is_ablation else "Beside published figures"
    return TextTable(title, head, rows, num_left=len(names) + 2)


def average_lifts(by_dataset: Mapping[str, Sequence[Comparison]]) -> list[dict[str, Any]]:
    """Returns the rows of average_lifts.csv: our average lifts beside the paper's.

    They are over the datasets that the paper averages, all of which must be given. A backbone
    counts where it is complete on all of them. The paper's averages are shown only beside ours over
    all of its backbones.
    """
    found = {registry.alias_of(name): list(value) for name, value in by_dataset.items()}
    absent = [name for name in PAPER_DATASETS if name not in found]
    if absent:
        raise DataError(
            f"the paper's average lifts are over {' and '.join(PAPER_DATASETS)}; without runs "
            f"here: {', '.join(absent)}"
        )
    complete = [{c.backbone for c in found[name] if c.is_complete} for name in PAPER_DATASETS]
    shared = set.intersection(*complete)
    averages = []
    for name in PAPER_DATASETS:
        known = [*(c.backbone for c in found[name]), *backbones(name)]
        averages.append(average([c for c in found[name] if c.backbone in shared], known))
    records = []
    for ours in zip(*averages, strict=True):
        names = (" ".join(c.backbone for c in ours[0].over), " ".join(ours[0].left_out))
        for metric in METRICS:
            lifts = [a.lift(metric) for a in ours]
            total, paper = mean_of(lifts), stated_lift(ours[0], metric)
            difference = None if total is None or paper is None else total - paper
            values = (ours[0].label, metric, *lifts, total, paper, difference, *names)
            records.append(dict(zip(LIFT_COLUMNS, values, strict=True)))
    return records


def stated_lift(ours: Average, metric: str) -> float | None:
    """Returns the paper's average lift in percent, where ours is over the same backbones."""
    if not ours.is_comparable:
        return None
    rows = published_value("all", ours.published, "lift", f"{metric}_percent")
    return float(rows[0]["value"]) if rows else None


def lift_table(records: Sequence[Mapping[str, Any]]) -> TextTable:
    """Returns the table of what average_lifts returned."""
    numbers = LIFT_COLUMNS[2:-2]
    rows = [
        [record["average"], record["metric"], *(format_number(record[n], "+.3f") for n in numbers)]
        for record in records
    ]
    notes = {
        f"{record['average']}: average over {record['averaged_over'] or 'no backbone'}; left out, "
        f"for missing runs or not requested: {record['left_out'] or 'none'}": None
        for record in records
    }
    head = ["average", "metric", *(name.replace("_", ", ") for name in numbers)]
    return TextTable("Average relative lift of GEN over DIS, %", head, rows, 2, notes=list(notes))


def _names_of(figure: Figure) -> tuple[str, str, str]:
    return figure.backbone, figure.variant, figure.metric


@functools.cache
def _shipped() -> tuple[dict[str, str], ...]:
    return tuple(read_published())


def _file_name(dataset: str) -> str:
    return registry.resolve(dataset).name.lower() if registry.is_known(dataset) else dataset


def write_average_lifts(
    by_dataset: Mapping[str, Sequence[Comparison]], folder: Path
) -> tuple[str, list[Path]]:
    """Writes average_lifts.md and .csv, of Avazu and Criteo; returns Markdown and paths."""
    records = average_lifts(by_dataset)
    contents = {
        "average_lifts.md": lift_table(records).to_markdown(),
        "average_lifts.csv": to_csv(LIFT_COLUMNS, records),
    }
    return contents["average_lifts.md"], write_files(folder, contents)
