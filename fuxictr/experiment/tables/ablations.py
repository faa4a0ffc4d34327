"""The table of an ablation: its arms between DIS and the full GEN, from the results store alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuxictr.datasets import registry
from fuxictr.experiment.tables.comparisons import ArmResult
from fuxictr.experiment.tables.published import (
    Figure,
    beside_published,
    has_published,
    published_table,
)
from fuxictr.experiment.tables.seed_runs import METRICS, SeedRuns, shown_metrics, unlike_runs
from fuxictr.experiment.tables.statistics import paired_t_test
from fuxictr.experiment.tables.text import (
    describe_runs,
    format_mean,
    format_number,
    format_p,
    to_csv,
    write_files,
)
from fuxictr.text_tables import LATEX_PREAMBLE, TextTable, wrap

_OF_METRIC = ("mean", "std", "minus_gen", "p_against_gen", "minus_dis")


def columns_of(metrics: Sequence[str] = METRICS) -> list[str]:
    """Returns the columns of an ablation's csv, with those of the metrics."""
    return [
        *("dataset_id", "backbone", "group", "arm", "label", "expid", "seeds"),
        *(f"{metric}_{name}" for metric in metrics for name in _OF_METRIC),
        *("published_AUC", "published_AUC_difference", "published_source", "published_note"),
        *("config_hash", "data_hash", "code_hash", "missing"),
    ]


def write_ablation_tables(
    backbone: str, group: str, results: Sequence[ArmResult], dataset: str, folder: Path
) -> tuple[str, list[Path]]:
    """Writes <backbone>_ablation_<group>.md, .csv and .tex; returns the Markdown and the paths.

    ``results`` are DIS, the arms and the full GEN, as ablation_results returned them.
    """
    caption = describe_runs([r.side for r in results], dataset, name_expids=True)
    label = f"tab:{registry.dataset_id_of(dataset)}:{backbone}:{group}"
    latex = [ablation_table(backbone, group, results).to_latex(caption, label)]
    if has_published(dataset):
        table = _published_table(backbone, results, dataset)
        latex.append(table.to_latex(f"{backbone}, {group}. {caption}", f"{label}:published"))
    markdown = ablation_markdown(backbone, group, results, dataset)
    stem = f"{backbone}_ablation_{group}"
    contents = {
        f"{stem}.md": markdown,
        f"{stem}.csv": to_csv(
            columns_of(shown_metrics(r.side for r in results)),
            [_record(backbone, r, results, dataset) for r in results],
        ),
        f"{stem}.tex": LATEX_PREAMBLE + "\n".join(latex),
    }
    return markdown, write_files(folder, contents)


def ablation_markdown(backbone: str, group: str, results: Sequence[ArmResult], dataset: str) -> str:
    """Returns the ablation as Markdown; the arguments are as for write_ablation_tables."""
    head = wrap(
        f"{backbone} on {describe_runs([r.side for r in results], dataset)} Mean ± sample "
        "standard deviation over the seeds; p: two-sided paired t-test against the full GEN."
    )
    parts = [head, ablation_table(backbone, group, results).to_markdown().rstrip()]
    if has_published(dataset):
        parts.append(_published_table(backbone, results, dataset).to_markdown().rstrip())
    else:
        parts.append(f"No figures are published for {registry.dataset_id_of(dataset)}.")
    return "\n\n".join(parts) + "\n"


def ablation_table(backbone: str, group: str, results: Sequence[ArmResult]) -> TextTable:
    """Returns the test metrics of each arm, and how they differ from DIS and from the full GEN."""
    dis, gen = results[0].side, results[-1].side
    metrics = shown_metrics(r.side for r in results)
    rows = []
    for result in results:
        cells = [result.arm.label]
        for metric in metrics:
            cells += [
                format_mean(result.side, metric),
                format_number(_minus(result.side, gen, metric), "+.6f"),
                format_p(_p_against(result.side, gen, metric)),
                format_number(_minus(result.side, dis, metric), "+.6f"),
            ]
        rows.append(cells)
    columns = ["arm"]
    for metric in metrics:
        columns += [f"test {metric}", "to GEN", "p", "to DIS"]
    notes = [note for r in results for note in arm_notes(r, gen)]
    return TextTable(f"Ablation of {backbone}: {group}", columns, rows, notes=notes)


def arm_notes(result: ArmResult, gen: SeedRuns) -> list[str]:
    """Returns what a reader must know of an arm: missing runs, unlike data or code."""
    label, unlike = result.arm.label, unlike_runs(result.side, gen)
    return result.side.notes(label) + [f"{label}: it and GEN ran with {what}" for what in unlike]


def _minus(side: SeedRuns, base: SeedRuns, metric: str) -> float | None:
    ours, theirs = side.mean(metric), base.mean(metric)
    return None if ours is None or theirs is None or side is base else ours - theirs


def _p_against(side: SeedRuns, gen: SeedRuns, metric: str) -> float | None:
    ours, theirs = side.values(metric), gen.values(metric)
    return paired_t_test(theirs, ours) if ours and theirs and side is not gen else None


def _published_table(backbone: str, results: Sequence[ArmResult], dataset: str) -> TextTable:
    return published_table(_published(backbone, results, dataset), is_ablation=True)


def _published(backbone: str, results: Sequence[ArmResult], dataset: str) -> list[Figure]:
    sides = [(backbone, result.arm.published, result.side) for result in results]
    return beside_published(sides, dataset, ["AUC"])


def _record(
    backbone: str, result: ArmResult, results: Sequence[ArmResult], dataset: str
) -> dict[str, Any]:
    side, dis, gen = result.side, results[0].side, results[-1].side
    record: dict[str, Any] = {
        "dataset_id": registry.dataset_id_of(dataset),
        "backbone": backbone,
        "group": result.arm.group,
        "arm": result.arm.word,
        "label": result.arm.label,
        "expid": side.expid,
        "seeds": " ".join(map(str, side.seeds)),
        "missing": "; ".join(arm_notes(result, gen)),
    }
    for metric in shown_metrics(r.side for r in results):
        numbers = (
            side.mean(metric),
            side.std(metric),
            _minus(side, gen, metric),
            _p_against(side, gen, metric),
            _minus(side, dis, metric),
        )
        record |= {f"{metric}_{n}": v for n, v in zip(_OF_METRIC, numbers, strict=True)}
    figure = _published(backbone, [result], dataset)[0]
    record |= {
        "published_AUC": figure.published,
        "published_AUC_difference": figure.difference,
        "published_source": figure.source,
        "published_note": figure.note,
    }
    return record | {key: side.shared(key) for key in ("config_hash", "data_hash", "code_hash")}
