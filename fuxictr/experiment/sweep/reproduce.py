"""What ``bash 2.reproduce.sh`` does: plans runs, trains what is missing, prints the tables."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuxictr.datasets import registry
from fuxictr.datasets.registry import PAPER_DATASETS
from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.sweep import PlannedRun, plan_ablations, plan_backbones, unique_runs
from fuxictr.experiment.zoo.ablations import find_arms, parse_groups
from fuxictr.experiment.zoo.models import ROOT
from fuxictr.experiment.zoo.selection import PAPER_SEEDS, parse_models, parse_names, parse_variants


def reproduce(args: argparse.Namespace) -> int:
    """Runs the sweep that the command line of 2.reproduce.sh asks for; returns the exit status."""
    datasets = _datasets(args)
    groups = parse_groups(args.ablation) if args.ablation else []
    plans = {dataset: _plan(args, dataset, groups) for dataset in datasets}
    gpus = _slots_of(args, bool(args.paper or groups or args.jobs))

    from fuxictr.experiment.run.run import RESULTS
    from fuxictr.experiment.sweep import Sweep, encode_datasets

    runs = list(itertools.chain.from_iterable(plans.values()))
    if args.dry_run:
        _print_plan(runs, gpus, RESULTS, args.rerun)
        return 0
    for dataset in datasets:
        ensure_prepared(dataset)
    is_quiet = len(gpus) > 1 or ((args.paper or groups) and not args.verbose)
    encode_datasets(runs, args.rebuild)
    sweep = Sweep(runs, gpus, RESULTS, args.rerun, not is_quiet, args.fresh_processes)
    try:
        sweep.run()
    except KeyboardInterrupt:
        print("\nInterrupted. The same command continues with the remaining runs.", flush=True)
        return 130
    _print_tables(plans, args, groups)
    print(f"Figures of what was learned: bash 3.analyze.sh --dataset {datasets[0]}")
    if sweep.failures:
        lines = [f"  {run.expid}, seed {run.seed}: {reason}" for run, reason in sweep.failures]
        print(
            f"\n{len(lines)} of {len(runs)} runs failed; the same command tries them again:\n"
            + "\n".join(lines),
            file=sys.stderr,
        )
    return 1 if sweep.failures else 0


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
    """Generates the demo data where they are missing; other data must be prepared.

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


def _datasets(args: argparse.Namespace) -> list[str]:
    if args.dataset:
        return parse_names(args.dataset, "--dataset")
    return list(PAPER_DATASETS) if args.paper else [default_dataset()]


def _plan(args: argparse.Namespace, dataset: str, groups: Sequence[str]) -> list[PlannedRun]:
    """Returns the runs on one dataset: the backbones', the ablations', or both with --paper."""
    is_whole = args.paper or groups
    models = parse_models(args.model or ("all" if is_whole else args.default_model))
    seeds = args.seeds or (PAPER_SEEDS if args.paper else "1")
    runs: list[PlannedRun] = []
    if args.paper or not groups:
        runs += plan_backbones(models, dataset, parse_variants(args.variants), seeds)
    if groups:
        runs += plan_ablations(models, dataset, groups, seeds)
    return unique_runs(runs)


def _slots_of(args: argparse.Namespace, takes_all: bool) -> list[str]:
    """Returns one entry per simultaneous run: its --gpu, or those of its processes, as ``0,1``."""
    if args.gpus is None:
        if args.gpus_per_run is not None:
            raise ConfigError(f"--gpus-per-run {args.gpus_per_run}: --gpus is missing")
        return _slots("auto" if args.gpu is None else args.gpu, args.jobs, takes_all)
    if args.gpu is not None:
        raise ConfigError(f"--gpu {args.gpu} and --gpus {args.gpus}: allowed: one of them")
    if args.jobs is not None:
        raise ConfigError(
            f"--jobs {args.jobs} and --gpus {args.gpus}: allowed: one of them; --gpus-per-run sets "
            "how many GPUs each run takes, and with it how many runs are trained at a time"
        )
    return _shared_slots(args.gpus, args.gpus_per_run)


