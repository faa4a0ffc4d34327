"""All tables of some datasets at once, as a command requests them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fuxictr.datasets import registry
from fuxictr.datasets.registry import PAPER_DATASETS
from fuxictr.errors import DataError
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.tables.ablations import write_ablation_tables
from fuxictr.experiment.tables.backbones import find_ceiling, write_tables
from fuxictr.experiment.tables.comparisons import Comparison, ablation_results, compare_backbones
from fuxictr.experiment.tables.published import write_average_lifts
from fuxictr.experiment.tables.selection import ablated_with_rows, own_seeds, with_rows
from fuxictr.experiment.zoo.ablations import find_arms, parse_groups
from fuxictr.experiment.zoo.models import backbones
from fuxictr.experiment.zoo.selection import parse_models, parse_names


def make_tables(args: argparse.Namespace) -> str:
    """Writes the tables that the options of ``ge4rec tables`` select; returns them as text."""
    models = parse_models(args.model)
    groups = parse_groups(args.ablation) if args.ablation else []
    rows = read_results(args.results)
    datasets = parse_names(args.dataset, "--dataset") if args.dataset else _datasets_of(rows)
    if not datasets:
        raise DataError(f"{args.results}: no runs of an expid of model_zoo/")
    by_dataset: dict[str, list[Comparison]] = {}
    texts: list[str] = []
    paths: list[Path] = []

    def add(text: str, written: list[Path]) -> None:
        texts.append(text)
        paths.extend(written)

    for dataset in datasets:
        folder = args.out / registry.dataset_id_of(dataset)
        names = with_rows(rows, backbones(dataset), dataset) if models == ["all"] else models
        if not names:
            raise DataError(
                f"{args.results}: no runs on {registry.dataset_id_of(dataset)}; run: "
                f"bash 2.reproduce.sh --dataset {dataset}"
            )
        comparisons = by_dataset[dataset] = compare_backbones(
            rows, names, dataset, _seeds_of(args.seeds, names, dataset)
        )
        add(*write_tables(comparisons, dataset, folder, find_ceiling(dataset, comparisons)))
        for group in groups:
            names = ablated_with_rows(rows, dataset, group) if models == ["all"] else models
            for name in names:
                arms = find_arms(name, dataset, group)
                seeds = None if args.seeds is None else own_seeds(args.seeds, name, dataset)
                results = ablation_results(rows, arms, registry.dataset_id_of(dataset), seeds)
                add(*write_ablation_tables(name, group, results, dataset, folder))
            if not names:
                texts.append(f"No runs of the ablation {group} on {dataset}.\n")
    if {registry.alias_of(dataset) for dataset in datasets}.issuperset(PAPER_DATASETS):
        add(*write_average_lifts(by_dataset, args.out))
    folders = dict.fromkeys(str(path.parent) for path in paths)
    return "\n".join([*texts, f"Tables: {', '.join(folders)}"])


def _datasets_of(rows: Sequence[RunRecord]) -> list[str]:
    """Returns the datasets with runs of the backbones, as --dataset, in the order of the rows."""
    names = [registry.alias_of(name) for name in dict.fromkeys(row.dataset_id for row in rows)]
    return [name for name in names if with_rows(rows, backbones(name), name)]


def _seeds_of(text: str | None, names: Sequence[str], dataset: str) -> dict[str, list[int]] | None:
    """Returns the seeds of each backbone, None where --seeds is not given."""
    return None if text is None else {name: own_seeds(text, name, dataset) for name in names}
