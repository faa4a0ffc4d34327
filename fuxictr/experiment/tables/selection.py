"""What the options of tables and report select: backbones and ablations with rows, seeds."""

from __future__ import annotations

from collections.abc import Sequence

from fuxictr.datasets import registry
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.zoo.ablations import ablated_backbones, find_arms
from fuxictr.experiment.zoo.models import load_experiment, select_expids
from fuxictr.experiment.zoo.selection import parse_seeds

Rows = Sequence[RunRecord]


def with_rows(rows: Rows, names: Sequence[str], dataset: str) -> list[str]:
    """Returns those of some backbones that have a row of DIS or GEN, finished or failed."""
    ran = _expids_of(rows, dataset)
    return [
        name
        for name in names
        if any(choice.expid in ran for choice in select_expids(name, dataset, ["dis", "gen"]))
    ]


def ablated_with_rows(rows: Rows, dataset: str, group: str) -> list[str]:
    """Returns the backbones that have a row of an arm of their own, finished or failed."""
    ran = _expids_of(rows, dataset)
    return [
        name
        for name in ablated_backbones(dataset, group)
        if any(a.expid in ran and not a.is_reference for a in find_arms(name, dataset, group))
    ]


def own_seeds(text: str, backbone: str, dataset: str) -> list[int]:
    """Returns the seeds that --seeds stands for; a count begins at the DIS config's own seed."""
    (choice,) = select_expids(backbone, dataset, ["dis"])
    config, _ = load_experiment(choice.expid, choice.folder)
    return parse_seeds(text, config.train.seed)


def _expids_of(rows: Rows, dataset: str) -> set[str]:
    dataset_id = registry.dataset_id_of(dataset)
    return {row.expid for row in rows if row.dataset_id == dataset_id}
