"""Draws every figure that the runs and recordings of a dataset allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from fuxictr.analysis.records import Records, load_records
from fuxictr.datasets import registry
from fuxictr.errors import DataError, FuxiCTRError
from fuxictr.experiment.report.evidence import Ablation, Evidence, named_sides
from fuxictr.experiment.tables.comparisons import ArmResult, Comparison
from fuxictr.experiment.tables.published import published_arms
from fuxictr.experiment.tables.seed_runs import SeedRuns
from fuxictr.experiment.zoo.models import ROOT
from fuxictr.plotting import cardinality, correlation, curves, fields, spectrum
from fuxictr.plotting.ablation import METRIC, Bar, write_ablation
from fuxictr.plotting.redundancy import RunPoint, write_redundancy
from fuxictr.progress import progress_bar

Draw = Callable[[], list[Path]]


def draw_figures(evidence: Evidence) -> tuple[dict[str, Path], list[str]]:
    """Draws the figures into ``figure/final/<dataset_id>/``.

    Returns name -> path without suffix of what was drawn, and why the others were not.
    """
    drawn: dict[str, Path] = {}
    problems = []
    jobs = list(_jobs(evidence))
    with progress_bar(len(jobs), "Drawing", unit="figure") as advance:
        for what, draw in jobs:
            try:
                stems = {path.with_suffix("") for path in draw() if path.suffix == ".png"}
                drawn.update({stem.name: stem for stem in stems})
            except FuxiCTRError as error:
                problems.append(f"{what}: {error}")
            advance(1)
    return drawn, problems


def draw_recorded(dataset_id: str, backbone: str, records: Sequence[Records]) -> list[Path]:
    """Draws every figure of the recorded runs of one backbone; returns the paths."""
    return [path for _, draw in _recorded_jobs(dataset_id, backbone, records) for path in draw()]


def run_points(evidence: Evidence) -> list[RunPoint]:
    """Returns test AUC and redundancy of each recorded run of DIS and GEN."""
    points = []
    for comparison in evidence.comparisons:
        for variant, side in named_sides(comparison):
            for seed, row in side.runs.items():
                numbers, auc = evidence.numbers.get((side.expid, seed)), (row.test or {}).get("AUC")
                if numbers is not None and auc is not None:
                    redundancy = numbers.mean_absolute_correlation
                    name = variant.lower()
                    points.append(RunPoint(comparison.backbone, name, seed, auc, redundancy))
    return points


def _jobs(evidence: Evidence) -> Iterator[tuple[str, Draw]]:
    """Yields what is drawn, for messages, and the call that draws it."""
    for comparison in evidence.comparisons:
        backbone = comparison.backbone
        records = _open(evidence, backbone, [comparison.dis.expid, comparison.gen.expid])
        if records:
            yield from _recorded_jobs(evidence.dataset_id, backbone, records)
        yield from _curve_jobs(evidence.dataset_id, comparison)
    for ablation in evidence.ablations:
        what = f"ablation of {ablation.backbone}, {ablation.group}"
        yield what, partial(_draw_ablation, evidence, ablation)
        if ablation.group == "activation":
            yield f"{what}, spectra", partial(_draw_activation, evidence, ablation)
    points = run_points(evidence)
    if points:
        num_rows = max(numbers.num_rows for numbers in evidence.numbers.values())
        sample = f"{num_rows:,} rows of the valid split (sample seed {evidence.sample.seed})"
        draw = partial(write_redundancy, ROOT, evidence.dataset_id, points, sample)
        yield "AUC against redundancy", draw


def _recorded_jobs(
    dataset_id: str, backbone: str, records: Sequence[Records]
) -> Iterator[tuple[str, Draw]]:
    writers = [
        ("spectra", spectrum.write_collapse),
        ("correlations", correlation.write_correlation),
        ("fields", fields.write_field_spectra),
        ("layers", spectrum.write_layer_spectra),
    ]
    if any(any(run.meta.cardinalities) for run in records):
        writers.append(("cardinality", cardinality.write_cardinality))
    for what, write in writers:
        yield f"{backbone}, {what}", partial(write, ROOT, dataset_id, backbone, records)


def _curve_jobs(dataset_id: str, comparison: Comparison) -> Iterator[tuple[str, Draw]]:
    rows = [*comparison.dis.runs.values(), *comparison.gen.runs.values()]
    for what, write in (
        ("training curves", curves.write_training_curves),
        ("collapse while training", curves.write_collapse_curve),
    ):
        draw = partial(write, ROOT, dataset_id, comparison.backbone, rows)
        yield f"{comparison.backbone}, {what}", draw


def _draw_ablation(evidence: Evidence, ablation: Ablation) -> list[Path]:
    arms = [result.arm for result in ablation.results]
    published = published_arms(evidence.dataset, ablation.backbone, arms)
    names = (evidence.dataset_id, ablation.backbone, ablation.group)
    return draw_ablation(ROOT, *names, ablation.results, published)


def draw_ablation(
    root: str | Path,
    dataset_id: str,
    backbone: str,
    group: str,
    results: Sequence[ArmResult],
    published: Mapping[str, float],
) -> list[Path]:
    """Draws the test AUC of an ablation's arms; ``published`` is expid -> published test AUC.

    Where an arm lacks a seed, a DataError names the expid, the seeds and the command.
    """
    bars, missing = [], []
    for result in results:
        arm, side = result.arm, result.side
        mean = side.mean(METRIC)
        if mean is None:
            missing.append(f"{side.expid} ({_reason(side)})")
            continue
        variant = {"dis": "dis", "full": "gen"}.get(arm.word, "arm")
        value = published.get(arm.expid)
        bars.append(Bar(arm.label, mean, side.std(METRIC), len(side.seeds), variant, value))
    first = results[0].side
    if missing:
        options = f"--ablation {group} --dataset {registry.alias_of(dataset_id)}"
        options += f" --seeds {','.join(map(str, first.seeds))}" if len(first.seeds) > 1 else ""
        raise DataError(
            f"no figure of the {group} ablation of {backbone} on {dataset_id}: runs are missing: "
            f"{', '.join(missing)}; to make them run: bash 2.reproduce.sh {options}"
        )
    num_rows = (first.runs[first.seeds[0]].rows or {}).get("test")
    return write_ablation(root, dataset_id, backbone, group, bars, first.seeds, num_rows)


def _reason(side: SeedRuns) -> str:
    if not side.seeds:
        return "not run"
    if side.missing:
        return "; ".join(f"seed {seed}: {why}" for seed, why in side.missing.items())
    return "no test AUC"


def _draw_activation(evidence: Evidence, ablation: Ablation) -> list[Path]:
    arms = [r.arm for r in ablation.results if evidence.shown_run(r.arm.expid) is not None]
    if not arms:
        return []
    records = _open(evidence, ablation.backbone, [arm.expid for arm in arms])
    labels = [arm.label for arm in arms]
    names = (evidence.dataset_id, ablation.backbone)
    return spectrum.write_activation_spectra(ROOT, *names, records, labels)


def _open(evidence: Evidence, backbone: str, expids: Sequence[str]) -> list[Records]:
    """Opens the recordings of those expids that have one."""
    runs = [evidence.shown_run(expid) for expid in expids]
    return [load_records(run.path, backbone) for run in runs if run is not None]
