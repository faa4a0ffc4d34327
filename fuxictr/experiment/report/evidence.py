"""What the report is made from: runs of a dataset, their recordings, and the numbers of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuxictr.analysis.fields import FieldSummary, field_summary
from fuxictr.analysis.records import load_records
from fuxictr.analysis.sample import Sample
from fuxictr.analysis.summary import RunSummary
from fuxictr.datasets import registry
from fuxictr.errors import CheckpointError, DataError, FuxiCTRError
from fuxictr.experiment.recordings.record import load_numbers, make_recordings
from fuxictr.experiment.recordings.trained import TrainedRun, find_trained
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.tables.comparisons import (
    ArmResult,
    Comparison,
    ablation_results,
    compare_backbones,
)
from fuxictr.experiment.tables.seed_runs import SeedRuns
from fuxictr.experiment.tables.selection import ablated_with_rows, own_seeds, with_rows
from fuxictr.experiment.zoo.ablations import GROUPS, find_arms
from fuxictr.experiment.zoo.models import backbones, find_folder
from fuxictr.progress import progress_bar
from fuxictr.pytorch.torch_utils import get_device

Rows = Sequence[RunRecord]
RunKey = tuple[str, int]  # expid and seed


@dataclass(frozen=True)
class Ablation:
    """The arms of one ablation of a backbone, DIS first and the full GEN last."""

    backbone: str
    group: str
    results: list[ArmResult]


@dataclass
class Evidence:
    """Runs, recordings and numbers of one dataset.

    Attributes:
        comparisons: DIS and GEN of each backbone that has runs, finished or failed.
        ablations: those that have runs of their own.
        untrained: backbones without any run, even a failed one.
        shown: expid -> the seed whose arrays the figures show.
        unrecorded: why the other runs are not recorded.
        fields: expid -> the numbers of its fields, of the seed shown.
    """

    dataset: str
    comparisons: list[Comparison]
    ablations: list[Ablation]
    untrained: list[str]
    sample: Sample = field(default_factory=Sample)
    shown: dict[str, int] = field(default_factory=dict)
    recorded: dict[RunKey, TrainedRun] = field(default_factory=dict)
    unrecorded: dict[RunKey, str] = field(default_factory=dict)
    numbers: dict[RunKey, RunSummary] = field(default_factory=dict)
    fields: dict[str, list[FieldSummary]] = field(default_factory=dict)

    @property
    def dataset_id(self) -> str:
        """The dataset's key in dataset_config.yaml."""
        return registry.dataset_id_of(self.dataset)

    @property
    def sides(self) -> list[SeedRuns]:
        """DIS and GEN of every backbone."""
        return [side for c in self.comparisons for side in (c.dis, c.gen)]

    def shown_run(self, expid: str) -> TrainedRun | None:
        """Returns the recorded run that the figures of an expid show, None where there is none."""
        return self.recorded.get((expid, self.shown.get(expid, -1)))

    def shown_numbers(self, expid: str) -> RunSummary | None:
        """Returns the numbers of the run that the figures of an expid show."""
        return self.numbers.get((expid, self.shown.get(expid, -1)))

    def paired_numbers(self, comparison: Comparison) -> tuple[list[RunSummary], list[RunSummary]]:
        """Returns the numbers of DIS and of GEN for the seeds that are recorded of both."""
        expids = (comparison.dis.expid, comparison.gen.expid)
        seeds = [
            seed
            for seed in comparison.dis.seeds
            if all((expid, seed) in self.numbers for expid in expids)
        ]
        dis, gen = ([self.numbers[expid, seed] for seed in seeds] for expid in expids)
        return dis, gen


def named_sides(comparison: Comparison) -> tuple[tuple[str, SeedRuns], tuple[str, SeedRuns]]:
    """Returns DIS and GEN of a backbone with their names."""
    return (("DIS", comparison.dis), ("GEN", comparison.gen))


