"""What the report is made from: runs of a dataset, their recordings, and the numbers of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuxictr.datasets import registry
from fuxictr.errors import CheckpointError, DataError, FuxiCTRError
from fuxictr.experiment.ablation import GROUPS, ablated_backbones, find_arms
from fuxictr.experiment.options import parse_seeds
from fuxictr.experiment.recordings import (
    Sample,
    TrainedRun,
    find_trained,
    load_numbers,
    make_recordings,
)
from fuxictr.experiment.results import is_finished, newest_runs
from fuxictr.experiment.tables.comparisons import (
    ArmResult,
    Comparison,
    ablation_results,
    compare_backbones,
)
from fuxictr.experiment.tables.sides import Side
from fuxictr.experiment.zoo import backbones, find_folder, load_experiment, select_expids
from fuxictr.progress import progress_bar

if TYPE_CHECKING:
    from fuxictr.analysis.fields import FieldSummary
    from fuxictr.analysis.summary import RunSummary

Rows = Sequence[dict[str, Any]]
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
        dataset: as --dataset.
        comparisons: DIS and GEN of each backbone that has runs.
        ablations: those that have runs of their own.
        untrained: backbones without any run.
        sample: the rows that are recorded.
        shown: expid -> the seed whose arrays the figures show.
        recorded: the runs that are recorded.
        unrecorded: why others are not.
        numbers: what the recordings come down to.
        fields: expid -> its fields, of the seed shown.
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
        """The dataset's block in dataset_config.yaml."""
        return registry.dataset_id_of(self.dataset)

    @property
    def sides(self) -> list[Side]:
        """DIS and GEN of every backbone."""
        return [side for c in self.comparisons for side in (c.dis, c.gen)]

    def shown_run(self, expid: str) -> TrainedRun | None:
        """Returns the run of an expid whose arrays are kept, None where it is not recorded."""
        return self.recorded.get((expid, self.shown.get(expid, -1)))

    def shown_numbers(self, expid: str) -> RunSummary | None:
        """Returns the numbers of that run."""
        return self.numbers.get((expid, self.shown.get(expid, -1)))

    def paired_numbers(self, comparison: Comparison) -> tuple[list[RunSummary], list[RunSummary]]:
        """Returns the numbers of DIS and of GEN, of the seeds that are recorded of both."""
        expids = (comparison.dis.expid, comparison.gen.expid)
        seeds = [
            seed
            for seed in comparison.dis.seeds
            if all((expid, seed) in self.numbers for expid in expids)
        ]
        dis, gen = ([self.numbers[expid, seed] for seed in seeds] for expid in expids)
        return dis, gen


def find_backbones(rows: Rows, dataset: str, models: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the backbones that have a finished run of DIS or GEN, and those that have none.

    Args:
        rows: the results store.
        dataset: as --dataset.
        models: backbones, or ``all``.

    Raises:
        DataError: there is no run at all; names the command that makes them.
    """
    names = backbones(dataset) if list(models) == ["all"] else list(models)
    dataset_id = registry.dataset_id_of(dataset)
    ran = {r.get("expid") for r in rows if r.get("dataset_id") == dataset_id and is_finished(r)}
    expids = {
        name: {choice.expid for choice in select_expids(name, dataset, ["dis", "gen"])}
        for name in names
    }
    trained = [name for name in names if expids[name] & ran]
    if not trained:
        wanted = ",".join(models)
        raise DataError(
            f"no finished run on {dataset_id} to report; train first: bash 2.reproduce.sh "
            f"--model {wanted} --dataset {dataset}"
        )
    return trained, [name for name in names if name not in trained]


def gather(rows: Rows, dataset: str, models: Sequence[str], seeds: str | None) -> Evidence:
    """Returns the runs of a dataset, nothing recorded yet.

    Args:
        rows: the results store.
        dataset: as --dataset.
        models: backbones, or ``all``.
        seeds: as --seeds; null = all that there are.

    Raises:
        DataError: as ``find_backbones``.
    """
    names, untrained = find_backbones(rows, dataset, models)
    wanted = {name: _own_seeds(name, dataset, seeds) for name in names}
    if seeds is None:
        comparisons = compare_backbones(rows, names, dataset)
    else:
        comparisons = [
            comparison
            for name in names
            for comparison in compare_backbones(rows, [name], dataset, wanted[name])
        ]
    ablations = []
    for group in GROUPS:
        for name in ablated_backbones(dataset, group):
            if name in names:
                ablations += _find_ablation(rows, name, dataset, group, wanted[name])
    return Evidence(dataset, comparisons, ablations, untrained)


def record(evidence: Evidence, gpu: int | str, sample: Sample, again: bool = False) -> None:
    """Records what the report needs and is not recorded yet, and reads the numbers.

    That is one seed of DIS and GEN of each backbone and of the activations' arms with their arrays,
    and the numbers of the other seeds of DIS and GEN.

    Raises:
        ConfigError: there is no such GPU.
    """
    from fuxictr.analysis.fields import field_summary
    from fuxictr.analysis.records import load_records
    from fuxictr.pytorch.torch_utils import get_device

    get_device(gpu)  # an error of its own, not one of each run
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


def _wanted_runs(evidence: Evidence) -> dict[RunKey, tuple[str, Path, dict[str, Any]]]:
    """Returns backbone, model folder and row of each run to record; sets the seeds shown."""
    wanted: dict[RunKey, tuple[str, Path, dict[str, Any]]] = {}

    def add(backbone: str, folder: Path, side: Side, seeds: Sequence[int], shown: int) -> None:
        evidence.shown[side.expid] = shown
        wanted.update({(side.expid, s): (backbone, folder, side.runs[s]) for s in seeds})

    for comparison in evidence.comparisons:
        folder, first = find_folder(comparison.backbone), _first_seed(comparison)
        for side in (comparison.dis, comparison.gen):
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


def _first_seed(comparison: Comparison) -> int | None:
    """Returns the first seed that both sides have, so that one figure shows one seed."""
    return min(set(comparison.dis.runs) & set(comparison.gen.runs), default=None)


def _find_ablation(
    rows: Rows, backbone: str, dataset: str, group: str, seeds: list[int] | None
) -> list[Ablation]:
    """Returns the ablation if one of its own arms has a run, over the seeds that its arms have."""
    arms = find_arms(backbone, dataset, group)
    dataset_id = registry.dataset_id_of(dataset)
    own = [
        seed
        for arm in arms
        if not arm.is_reference
        for seed in newest_runs(rows, arm.expid, dataset_id, seeds)
    ]
    if not own:
        return []
    results = ablation_results(rows, arms, dataset_id, seeds or sorted(set(own)))
    return [Ablation(backbone, group, results)]


def _own_seeds(backbone: str, dataset: str, seeds: str | None) -> list[int] | None:
    if seeds is None:
        return None
    (choice,) = select_expids(backbone, dataset, ["dis"])
    config, _ = load_experiment(choice.expid, choice.folder)
    return parse_seeds(seeds, config.train.seed)
