"""The paper's tables from the results store alone: ``python -m fuxictr tables``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fuxictr.cli.command import run_cli
from fuxictr.datasets import registry
from fuxictr.datasets.registry import PAPER_DATASETS
from fuxictr.errors import DataError
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.tables import (
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
from fuxictr.experiment.tables.selection import ablated_with_rows, own_seeds, with_rows
from fuxictr.experiment.zoo.ablations import find_arms, parse_groups
from fuxictr.experiment.zoo.models import ROOT, backbones
from fuxictr.experiment.zoo.selection import parse_models, parse_names


def main(argv: list[str] | None = None) -> None:
    """Parses the command line, prints the tables and writes their files."""
    parser = argparse.ArgumentParser(
        prog="python -m fuxictr tables",
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
        "of them, as 2019,2020 (default: all that DIS and GEN of a backbone were both run with)",
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
        names = with_rows(rows, backbones(dataset), dataset) if models == ["all"] else models
        if not names:
            raise DataError(
                f"{args.results}: no runs on {registry.dataset_id_of(dataset)}; run: "
                f"bash 2.reproduce.sh --dataset {dataset}"
            )
        comparisons = by_dataset[dataset] = compare_backbones(
            rows, names, dataset, _seeds_of(args.seeds, names, dataset)
        )
        ceiling = find_ceiling(dataset, comparisons)
        texts.append(to_markdown(comparisons, dataset, ceiling))
        paths += write_tables(comparisons, dataset, folder, ceiling)
        for group in groups:
            names = ablated_with_rows(rows, dataset, group) if models == ["all"] else models
            for name in names:
                arms = find_arms(name, dataset, group)
                seeds = None if args.seeds is None else own_seeds(args.seeds, name, dataset)
                results = ablation_results(rows, arms, registry.dataset_id_of(dataset), seeds)
                texts.append(ablation_markdown(name, group, results, dataset))
                paths += write_ablation_tables(name, group, results, dataset, folder)
            if not names:
                texts.append(f"No runs of the ablation {group} on {dataset}.\n")
    if {registry.alias_of(dataset) for dataset in datasets}.issuperset(PAPER_DATASETS):
        text, files = write_average_lifts(by_dataset, args.out)
        texts.append(text)
        paths += files
    folders = dict.fromkeys(str(path.parent) for path in paths)
    print("\n".join([*texts, f"Tables: {', '.join(folders)}"]))


def _datasets_of(rows: Sequence[RunRecord]) -> list[str]:
    """Returns the datasets with runs of the backbones, as --dataset, in the order of the rows."""
    names = [registry.alias_of(name) for name in dict.fromkeys(row.dataset_id for row in rows)]
    return [name for name in names if with_rows(rows, backbones(name), name)]


def _seeds_of(text: str | None, names: Sequence[str], dataset: str) -> dict[str, list[int]] | None:
    """Returns the seeds of each backbone, None where --seeds is not given."""
    return None if text is None else {name: own_seeds(text, name, dataset) for name in names}


if __name__ == "__main__":
    main()
