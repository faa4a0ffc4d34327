"""DIS and GEN of a backbone, the average over backbones, the arms of an ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fuxictr.datasets import registry
from fuxictr.experiment.results.identity import PresentData
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.tables.seed_runs import SeedRuns, find_runs, shared_seeds, unlike_runs
from fuxictr.experiment.tables.statistics import mean, paired_t_test, relative_lift
from fuxictr.experiment.zoo.ablations import Arm
from fuxictr.experiment.zoo.models import select_expids

COSTS = ("parameters", "train_seconds", "seconds_per_row", "peak_memory")
# The backbones without a deep network beside the interactions.
EXPLICIT = ("FM", "FwFM", "FmFM", "CrossNet")
# Those of the paper's table, which has no FwFM: its stated averages are over these alone.
OF_PAPER = ("FM", "FmFM", "CrossNet", "DeepFM", "xDeepFM", "PNN", "DCNv2")
EXPLICIT_OF_PAPER = ("FM", "FmFM", "CrossNet")


@dataclass(frozen=True)
class Comparison:
    """DIS and GEN of one backbone; a number is None unless both sides have all seeds."""

    backbone: str
    dis: SeedRuns
    gen: SeedRuns

    @property
    def is_complete(self) -> bool:
        """Whether both sides have a run of every seed."""
        return self.dis.is_complete and self.gen.is_complete

    def lift(self, metric: str) -> float | None:
        """Returns the relative lift of the mean over seeds, in percent."""
        dis, gen = self.dis.mean(metric), self.gen.mean(metric)
        return relative_lift(dis, gen) if dis and gen is not None else None

    def p_value(self, metric: str) -> float | None:
        """Returns p of the two-sided t-test paired over the seeds; None with one seed."""
        dis, gen = self.dis.values(metric), self.gen.values(metric)
        return paired_t_test(dis, gen) if dis and gen else None

    def overhead(self, what: str) -> float | None:
        """Returns by how many percent GEN needs more than DIS of one of COSTS.

        Time and memory are compared only where both ran on one kind of device.
        """
        dis, gen = getattr(self.dis, what), getattr(self.gen, what)
        if not dis or gen is None or (what != "parameters" and not self._on_one_device()):
            return None
        return relative_lift(dis, gen)

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the row: missing runs, sides of unlike data or code."""
        notes = self.dis.notes(f"{self.backbone} DIS") + self.gen.notes(f"{self.backbone} GEN")
        unlike = unlike_runs(self.dis, self.gen)
        return notes + [f"{self.backbone}: DIS and GEN ran with {what}" for what in unlike]

    @property
    def cost_notes(self) -> list[str]:
        """Why time and memory are not compared, where they are not."""
        if not self.is_complete or self._on_one_device():
            return []
        dis, gen = (", ".join(side.devices) for side in (self.dis, self.gen))
        return [f"{self.backbone}: no overhead, DIS ran on {dis}, GEN on {gen}"]

    def _on_one_device(self) -> bool:
        return len(self.dis.devices) == 1 and self.dis.devices == self.gen.devices


@dataclass(frozen=True)
class Average:
    """The mean over the complete ones of some backbones.

    Attributes:
        label: ``all``, ``explicit``, ``paper`` or ``paper explicit``.
        over: the complete comparisons.
        incomplete: the backbones that were compared and miss a run.
        absent: the other backbones that the label stands for.
        published: the name of the paper's average over the same backbones, or empty.
    """

    label: str
    over: tuple[Comparison, ...]
    incomplete: tuple[str, ...]
    absent: tuple[str, ...]
    published: str = ""

    @property
    def is_comparable(self) -> bool:
        """Whether it is over the same backbones as the paper's average."""
        return bool(self.published) and not self.left_out

    @property
    def left_out(self) -> tuple[str, ...]:
        """The backbones of the label that are missing in the mean."""
        return (*self.incomplete, *self.absent)

    def describe(self) -> str:
        """Returns over which backbones it is, and which it leaves out."""
        over = ", ".join(c.backbone for c in self.over) or "no backbone"
        text = f"{self.label}: average over {over}"
        text += f"; left out for missing runs: {', '.join(self.incomplete) or 'none'}"
        return text + (f"; not in this table: {', '.join(self.absent)}" if self.absent else "")

    def mean(self, variant: str, metric: str) -> float | None:
        """Returns the mean of the backbones' means of ``dis`` or ``gen``."""
        return mean_of([getattr(c, variant).mean(metric) for c in self.over])

    def lift(self, metric: str) -> float | None:
        """Returns the mean of the backbones' lifts, in percent."""
        return mean_of([c.lift(metric) for c in self.over])

    def overhead(self, what: str) -> float | None:
        """Returns the mean of the backbones' overheads, in percent."""
        return mean_of([c.overhead(what) for c in self.over])


