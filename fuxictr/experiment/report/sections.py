"""The sections of the report: evidence in, sentences, tables and pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fuxictr.datasets import registry
from fuxictr.experiment.report import sentences as say
from fuxictr.experiment.report.evidence import Ablation, Evidence, named_sides
from fuxictr.experiment.report.page import (
    Block,
    Commands,
    Items,
    Picture,
    Section,
    find_pictures,
    gallery,
)
from fuxictr.experiment.report.recorded import (
    correlation_section,
    fields_section,
    redundancy_section,
    spectra_section,
)
from fuxictr.experiment.report.runs import missing_section, runs_section
from fuxictr.experiment.report.sentences import Pair, join_sentences
from fuxictr.experiment.tables.ablations import ablation_table
from fuxictr.experiment.tables.backbones import accuracy_table, averages_of, cost_table
from fuxictr.experiment.tables.comparisons import Comparison
from fuxictr.experiment.tables.published import (
    beside_published,
    has_published,
    published_table,
    stated_lift,
)
from fuxictr.experiment.tables.seed_runs import SeedRuns, is_better_higher, shown_metrics
from fuxictr.experiment.tables.statistics import paired_t_test

_COSTS = {
    "parameters": "Parameters",
    "train_seconds": "Training time until early stopping",
    "seconds_per_row": "Training time per row",
    "peak_memory": "Peak memory",
}


def all_sections(
    evidence: Evidence,
    drawn: Mapping[str, Path],
    problems: Sequence[str],
    ceiling: Mapping[str, float] | None,
    command: str,
) -> list[Section]:
    """Returns the sections in the order of reading.

    ``drawn`` is name -> path without suffix of each figure, ``problems`` why others were not drawn,
    ``ceiling`` AUC and logloss of the true click probabilities where they are known.
    """
    return [
        runs_section(evidence),
        accuracy_section(evidence, ceiling),
        lifts_section(evidence),
        published_section(evidence),
        spectra_section(evidence, drawn),
        correlation_section(evidence, drawn),
        fields_section(evidence, drawn),
        redundancy_section(evidence, drawn),
        ablation_section(evidence, drawn),
        training_section(evidence, drawn),
        cost_section(evidence),
        missing_section(evidence, problems, command),
    ]


def accuracy_section(evidence: Evidence, ceiling: Mapping[str, float] | None) -> Section:
    """Shows the main table and says where GEN is better by more than the noise of the seeds."""
    comparisons = evidence.comparisons
    blocks: list[Block] = []
    for metric in _metrics(comparisons):
        pairs = metric_pairs(comparisons, metric)
        winners = say.winners_sentence(f"test {metric}", pairs, 6)
        noise = say.noise_sentence(pairs, is_better_higher(metric), "DIS", "GEN")
        blocks.append(join_sentences(winners, noise))
    blocks.append(accuracy_table(comparisons, evidence.dataset, ceiling))
    return Section("DIS and GEN", blocks)


def lifts_section(evidence: Evidence) -> Section:
    """Says what the average lifts are, beside those that the paper states."""
    is_of_paper = registry.alias_of(evidence.dataset) in registry.PAPER_DATASETS
    texts = []
    for over in averages_of(evidence.comparisons, evidence.dataset):
        for metric in _metrics(evidence.comparisons):
            stated = stated_lift(over, metric) if is_of_paper else None
            lift, num = over.lift(metric), len(over.over)
            texts.append(say.average_sentence(metric, lift, over.label, num, stated))
    text = "The average of the backbones' own lifts, as in the last rows of the table:"
    blocks: list[Block] = [text, Items(tuple(texts))]
    if not texts:
        blocks = ["There is one backbone, so there is no average lift."]
    return Section("Average lifts", blocks)


def published_section(evidence: Evidence) -> Section:
    """Shows our figures beside the published ones."""
    title = "Beside published figures"
    if not has_published(evidence.dataset):
        return Section(title, [f"No figures are published for {evidence.dataset_id}."])
    figures = beside_published(
        [
            (c.backbone, variant, side)
            for c in evidence.comparisons
            for variant, side in named_sides(c)
        ],
        evidence.dataset,
    )
    differences = {
        f"{f.backbone} {f.variant} {f.metric}, {f.source}": f.difference
        for f in figures
        if f.difference is not None
    }
    rest = len(figures) - len(differences)
    return Section(title, [say.published_sentence(differences, rest), published_table(figures)])


def ablation_section(evidence: Evidence, drawn: Mapping[str, Path]) -> Section:
    """Shows the ablations that were run."""
    blocks = [
        block for ablation in evidence.ablations for block in _ablation_blocks(ablation, drawn)
    ]
    if not blocks:
        command = f"bash 2.reproduce.sh --ablation all --dataset {evidence.dataset}"
        blocks = ["No ablation was run on this dataset. To run them:", Commands((command,))]
    return Section("Ablations", blocks)


def training_section(evidence: Evidence, drawn: Mapping[str, Path]) -> Section:
    """Shows training and collapse curves."""
    best: dict[str, list[int]] = {"DIS": [], "GEN": []}
    curves: list[Picture] = []
    collapse: list[Picture] = []
    for c in evidence.comparisons:
        own = {variant: _best_epochs(side) for variant, side in named_sides(c)}
        for variant, epochs in own.items():
            best[variant] += epochs
        alt = f"Validation AUC and training loss of {c.backbone} over epochs"
        text = f"{c.backbone}. {say.epochs_sentence(own)}"
        curves += find_pictures(drawn, f"{c.backbone}_training", alt, text)
        alt = f"RankMe of {c.backbone} over training"
        text = f"{c.backbone}. {say.change_sentence(_changes(evidence, c))}"
        collapse += find_pictures(drawn, f"{c.backbone}_collapse_curve", alt, text)
    blocks: list[Block] = [say.epochs_sentence(best), *gallery(curves)]
    if collapse:
        blocks += ["Collapse was measured while training:", *gallery(collapse)]
    else:
        blocks.append("No run measured collapse while training; the config key analyze_every does.")
    return Section("Training", blocks)


def cost_section(evidence: Evidence) -> Section:
    """Shows what GEN costs."""
    comparisons = evidence.comparisons
    averages = averages_of(comparisons, evidence.dataset)
    over_all = next((a for a in averages if a.label == "all"), None)
    texts = []
    for cost, what in _COSTS.items():
        found = ((c.backbone, c.overhead(cost)) for c in comparisons)
        known = {name: value for name, value in found if value is not None}
        mean = over_all.overhead(cost) if over_all else None
        texts.append(say.cost_sentence(what, known, mean))
    first = "What GEN needs more than DIS:"
    return Section("Cost", [first, Items(tuple(texts)), cost_table(comparisons, evidence.dataset)])


def metric_pairs(comparisons: Iterable[Comparison], metric: str) -> list[Pair]:
    """Returns the means of a test metric and their p for the complete backbones."""
    pairs = []
    for c in comparisons:
        dis, gen = c.dis.mean(metric), c.gen.mean(metric)
        if dis is not None and gen is not None:
            pairs.append(Pair(c.backbone, dis, gen, c.p_value(metric), len(c.dis.seeds)))
    return pairs


def _metrics(comparisons: Iterable[Comparison]) -> list[str]:
    return shown_metrics(side for c in comparisons for side in (c.dis, c.gen))


def _ablation_blocks(ablation: Ablation, drawn: Mapping[str, Path]) -> list[Block]:
    results, name = ablation.results, f"{ablation.backbone}_ab_{ablation.group}"
    gen = results[-1].side
    full = gen.mean("AUC")
    arms: dict[str, float] = {}
    pairs, missing = [], []
    for result in results[:-1]:
        label, mean = say.quote_name(result.arm.label), result.side.mean("AUC")
        if mean is None:
            missing.append(label)
            continue
        arms[label] = mean
        if full is not None:
            p = paired_t_test(gen.values("AUC"), result.side.values("AUC"))
            pairs.append(Pair(label, full, mean, p, len(gen.seeds)))
    sentence = say.ablation_sentence(full, arms, missing)
    noise = say.noise_sentence(pairs, True, "the full GEN", "the arm")
    alt = f"Test AUC of the arms of the ablation {ablation.group} of {ablation.backbone}"
    pictures = find_pictures(drawn, name, alt, f"{ablation.backbone}, {ablation.group}.")
    if ablation.group == "activation":
        alt = f"Spectra of {ablation.backbone} by activation"
        text = f"{ablation.backbone}: spectrum of what each activation generates."
        pictures += find_pictures(drawn, f"{ablation.backbone}_activation", alt, text)
    table = ablation_table(ablation.backbone, ablation.group, results)
    return [
        join_sentences(f"{ablation.backbone}, {ablation.group}.", sentence, noise),
        table,
        *gallery(pictures),
    ]


def _best_epochs(side: SeedRuns) -> list[int]:
    """Returns the epoch of each run's highest validation AUC, the first of equal ones."""
    found = []
    for run in side.runs.values():
        scores = [(e.get("metrics", {}).get("AUC"), e["epoch"]) for e in run.history or []]
        known = [(auc, epoch) for auc, epoch in scores if auc is not None]
        if known:
            found.append(max(known, key=lambda score: score[0])[1])
    return found


def _changes(evidence: Evidence, comparison: Comparison) -> dict[str, tuple[float, float]]:
    """Returns RankMe at the start and at the end of training, of the runs shown."""
    changes = {}
    for variant, side in named_sides(comparison):
        run = side.runs.get(evidence.shown.get(side.expid, -1))
        curve = (run.collapse if run is not None else None) or []
        if curve:
            changes[variant] = (curve[0]["rankme"], curve[-1]["rankme"])
    return changes