def _shared_slots(gpus: str, per_run: int | None) -> list[str]:
    """Returns the GPUs of each simultaneous run, as ``0,1``, of --gpus and --gpus-per-run."""
    from fuxictr.pytorch.torch_utils import get_device

    names = [name.strip() for name in gpus.split(",") if name.strip()]
    kinds = {name == "-1" for name in names}
    if len(kinds) != 1 or "auto" in names:
        raise ConfigError(
            f"--gpus {gpus}: allowed: GPUs, as 0,1,2,3, or -1 for each process on the CPU, as "
            "--gpus=-1,-1"
        )
    for name in names:
        try:
            get_device(name)
        except ConfigError as error:
            raise ConfigError(f"--gpus {gpus}: {error}") from error
    if True not in kinds and len(set(names)) < len(names):
        raise ConfigError(f"--gpus {gpus}: a GPU is named twice; a process needs one of its own")
    per_run = len(names) if per_run is None else per_run
    if not 1 <= per_run <= len(names) or len(names) % per_run:
        allowed = [str(n) for n in range(1, len(names) + 1) if len(names) % n == 0]
        raise ConfigError(
            f"--gpus-per-run {per_run}: {len(names)} GPUs are named; allowed: {', '.join(allowed)}"
        )
    return [",".join(names[i : i + per_run]) for i in range(0, len(names), per_run)]


def _slots(gpu: str, jobs: int | None, takes_all: bool) -> list[str]:
    """Returns the --gpu of each simultaneous run; ``auto`` is all GPUs, or only the first."""
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: allowed: >= 1")

    import torch

    from fuxictr.pytorch.torch_utils import get_device

    if gpu == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        devices = [str(index) for index in range(count if takes_all else min(count, 1))] or ["-1"]
    else:
        devices = parse_names(gpu, "--gpu")
        for device in devices:
            get_device(device)
    return [devices[i % len(devices)] for i in range(jobs or len(devices))]


def _print_plan(
    runs: Sequence[PlannedRun], gpus: Sequence[str], results_file: Path, rerun: bool
) -> None:
    from fuxictr.experiment.estimate.estimate import estimate_runs, format_plan
    from fuxictr.experiment.results.store import read_results
    from fuxictr.experiment.sweep import device_text, unfinished
    from fuxictr.pytorch.torch_utils import get_device

    rows = read_results(results_file, missing_ok=True)
    left = runs if rerun else unfinished(runs, rows)
    first, *others = gpus[0].split(",")
    estimates = estimate_runs(runs, rows, get_device(first))
    finished = {(run.expid, run.seed) for run in runs if run not in left}
    print(format_plan(runs, estimates, finished, len(gpus)))
    if others:
        where = ", ".join(device_text(gpu) for gpu in dict.fromkeys(gpus))
        print(
            f"Each run takes {1 + len(others)} processes at once ({where}); the times and memory "
            "above are for a single process (docs/scaling.md)."
        )


def _print_tables(
    plans: Mapping[str, Sequence[PlannedRun]], args: argparse.Namespace, groups: Sequence[str]
) -> None:
    from fuxictr.experiment import tables
    from fuxictr.experiment.results.store import read_results
    from fuxictr.experiment.run.run import RESULTS

    rows = read_results(RESULTS, missing_ok=True)
    compared = {}
    for dataset, runs in plans.items():
        dataset_id = registry.dataset_id_of(dataset)
        folder = ROOT / "results" / dataset_id
        seeds: dict[str, list[int]] = {}
        for run in runs:
            seeds.setdefault(run.backbone, []).append(run.seed)
        if args.paper or not groups:
            comparisons = tables.compare_backbones(rows, list(seeds), dataset, seeds)
            compared[dataset] = comparisons
            ceiling = tables.find_ceiling(dataset, comparisons)
            text, _ = tables.write_tables(comparisons, dataset, folder, ceiling)
            print(f"\nResults on {dataset_id}:\n\n{text}")
        for name, group in _ablated(runs, groups):
            arms = find_arms(name, dataset, group)
            results = tables.ablation_results(rows, arms, dataset_id, seeds[name])
            text, _ = tables.write_ablation_tables(name, group, results, dataset, folder)
            print(f"\nAblation of {name} on {dataset_id}, {group}:\n\n{text}")
        print(f"Tables: {folder.relative_to(ROOT)}/", flush=True)
    if set(compared) >= set(PAPER_DATASETS):
        print(tables.write_average_lifts(compared, ROOT / "results")[0])


def _ablated(runs: Sequence[PlannedRun], groups: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (backbone, group) of the ablations that are among the runs."""
    pairs = ((run, group) for run in runs for group in groups if f"_gen_{group}_" in run.expid)
    return list(dict.fromkeys((run.backbone, group) for run, group in pairs))


def _generate_demo_if_absent() -> None:
    if not registry.is_prepared(ROOT, registry.resolve("demo")):
        print("Generating the demo data: bash 1.prepare.sh demo", flush=True)
        command = [sys.executable, "-m", "fuxictr.cli.prepare", "demo"]
        completed = subprocess.run(command, cwd=Path(ROOT), check=False)
        if completed.returncode:
            raise DataError("the demo data could not be generated; see the line above")
