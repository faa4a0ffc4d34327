"""DIS and GEN of a backbone, the average over backbones, the arms of an ablation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fuxictr.datasets import registry
from fuxictr.experiment.ablation import Arm
from fuxictr.experiment.tables.sides import Side, find_sides
from fuxictr.experiment.tables.statistics import mean, paired_t_test, relative_lift
from fuxictr.experiment.zoo import select_expids

# What GEN may need more of.
COSTS = ("parameters", "train_seconds", "seconds_per_row", "peak_memory")
# The backbones that interact fields without a deep network beside it.
EXPLICIT = ("FM", "FwFM", "FmFM", "CrossNet")


@dataclass(frozen=True)
class Comparison:
    """DIS and GEN of one backbone; every number is None unless both sides have all seeds."""

    backbone: str
    dis: Side
    gen: Side

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
        """Returns what GEN needs more than DIS, in percent.

        Args:
            what: among COSTS; time and memory count only where both ran on one kind of device.
        """
        dis, gen = getattr(self.dis, what), getattr(self.gen, what)
        if not dis or gen is None or (what != "parameters" and not self._on_one_device()):
            return None
        return relative_lift(dis, gen)

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the row: missing runs, sides of unlike data or code."""
        notes = self.dis.notes(f"{self.backbone} DIS") + self.gen.notes(f"{self.backbone} GEN")
        for key, word in (("data_hash", "data"), ("code_hash", "code")):
            dis, gen = self.dis.shared(key), self.gen.shared(key)
            if self.dis.runs and self.gen.runs and dis != gen:
                notes.append(
                    f"{self.backbone}: DIS and GEN ran with different {word} ({key} {dis}, {gen})"
                )
        return notes

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
        label: ``all`` or ``explicit``.
        over: the complete comparisons.
        left_out: the other backbones that the label stands for.
    """

    label: str
    over: tuple[Comparison, ...]
    left_out: tuple[str, ...]

    def describe(self) -> str:
        """Returns over which backbones it is, and which it leaves out."""
        over = ", ".join(c.backbone for c in self.over) or "no backbone"
        out = ", ".join(self.left_out) or "none"
        return f"{self.label}: average over {over}; left out for missing runs: {out}"

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
    side: Side


def compare_backbones(
    rows: Iterable[dict[str, Any]],
    backbones: Sequence[str],
    dataset: str,
    seeds: Sequence[int] | None = None,
) -> list[Comparison]:
    """Returns DIS and GEN of each backbone.

    Args:
        rows: the results store.
        backbones: as --model.
        dataset: as --dataset.
        seeds: the seeds each side must have; null = all that any of the expids ran or failed with.

    Raises:
        ConfigError: a backbone without a DIS and a GEN expid on the dataset.
    """
    pairs = [select_expids(backbone, dataset, ["dis", "gen"]) for backbone in backbones]
    expids = [choice.expid for pair in pairs for choice in pair]
    sides = find_sides(list(rows), expids, registry.dataset_id_of(dataset), seeds)
    return [Comparison(dis.backbone, sides[dis.expid], sides[gen.expid]) for dis, gen in pairs]


def ablation_results(
    rows: Iterable[dict[str, Any]],
    arms: Sequence[Arm],
    dataset_id: str,
    seeds: Sequence[int] | None = None,
) -> list[ArmResult]:
    """Returns the runs of each arm; the arguments are as for compare_backbones."""
    sides = find_sides(list(rows), [arm.expid for arm in arms], dataset_id, seeds)
    return [ArmResult(arm, sides[arm.expid]) for arm in arms]


def average(comparisons: Sequence[Comparison], known: Sequence[str]) -> list[Average]:
    """Returns the averages over all backbones and over the explicit ones.

    Args:
        comparisons: what compare_backbones returned.
        known: the backbones that ``all`` stands for.
    """
    names = list(dict.fromkeys([c.backbone for c in comparisons] + list(known)))
    explicit = [name for name in EXPLICIT if name in names]
    complete = {c.backbone: c for c in comparisons if c.is_complete}
    return [
        Average(
            label,
            tuple(complete[name] for name in members if name in complete),
            tuple(name for name in members if name not in complete),
        )
        for label, members in (("all", names), ("explicit", explicit))
        if members
    ]


def mean_of(values: Sequence[float | None]) -> float | None:
    """Returns the mean; None where one of the values is None, or none is there."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None
