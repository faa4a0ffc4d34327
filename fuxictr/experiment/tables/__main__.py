"""The paper's tables from the results store alone: ``python -m fuxictr.experiment.tables``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr.config import TrainConfig, list_expids
from fuxictr.datasets import registry
from fuxictr.errors import DataError, run_cli
from fuxictr.experiment.ablation import ablated_backbones, find_arms, parse_groups
from fuxictr.experiment.options import parse_models, parse_names, parse_seeds
from fuxictr.experiment.results import read_results
from fuxictr.experiment.tables import (
    AVERAGED,
    Comparison,
    ablation_markdown,
    ablation_results,
    compare_backbones,
    find_ceiling,
    to_markdown,
    write_ablation_tables,
    write_average_lifts,
    write_tables,
)
from fuxictr.experiment.zoo import ROOT, backbones, select_expids


def main(argv: list[str] | None = None) -> None:
    """Parses the command line, prints the tables and writes their files."""
    parser = argparse.ArgumentParser(
        prog="python -m fuxictr.experiment.tables",
        description="Make the tables of the paper from results that are already there.",
    )
    parser.add_argument(
        "--dataset",
        help="avazu, criteo, demo or a dataset_id of the configs, or a list a,b "
        "(default: all that the results hold)",
    )
    parser.add_argument(
        "--model",
        default="all",
        help="a backbone of model_zoo/, a list a,b, or all that the results hold (default)",
    )
    parser.add_argument(
        "--seeds",
        help="the seeds a mean must be over: how many, counted up from the config's own, or a list "
        "of them, as 2019,2020 (default: all that the results hold)",
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / "results" / "results.jsonl", help="the results store"
    )
    parser.add_argument(
        "--ablation",
        help="also the tables of source, encoder, target, activation, a list of them, or all",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "results", help="write to OUT/<dataset_id>/"
    )
    args = parser.parse_args(argv)
    run_cli(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    models = parse_models(args.model)
    groups = parse_groups(args.ablation) if args.ablation else []
    rows = read_results(args.results)
    datasets = parse_names(args.dataset, "--dataset") if args.dataset else _datasets_of(rows)
    if not datasets:
        raise DataError(f"{args.results}: no runs of an expid of model_zoo/")
    by_dataset: dict[str, list[Comparison]] = {}
    texts: list[str] = []
    paths: list[Path] = []
    for dataset in datasets:
        folder = args.out / registry.dataset_id_of(dataset)
        names = _backbones_of(rows, dataset) if models == ["all"] else models
        if not names:
            raise DataError(
                f"{args.results}: no runs on {registry.dataset_id_of(dataset)}; run: "
                f"bash 2.reproduce.sh --dataset {dataset}"
            )
        comparisons = by_dataset[dataset] = _compare(rows, names, dataset, args.seeds)
        ceiling = find_ceiling(dataset, comparisons)
        texts.append(to_markdown(comparisons, dataset, ceiling))
        paths += write_tables(comparisons, dataset, folder, ceiling)
        for group in groups:
            names = _ablated_of(rows, dataset, group) if models == ["all"] else models
            for name in names:
                arms = find_arms(name, dataset, group)
                seeds = _seeds_of(args.seeds, name, dataset)
                results = ablation_results(rows, arms, registry.dataset_id_of(dataset), seeds)
                texts.append(ablation_markdown(name, group, results, dataset))
                paths += write_ablation_tables(name, group, results, dataset, folder)
            if not names:
                texts.append(f"No runs of the ablation {group} on {dataset}.\n")
    if {registry.alias_of(dataset) for dataset in datasets}.issuperset(AVERAGED):
        text, files = write_average_lifts(by_dataset, args.out)
        texts.append(text)
        paths += files
    folders = dict.fromkeys(str(path.parent) for path in paths)
    print("\n".join([*texts, f"Tables: {', '.join(folders)}"]))


def _datasets_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the datasets with runs of the backbones, as --dataset, in the order of the rows."""
    names = [
        registry.alias_of(name) for name in dict.fromkeys(r.get("dataset_id", "") for r in rows)
    ]
    return [name for name in names if _backbones_of(rows, name)]


def _backbones_of(rows: Sequence[Mapping[str, Any]], dataset: str) -> list[str]:
    """Returns the backbones that have a row on the dataset, finished or failed."""
    dataset_id = registry.dataset_id_of(dataset)
    ran = {row.get("expid") for row in rows if row.get("dataset_id") == dataset_id}
    return [
        name
        for name in backbones(dataset)
        if any(choice.expid in ran for choice in select_expids(name, dataset, ["dis", "gen"]))
    ]


def _ablated_of(rows: Sequence[Mapping[str, Any]], dataset: str, group: str) -> list[str]:
    """Returns the backbones that have a row of an arm of the ablation, finished or failed."""
    ran = {row.get("expid") for row in rows}
    return [
        name
        for name in ablated_backbones(dataset, group)
        if any(a.expid in ran and not a.is_reference for a in find_arms(name, dataset, group))
    ]


def _compare(
    rows: Sequence[dict[str, Any]], names: Sequence[str], dataset: str, seeds: str | None
) -> list[Comparison]:
    if seeds is None:
        return compare_backbones(rows, names, dataset)
    return [
        comparison
        for name in names
        for comparison in compare_backbones(rows, [name], dataset, _seeds_of(seeds, name, dataset))
    ]


def _seeds_of(text: str | None, backbone: str, dataset: str) -> list[int] | None:
    """Returns the seeds that --seeds stands for; a count begins at the DIS config's own seed."""
    if text is None:
        return None
    (choice,) = select_expids(backbone, dataset, ["dis"])
    own = list_expids(choice.folder / "config")[choice.expid].get("seed", TrainConfig.seed)
    return parse_seeds(text, own)


if __name__ == "__main__":
    main()