@dataclass(frozen=True)
class ArmResult:
    """The runs of one arm of an ablation."""

    arm: Arm
    side: SeedRuns


def compare_backbones(
    rows: Iterable[RunRecord],
    backbones: Sequence[str],
    dataset: str,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
) -> list[Comparison]:
    """Returns DIS and GEN of each backbone, run with the configs as they are now.

    ``seeds`` are those that each side must have, or those of each backbone; None = all that any
    backbone was run or failed with on both sides. The notes name other seeds.

    Raises:
        ConfigError: a backbone without a DIS and a GEN expid on the dataset.
    """
    rows, dataset_id, data = list(rows), registry.dataset_id_of(dataset), PresentData()
    found = []
    for backbone in backbones:
        dis, gen = (
            find_runs(rows, choice.expid, choice.folder, dataset_id, data)
            for choice in select_expids(backbone, dataset, ["dis", "gen"])
        )
        found.append((dis, gen))
    wanted = shared_seeds(found, [f for pair in found for f in pair]) if seeds is None else seeds
    comparisons = []
    for backbone, pair in zip(backbones, found, strict=True):
        own = wanted[backbone] if isinstance(wanted, Mapping) else wanted
        sides = [runs.over(own, names_left_out=seeds is None) for runs in pair]
        comparisons.append(Comparison(backbone, *sides))
    return comparisons


def ablation_results(
    rows: Iterable[RunRecord],
    arms: Sequence[Arm],
    dataset_id: str,
    seeds: Sequence[int] | None = None,
) -> list[ArmResult]:
    """Returns the runs of each arm (DIS, the arms, full GEN) with the configs as they are now.

    ``seeds`` are those that each arm must have; None = all that any arm and the full GEN were both
    run or failed with. The notes name other seeds, those of DIS and GEN included.
    """
    rows, data = list(rows), PresentData()
    found = [find_runs(rows, arm.expid, arm.folder, dataset_id, data) for arm in arms]
    own = [runs for arm, runs in zip(arms, found, strict=True) if not arm.is_reference]
    wanted = shared_seeds([(runs, found[-1]) for runs in own], found) if seeds is None else seeds
    return [
        ArmResult(arm, runs.over(wanted, names_left_out=seeds is None))
        for arm, runs in zip(arms, found, strict=True)
    ]


def average(comparisons: Sequence[Comparison], known: Sequence[str]) -> list[Average]:
    """Returns the averages over all backbones and the explicit ones, and the paper's of both.

    ``known`` are the backbones that ``all`` stands for.
    """
    compared = [c.backbone for c in comparisons]
    names = list(dict.fromkeys([*compared, *known]))
    groups = [
        ("all", names, ""),
        ("explicit", [name for name in EXPLICIT if name in names], ""),
        ("paper", OF_PAPER, "average"),
        ("paper explicit", EXPLICIT_OF_PAPER, "explicit_average"),
    ]
    complete = {c.backbone: c for c in comparisons if c.is_complete}
    return [
        Average(
            label,
            tuple(complete[name] for name in members if name in complete),
            tuple(name for name in members if name in compared and name not in complete),
            tuple(name for name in members if name not in compared),
            published,
        )
        for label, members, published in groups
        if not set(names).isdisjoint(members)
    ]


def mean_of(values: Sequence[float | None]) -> float | None:
    """Returns the mean; None without values, or where one of them is None."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None
