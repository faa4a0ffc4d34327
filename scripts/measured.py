"""The tables and figures of docs/results/, read by name for README.md and the project page."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from fuxictr.errors import DataError
from fuxictr.experiment.tables.published import PAPER_NAMES

NAMES = {"CrossNet": "CrossNet V2", "DCNv2": "DCN V2", **PAPER_NAMES}
METRICS = {"AUC": "higher", "logloss": "lower"}  # metric -> which value is better


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        pattern: of its files' names.
        heading: what it is called.
        shows: what it shows, in a sentence.
        alt: what one figure shows, for who does not see it.
        is_detail: whether the repository keeps it of a few models only.
    """

    pattern: str
    heading: str
    shows: str
    alt: str
    is_detail: bool = False


KINDS = (
    Kind(
        r"(?P<model>\w+)_collapse",
        "Spectra",
        "Singular values of the covariance of the interacting embeddings, raw for DIS and "
        "generated for GEN, divided by the largest of each.",
        "Covariance spectrum of {model}'s interacting embeddings, DIS and GEN.",
    ),
    Kind(
        r"(?P<model>\w+)_(?P<variant>dis|gen)_correlation",
        "Correlation of the interacting sides",
        "Pearson correlations between the dimensions of the two sides that interact, field by "
        "field.",
        "Heat map of the correlations between the interacting sides of {variant} {model}.",
        is_detail=True,
    ),
    Kind(
        r"redundancy",
        "AUC against redundancy",
        "Test AUC against the mean absolute correlation of the two sides, one point per run.",
        "Test AUC of every run against the mean absolute correlation of its interacting sides.",
    ),
    Kind(
        r"(?P<model>\w+)_ab_(?P<group>\w+)",
        "Ablations",
        "Test AUC of the arms of an ablation between DIS and the full GEN, with the deviation over "
        "the seeds.",
        "Test AUC of {model}'s ablation of the {group}, from DIS to the full GEN.",
    ),
    Kind(
        r"(?P<model>\w+)_activation",
        "Spectra of the activations",
        "Spectra of the generated embeddings under each activation of the encoder.",
        "Covariance spectra of {model} under each activation of the encoder.",
    ),
    Kind(
        r"(?P<model>\w+)_fields",
        "Spectrum of each field",
        "The same spectrum, of each field's own embedding.",
        "Covariance spectrum of each field's embedding in {model}, DIS and GEN.",
        is_detail=True,
    ),
    Kind(
        r"(?P<model>\w+)_layers",
        "Spectrum of each layer",
        "The same spectrum, of each layer that generates.",
        "Covariance spectrum of each layer of {model}, DIS and GEN.",
        is_detail=True,
    ),
    Kind(
        r"(?P<model>\w+)_cardinality",
        "Collapse against cardinality",
        "RankMe and information abundance of each field against its number of values.",
        "RankMe and information abundance of each field of {model} against its cardinality.",
        is_detail=True,
    ),
    Kind(
        r"(?P<model>\w+)_training",
        "Training curves",
        "Validation AUC and training loss of every evaluation, one line per run.",
        "Validation AUC and training loss of {model}'s runs, DIS and GEN.",
    ),
    Kind(
        r"(?P<model>\w+)_collapse_curve",
        "Collapse during training",
        "RankMe of the interacting embeddings over the training, one line per run.",
        "RankMe of {model}'s interacting embeddings over the training, DIS and GEN.",
        is_detail=True,
    ),
)


@dataclass(frozen=True)
class Figure:
    """A figure of docs/results/: its file, kind, caption and alternative text."""

    path: Path
    kind: Kind
    caption: str
    alt: str


def find_figures(folder: Path) -> list[Figure]:
    """Returns the figures of a folder, kind by kind, in the order of KINDS and of their names.

    Raises:
        DataError: a PNG is of no known kind.
    """
    found = map(figure_of, sorted(folder.glob("*.png")))
    return sorted(found, key=lambda figure: KINDS.index(figure.kind))


def figure_of(path: Path) -> Figure:
    """Returns the figure of a PNG.

    Raises:
        DataError: it is of no known kind.
    """
    matches = ((kind, re.fullmatch(kind.pattern, path.stem)) for kind in KINDS)
    kind, match = next(((k, m) for k, m in matches if m), (None, None))
    if kind is None or match is None:
        raise DataError(f"{path}: scripts/measured.py knows no kind of figure of this name")
    words = match.groupdict()
    if "model" in words:
        words["model"] = NAMES.get(words["model"], words["model"])
    if "variant" in words:
        words["variant"] = words["variant"].upper()
    caption = ", ".join(words.values()) or "All backbones"
    return Figure(path, kind, caption, kind.alt.format(**words))


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of table.csv, column -> text; an absent file has none."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def backbone_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Returns the rows of backbones, without averages and the Bayes ceiling."""
    return [row for row in rows if row.get("gen_expid")]


def number(row: dict[str, str], column: str) -> float | None:
    """Returns a number of a row, None if its column or cell is missing."""
    text = row.get(column) or ""
    return float(text) if text else None


def seeds_of(row: dict[str, str]) -> list[int]:
    """Returns the seeds of a row, ascending."""
    return sorted(int(seed) for seed in (row.get("seeds") or "").split())


def describe_seeds(rows: list[dict[str, str]]) -> str:
    """Returns ``1, 2``, or ``1, 2 (FM) and 1 (PNN)`` if the rows have different seeds."""
    by_seeds: dict[str, list[str]] = {}
    for row in rows:
        by_seeds.setdefault(", ".join(map(str, seeds_of(row))), []).append(row["backbone"])
    if len(by_seeds) == 1:
        return next(iter(by_seeds))
    return " and ".join(f"{seeds} ({', '.join(names)})" for seeds, names in by_seeds.items())
