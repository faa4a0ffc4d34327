"""``bash 2.reproduce.sh``: trains DIS and GEN on a dataset and prints the results table."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from fuxictr.config import ExperimentConfig
from fuxictr.datasets import registry
from fuxictr.datasets.demo import load_bayes_ceiling
from fuxictr.errors import DataError, run_cli
from fuxictr.experiment.options import (
    add_rebuild_option,
    add_sweep_options,
    parse_models,
    parse_seeds,
    parse_variants,
)
from fuxictr.experiment.published import compare_published
from fuxictr.experiment.zoo import ROOT, Choice, backbones, load_experiment, select_expids


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    choice: Choice
    seed: int
    config: ExperimentConfig
    model_class: type


def main(argv: list[str] | None = None) -> None:
    """Parses the command line and runs the sweep."""
    parser = argparse.ArgumentParser(
        prog="2.reproduce.sh",
        description="Train the DIS and the GEN variant of a backbone and compare them.",
    )
    add_sweep_options(parser)
    add_rebuild_option(parser)
    args = parser.parse_args(argv)
    run_cli(lambda: _run(args))


def default_dataset() -> str:
    """Returns ``avazu`` if it is prepared, otherwise ``demo``, and prints which."""
    if registry.is_prepared(ROOT, registry.resolve("avazu")):
        print("Dataset: Avazu, which is prepared.", flush=True)
        return "avazu"
    print(
        "Dataset: the embedded demo data (synthetic clicks), because Avazu is not prepared.\n"
        "         To prepare Avazu: bash 1.prepare.sh avazu",
        flush=True,
    )
    return "demo"


def ensure_prepared(dataset: str) -> None:
    """Generates the demo data where it is needed and absent; other data must be there.

    Raises:
        DataError: the dataset's raw files are not prepared; names the command that prepares it.
    """
    if registry.alias_of(dataset) == "demo":
        _generate_demo_if_absent()
    elif registry.is_known(dataset) and not registry.is_prepared(ROOT, registry.resolve(dataset)):
        raw = registry.resolve(dataset)
        raise DataError(
            f"dataset '{dataset}' is not prepared: no train.csv, valid.csv and test.csv in "
            f"{registry.raw_dir(ROOT, raw)}; run: bash 1.prepare.sh {dataset}"
        )


def plan_runs(models: list[str], dataset: str, variants: list[str], seeds: str) -> list[PlannedRun]:
    """Returns the runs of a sweep, all configs checked before the first one starts.

    The first seed's files are named after the expid; those of other seeds get ``_seed<S>``.

    Args:
        models: backbones, or ``all``.
        dataset: the dataset, as --dataset.
        variants: among ``dis`` and ``gen``.
        seeds: as --seeds.
    """
    runs = []
    for model in backbones(dataset) if models == ["all"] else models:
        for choice in select_expids(model, dataset, variants):
            config, model_class = load_experiment(choice.expid, choice.folder)
            numbers = parse_seeds(seeds, config.train.seed)
            for seed in numbers:
                suffix = "" if seed == numbers[0] else f"_seed{seed}"
                seeded = replace(
                    config,
                    train=replace(config.train, seed=seed),
                    run=replace(config.run, model_id=config.run.model_id + suffix),
                )
                runs.append(PlannedRun(choice, seed, seeded, model_class))
    return runs


def _run(args: argparse.Namespace) -> None:
    models, variants = parse_models(args.model), parse_variants(args.variants)
    dataset = args.dataset or default_dataset()

    from fuxictr.experiment.results import read_results
    from fuxictr.experiment.run import RESULTS, run_experiment
    from fuxictr.experiment.tables import Cell, build_table, to_markdown, write_table
    from fuxictr.pytorch.torch_utils import get_device

    device = get_device(args.gpu)
    runs = plan_runs(models, dataset, variants, args.seeds)
    ensure_prepared(dataset)
    for number, run in enumerate(runs, start=1):
        title = f"Run {number}/{len(runs)}: {run.choice.expid}, seed {run.seed}, {device}"
        print(f"\n=== {title} ===", flush=True)
        csv_file = run.choice.folder / "config.csv"
        rebuild = args.rebuild and number == 1  # the runs share one dataset
        run_experiment(run.config, run.model_class, device, csv_file, RESULTS, rebuild)
    dataset_id = registry.dataset_id_of(dataset)
    cells = [
        Cell(choice.backbone, choice.variant, choice.expid, tuple(run.seed for run in group))
        for choice, group in itertools.groupby(runs, key=lambda run: run.choice)
    ]
    table = build_table(read_results(RESULTS), cells, dataset_id, _ceiling(dataset))
    paths = write_table(table, ROOT / "results" / dataset_id)
    print(f"\nResults on {dataset_id}:\n\n{to_markdown(table)}")
    published = compare_published(table, dataset)
    if published:
        print("Beside published figures:\n" + "\n".join(f"  {line}" for line in published) + "\n")
    print("Table: " + ", ".join(str(path.relative_to(ROOT)) for path in paths))
    print(f"Figures of what was learned: bash 3.analyze.sh --dataset {dataset}")


def _ceiling(dataset: str) -> dict[str, float] | None:
    if registry.alias_of(dataset) != "demo":
        return None
    return load_bayes_ceiling(registry.raw_dir(ROOT, registry.resolve("demo")))


def _generate_demo_if_absent() -> None:
    if not registry.is_prepared(ROOT, registry.resolve("demo")):
        print("Generating the demo data: bash 1.prepare.sh demo", flush=True)
        command = [sys.executable, "-m", "fuxictr.datasets.prepare", "demo"]
        completed = subprocess.run(command, cwd=Path(ROOT), check=False)
        if completed.returncode:
            raise DataError("the demo data could not be generated; see the line above")


if __name__ == "__main__":
    main()
