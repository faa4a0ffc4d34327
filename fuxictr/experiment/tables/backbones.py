"""The main table of a dataset: DIS and GEN of each backbone, accuracy and cost, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr.datasets import registry
from fuxictr.datasets.demo import load_bayes_ceiling
from fuxictr.experiment.results.identity import PresentData
from fuxictr.experiment.tables import published
from fuxictr.experiment.tables.comparisons import COSTS, Average, Comparison, average
from fuxictr.experiment.tables.seed_runs import METRICS, SeedRuns, is_better_higher, shown_metrics
from fuxictr.experiment.tables.text import (
    describe_runs,
    format_mean,
    format_number,
    format_p,
    to_csv,
    write_files,
)
from fuxictr.experiment.zoo.models import ROOT, backbones, load_experiment, select_expids
from fuxictr.text_tables import LATEX_PREAMBLE, TextTable, wrap

Ceiling = Mapping[str, float] | None
CEILING = "Bayes ceiling"
_HASHES = ("config_hash", "data_hash", "code_hash")
_COST_COLUMNS = dict(zip(COSTS, (*COSTS[:3], "peak_memory_bytes"), strict=True))
_SIDES = ("dis", "gen")
_LEGEND = (
    "Mean ± sample standard deviation over the seeds; lift % = 100 (GEN - DIS) / DIS, for {losses} "
    "negative is better; p: two-sided t-test paired over the seeds."
)
_COST_LEGEND = (
    "training s: median over the seeds of the seconds in training steps, all epochs until early "
    "stopping; s per row: the same for one row; peak MiB: median peak memory of {memory}; %: what "
    "GEN needs more than DIS"
)


def columns_of(metrics: Sequence[str] = METRICS) -> list[str]:
    """Returns the columns of table.csv, with those of the metrics."""
    return [
        *("dataset_id", "backbone", "seeds"),
        *(f"{side}_{m}_{what}" for m in metrics for side in _SIDES for what in ("mean", "std")),
        *(f"{m}_{what}" for m in metrics for what in ("lift_percent", "p")),
        *(f"{side}_{name}" for name in _COST_COLUMNS.values() for side in _SIDES),
        *(f"{cost}_overhead_percent" for cost in COSTS),
        *(f"{side}_{key}" for side in _SIDES for key in ("expid", *_HASHES)),
        *("averaged_over", "left_out", "notes"),
    ]


COLUMNS = tuple(columns_of())


def write_tables(
    comparisons: Sequence[Comparison], dataset: str, folder: Path, ceiling: Ceiling = None
) -> tuple[str, list[Path]]:
    """Writes table.md, .csv, .tex and published.csv; returns the Markdown and the paths."""
    caption = describe_runs(_sides(comparisons), dataset, name_expids=True)
    figures = _figures(comparisons, dataset)
    tables = {
        "accuracy": accuracy_table(comparisons, dataset, ceiling),
        "cost": cost_table(comparisons, dataset),
    }
    if published.has_published(dataset):
        tables["published"] = published.published_table(figures)
    label = f"tab:{registry.dataset_id_of(dataset)}"
    latex = [table.to_latex(caption, f"{label}:{key}") for key, table in tables.items()]
    contents = {
        "table.md": to_markdown(comparisons, dataset, ceiling),
        "table.csv": to_csv(
            columns_of(shown_metrics(_sides(comparisons))),
            _records(comparisons, dataset, ceiling),
        ),
        "table.tex": LATEX_PREAMBLE + "\n".join(latex),
        "published.csv": to_csv(published.COLUMNS, [figure.record() for figure in figures]),
    }
    return contents["table.md"], write_files(folder, contents)


def to_markdown(comparisons: Sequence[Comparison], dataset: str, ceiling: Ceiling = None) -> str:
    """Returns accuracy, cost and published figures as Markdown; arguments as for write_tables."""
    tables = [accuracy_table(comparisons, dataset, ceiling), cost_table(comparisons, dataset)]
    shown = shown_metrics(_sides(comparisons))
    losses = ", ".join(metric for metric in shown if not is_better_higher(metric)) or "losses"
    legend = _LEGEND.format(losses=losses)
    parts = [wrap(f"{describe_runs(_sides(comparisons), dataset)} {legend}")]
    if published.has_published(dataset):
        tables.append(published.published_table(_figures(comparisons, dataset)))
    parts += [table.to_markdown().rstrip() for table in tables]
    if not published.has_published(dataset):
        parts.append(f"No figures are published for {registry.dataset_id_of(dataset)}.")
    return "\n\n".join(parts) + "\n"


def find_ceiling(dataset: str, comparisons: Sequence[Comparison]) -> Ceiling:
    """Returns AUC and logloss of the demo data's true click probabilities on the test split.

    None for other data, and unless the runs were trained on the present demo data.
    """
    if registry.alias_of(dataset) != "demo":
        return None
    raw = registry.resolve(dataset)
    if not registry.is_prepared(ROOT, raw):
        return None
    sides = [side for side in _sides(comparisons) if side.runs]
    hashes = {run.data_hash for side in sides for run in side.runs.values()}
    if hashes and hashes != {_current_data_hash(comparisons[0].backbone, dataset)}:
        return None
    return load_bayes_ceiling(registry.raw_dir(ROOT, raw))


def accuracy_table(
    comparisons: Sequence[Comparison], dataset: str, ceiling: Ceiling = None
) -> TextTable:
    """Returns the test metrics, lifts and p of each backbone, the averages and the ceiling.

    It holds no time, so that the same runs in another order give the same bits.
    """
    averages = averages_of(comparisons, dataset)
    columns, rows = ["backbone"], [[c.backbone] for c in comparisons]
    last = [[_label(a)] for a in averages]
    metrics = shown_metrics(_sides(comparisons))
    for metric in metrics:
        columns += [f"DIS {metric}", f"GEN {metric}", "lift %", "p"]
        for c, row in zip(comparisons, rows, strict=True):
            row += [format_mean(c.dis, metric), format_mean(c.gen, metric)]
            row += [format_number(c.lift(metric), "+.3f"), format_p(c.p_value(metric))]
        for a, row in zip(averages, last, strict=True):
            row += [format_number(a.mean(variant, metric)) for variant in ("dis", "gen")]
            row += [format_number(a.lift(metric), "+.3f"), ""]
    if ceiling:
        values = [format_number(ceiling.get(metric)) for metric in metrics]
        last.append([CEILING, *(cell for value in values for cell in (value, value, "", ""))])
    notes = [note for c in comparisons for note in c.notes] + _unlike_data(comparisons)
    notes += [a.describe() for a in averages]
    return TextTable("Accuracy on the test split", columns, [*rows, *last], 1, len(last), notes)


def cost_table(comparisons: Sequence[Comparison], dataset: str) -> TextTable:
    """Returns parameters, time and memory of each backbone, and the average overheads."""
    averages = averages_of(comparisons, dataset)
    mebi = 1 / (1 << 20)
    columns = ["backbone", "parameters DIS", "GEN", "%", "training s DIS", "GEN", "%"]
    columns += ["s per row %", "peak MiB DIS", "GEN", "%"]
    rows = []
    for c in comparisons:
        row = [c.backbone]
        for cost, spec, unit in (
            ("parameters", ",.0f", 1),
            ("train_seconds", ",.1f", 1),
            ("seconds_per_row", "", 1),
            ("peak_memory", ",.0f", mebi),
        ):
            for side in (c.dis, c.gen) if spec else ():
                value = getattr(side, cost)
                row.append(format_number(None if value is None else value * unit, spec))
            row.append(format_number(c.overhead(cost), "+.1f"))
        rows.append(row)
    for a in averages:
        parameters, seconds, speed, memory = (
            format_number(a.overhead(cost), "+.1f") for cost in COSTS
        )
        rows.append([_label(a), "", "", parameters, "", "", seconds, speed, "", "", memory])
    on_gpu = {side.on_gpu for side in _sides(comparisons) if side.runs}
    names = ["the GPU"] * (True in on_gpu) + ["the process"] * (False in on_gpu)
    notes = [_COST_LEGEND.format(memory=" or ".join(names) or "the process")]
    notes += [note for c in comparisons for note in c.cost_notes]
    return TextTable("Cost of GEN", columns, rows, 1, len(averages), notes)


def averages_of(comparisons: Sequence[Comparison], dataset: str) -> list[Average]:
    """Returns the averages in the tables, [] for a single backbone."""
    return average(comparisons, backbones(dataset)) if len(comparisons) > 1 else []


def _current_data_hash(backbone: str, dataset: str) -> str | None:
    (choice,) = select_expids(backbone, dataset, ["dis"])
    config, _ = load_experiment(choice.expid, choice.folder)
    return PresentData().data_hash(config)


def _label(a: Average) -> str:
    return f"{a.label}, {len(a.over)} of {len(a.over) + len(a.left_out)}"


def _unlike_data(comparisons: Sequence[Comparison]) -> list[str]:
    found: dict[Any, list[str]] = {}
    for c in comparisons:
        if c.dis.runs:
            found.setdefault(c.dis.shared("data_hash"), []).append(c.backbone)
    if len(found) < 2:
        return []
    parts = [f"{', '.join(names)} on {data}" for data, names in found.items()]
    return [f"not all backbones ran on the same data (data_hash): {'; '.join(parts)}"]


def _sides(comparisons: Sequence[Comparison]) -> list[SeedRuns]:
    return [side for c in comparisons for side in (c.dis, c.gen)]


def _figures(comparisons: Sequence[Comparison], dataset: str) -> list[published.Figure]:
    sides = [(c.backbone, v, getattr(c, v.lower())) for c in comparisons for v in ("DIS", "GEN")]
    return published.beside_published(sides, dataset)


def _records(
    comparisons: Sequence[Comparison], dataset: str, ceiling: Ceiling
) -> list[dict[str, Any]]:
    metrics = shown_metrics(_sides(comparisons))
    records = [_record(c, metrics) for c in comparisons]
    for a in averages_of(comparisons, dataset):
        record: dict[str, Any] = {
            "backbone": f"average of {a.label}",
            "averaged_over": " ".join(c.backbone for c in a.over),
            "left_out": " ".join(a.left_out),
        }
        for metric in metrics:
            record |= {f"{v}_{metric}_mean": a.mean(v, metric) for v in ("dis", "gen")}
            record[f"{metric}_lift_percent"] = a.lift(metric)
        record |= {f"{cost}_overhead_percent": a.overhead(cost) for cost in COSTS}
        records.append(record)
    if ceiling:
        known = [metric for metric in metrics if metric in ceiling]
        scores = {f"{v}_{m}_mean": ceiling[m] for v in _SIDES for m in known}
        records.append({"backbone": CEILING, **scores})
    return [{"dataset_id": registry.dataset_id_of(dataset), **record} for record in records]


def _record(c: Comparison, metrics: Sequence[str]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "backbone": c.backbone,
        "seeds": " ".join(map(str, c.dis.seeds)),
        "notes": "; ".join(c.notes + c.cost_notes),
    }
    for variant, side in (("dis", c.dis), ("gen", c.gen)):
        record[f"{variant}_expid"] = side.expid
        record |= {f"{variant}_{key}": side.shared(key) for key in _HASHES}
        record |= {f"{variant}_{n}": getattr(side, cost) for cost, n in _COST_COLUMNS.items()}
        for metric in metrics:
            record[f"{variant}_{metric}_mean"] = side.mean(metric)
            record[f"{variant}_{metric}_std"] = side.std(metric)
    for metric in metrics:
        record[f"{metric}_lift_percent"] = c.lift(metric)
        record[f"{metric}_p"] = c.p_value(metric)
    return record | {f"{cost}_overhead_percent": c.overhead(cost) for cost in COSTS}