def gather(rows: Rows, dataset: str, models: Sequence[str], seeds: str | None) -> Evidence:
    """Returns the runs of a dataset, nothing recorded yet.

    ``seeds`` = None: as ``compare_backbones`` and ``ablation_results`` choose. Where no run is
    finished, a DataError names the command that makes them.
    """
    dataset_id = registry.dataset_id_of(dataset)
    known = backbones(dataset) if list(models) == ["all"] else list(models)
    names = with_rows(rows, known, dataset)
    if not with_rows([row for row in rows if row.is_finished], known, dataset):
        raise DataError(
            f"no finished run on {dataset_id} to report; train first: "
            f"bash 2.reproduce.sh --model {','.join(models)} --dataset {dataset}"
        )
    wanted = None
    if seeds is not None:
        wanted = {name: own_seeds(seeds, name, dataset) for name in names}
    comparisons = compare_backbones(rows, names, dataset, wanted)
    ablations = []
    for group in GROUPS:
        for name in ablated_with_rows(rows, dataset, group):
            if name in names:
                arms, own = find_arms(name, dataset, group), wanted[name] if wanted else None
                results = ablation_results(rows, arms, dataset_id, own)
                ablations.append(Ablation(name, group, results))
    untrained = [name for name in known if name not in names]
    return Evidence(dataset, comparisons, ablations, untrained)


def record(evidence: Evidence, gpu: int | str, sample: Sample, again: bool = False) -> None:
    """Makes the recordings that the report needs and lacks, and reads their numbers.

    The arrays of one seed are kept for DIS and GEN of each backbone and for the activations' arms;
    of the other seeds of DIS and GEN, only the numbers.
    """
    get_device(gpu)  # so that a wrong --gpu is reported once, not once per run
    evidence.sample = sample
    wanted = _wanted_runs(evidence)
    runs: dict[RunKey, TrainedRun] = {}
    with progress_bar(len(wanted), "Checking checkpoints", unit="run") as advance:
        for (expid, seed), (backbone, folder, row) in wanted.items():
            keeps_arrays = seed == evidence.shown[expid]
            try:
                runs[expid, seed] = find_trained(backbone, expid, folder, row, keeps_arrays)
            except FuxiCTRError as error:
                evidence.unrecorded[expid, seed] = str(error)
            advance(1)
    problems = make_recordings(list(runs.values()), gpu, sample, again)
    with progress_bar(len(runs), "Reading recordings", unit="run") as advance:
        for key, run in runs.items():
            try:
                if run in problems:
                    raise CheckpointError(problems[run])
                evidence.numbers[key] = load_numbers(run)
                evidence.recorded[key] = run
                if run.keeps_arrays:
                    evidence.fields[key[0]] = field_summary(load_records(run.path, run.backbone))
            except FuxiCTRError as error:
                evidence.unrecorded[key] = str(error)
            advance(1)


def _wanted_runs(evidence: Evidence) -> dict[RunKey, tuple[str, Path, RunRecord]]:
    """Returns backbone, model folder and row of each run to record; sets the seeds shown."""
    wanted: dict[RunKey, tuple[str, Path, RunRecord]] = {}

    def add(backbone: str, folder: Path, side: SeedRuns, seeds: Sequence[int], shown: int) -> None:
        evidence.shown[side.expid] = shown
        wanted.update({(side.expid, s): (backbone, folder, side.runs[s]) for s in seeds})

    for comparison in evidence.comparisons:
        folder = find_folder(comparison.backbone)
        # The first seed that both sides have, so that a figure shows one seed.
        first = min(set(comparison.dis.runs) & set(comparison.gen.runs), default=None)
        for _, side in named_sides(comparison):
            if side.runs:
                shown = first if first in side.runs else min(side.runs)
                add(comparison.backbone, folder, side, sorted(side.runs), shown)
    for ablation in evidence.ablations:
        for result in ablation.results if ablation.group == "activation" else ():
            side, arm = result.side, result.arm
            if side.runs and not arm.is_reference:
                first = evidence.shown.get(ablation.results[-1].arm.expid)
                shown = first if first in side.runs else min(side.runs)
                add(ablation.backbone, arm.folder, side, [shown], shown)
    return wanted
