"""What analyze.py and 3.analyze.sh do: checkpoints -> recordings -> figures, and the report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from fuxictr.analysis.sample import Sample
from fuxictr.datasets import registry
from fuxictr.errors import CheckpointError, ConfigError
from fuxictr.experiment.recordings.record import record_run
from fuxictr.experiment.recordings.trained import TrainedRun, find_checkpoint, find_trained
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.sweep.reproduce import default_dataset
from fuxictr.experiment.tables.comparisons import ablation_results, compare_backbones
from fuxictr.experiment.tables.seed_runs import SeedRuns
from fuxictr.experiment.zoo.ablations import ablated_backbones, find_arms, parse_groups
from fuxictr.experiment.zoo.models import (
    ROOT,
    backbones,
    find_folder,
    load_experiment,
    select_expids,
)
from fuxictr.experiment.zoo.selection import parse_models, parse_variants


def record_one(args: argparse.Namespace) -> None:
    """Records the expid that analyze.py was given, and prints its test metrics."""
    from fuxictr.experiment.recordings.evaluate import evaluate_test
    from fuxictr.metrics import format_metrics

    folder = find_folder(args.model)
    config, model_class = load_experiment(args.expid, folder, args.config, args.set)
    trained = find_checkpoint(args.model, config, model_class, _rows())
    print(f"Recorded: {record_run(trained, args.gpu, Sample(args.rows, args.sample_seed))}")
    metrics = evaluate_test(trained, args.gpu)
    if metrics is None:
        print(f"Dataset '{config.dataset.dataset_id}' has no test split to evaluate.")
    else:
        print(f"Test split, weights of {trained.config.checkpoint_path}:")
        print(f"[Metrics] {format_metrics(metrics)}")


def analyze_all(args: argparse.Namespace) -> None:
    """Records and draws, or reports, as the options of 3.analyze.sh say."""
    sample = Sample(args.rows, args.sample_seed)
    if args.report and args.ablation:
        raise ConfigError("--ablation: not with --report, which shows all ablations that were run")
    if args.seeds and not args.report:
        raise ConfigError(
            "--seeds: only with --report; figures show the first seed that DIS and GEN both have"
        )
    if args.report:
        _report(args, sample)
    elif args.ablation:
        _analyze_activations(args, sample)
    else:
        _analyze_backbones(args, sample)


def _analyze_backbones(args: argparse.Namespace, sample: Sample) -> None:
    models, variants = parse_models(args.model or args.default_model), parse_variants(args.variants)
    dataset = args.dataset or default_dataset()
    rows = _rows(args.results)
    for model in backbones(dataset) if models == ["all"] else models:
        choices = select_expids(model, dataset, variants)
        (comparison,) = compare_backbones(rows, [model], dataset) if len(choices) > 1 else (None,)
        sides = [getattr(comparison, choice.variant) for choice in choices] if comparison else []
        places = [(choice.expid, choice.folder) for choice in choices]
        runs = _find_runs(model, places, sides, rows)
        _record(runs, args, sample)
        _draw(model, runs)


def _analyze_activations(args: argparse.Namespace, sample: Sample) -> None:
    if parse_groups(args.ablation) != ["activation"]:
        raise ConfigError(
            f"--ablation {args.ablation}: allowed: activation, whose arms are recorded; the AUCs "
            "of every ablation are drawn by plot_paper_ab_*.py and --report"
        )
    dataset = args.dataset or default_dataset()
    models = parse_models(args.model or "all")
    having = ablated_backbones(dataset, "activation")
    rows = _rows(args.results)
    for model in having if models == ["all"] else models:
        arms = find_arms(model, dataset, "activation")
        results = ablation_results(rows, arms, registry.dataset_id_of(dataset))
        places = [(arm.expid, arm.folder) for arm in arms]
        runs = _find_runs(model, places, [result.side for result in results], rows)
        _record(runs, args, sample)
        _draw_activations(model, runs, [arm.label for arm in arms])
    if not having:
        raise ConfigError(f"--ablation activation: no backbone has such expids on {dataset}")


def _report(args: argparse.Namespace, sample: Sample) -> None:
    if parse_variants(args.variants) != ["dis", "gen"]:
        raise ConfigError("--variants: --report compares both variants")
    rows = _rows(args.results)
    dataset = args.dataset or _dataset_with_results(rows)
    models = parse_models(args.model or "all")
    print(f"Report on {registry.dataset_id_of(dataset)}", flush=True)

    from fuxictr.experiment.report.build import make_report

    command = shlex.join(["bash", "3.analyze.sh", "--report", "--dataset", dataset, *_typed(args)])
    choice = (dataset, models, args.seeds, args.gpu, sample, args.rerecord, command)
    for path in make_report(rows, *choice):
        print(path.relative_to(ROOT))


def _typed(args: argparse.Namespace) -> list[str]:
    """Returns the options that define the report's content."""
    typed = []
    for option in ("model", "seeds", "results"):
        if getattr(args, option) is not None:
            typed += [f"--{option}", str(getattr(args, option))]
    default = Sample()
    if args.rows != default.num_rows:
        typed += ["--rows", str(args.rows)]
    if args.sample_seed != default.seed:
        typed += ["--sample-seed", str(args.sample_seed)]
    return typed


def _dataset_with_results(rows: Sequence[RunRecord]) -> str:
    """Returns avazu if it is prepared and has results, otherwise demo."""
    avazu = registry.resolve("avazu")
    if registry.is_prepared(ROOT, avazu):
        if any(r.dataset_id == avazu.dataset_id and r.is_finished for r in rows):
            return "avazu"
    return "demo"


def _find_runs(
    model: str,
    places: Sequence[tuple[str, Path]],
    sides: Sequence[SeedRuns],
    rows: Sequence[RunRecord],
) -> list[TrainedRun]:
    """Returns the runs of one figure: those of the first seed whose weights all exist.

    Without such a seed, each is the run whose weights exist, and a printed line says so. ``places``
    are expid and model folder of each, ``sides`` their results, [] for a single expid.
    """
    seeds = set.intersection(*(set(side.runs) for side in sides)) if sides else set()
    for seed in sorted(seeds):
        found = zip(places, sides, strict=True)
        try:
            return [find_trained(model, *place, side.runs[seed]) for place, side in found]
        except CheckpointError:
            continue  # weights were deleted or overwritten by another run
    runs = [find_checkpoint(model, *load_experiment(*place), rows) for place in places]
    are_there = all(run.checkpoint_sha256 for run in runs)
    if are_there and len({run.train_seed for run in runs}) > 1:
        texts = [f"{run.config.expid} is of {_describe_seed(run)}" for run in runs]
        print(f"{model}: no seed has the weights of all: {', '.join(texts)}.", flush=True)
    return runs


def _describe_seed(run: TrainedRun) -> str:
    return "an unknown seed" if run.train_seed is None else f"seed {run.train_seed}"


def _record(runs: Sequence[TrainedRun], args: argparse.Namespace, sample: Sample) -> None:
    for run in runs:
        print(f"Recording {run.config.expid}, {_describe_seed(run)} ...", flush=True)
        record_run(run, args.gpu, sample)


def _draw(model: str, runs: Sequence[TrainedRun]) -> None:
    from fuxictr.analysis.records import load_records
    from fuxictr.analysis.summary import analysis_summary
    from fuxictr.experiment.report.figures import draw_recorded
    from fuxictr.experiment.report.recorded import summary_table
    from fuxictr.plotting.summary import write_summary

    dataset_id = runs[0].config.dataset.dataset_id
    print(f"Drawing {model} on {dataset_id} ...", flush=True)
    records = [load_records(run.path, model) for run in runs]
    # Runs of other code get figures of their own name.
    others = [run.name.removeprefix(run.config.expid) for run in runs if run.has_other_code]
    name = model + (others[0] if others else "")
    paths = draw_recorded(dataset_id, name, records)
    summaries = analysis_summary(records)
    print(f"\n{summary_table(summaries).to_markdown()}")
    _print_paths([*paths, write_summary(ROOT, dataset_id, name, summaries)])


def _draw_activations(model: str, runs: Sequence[TrainedRun], labels: Sequence[str]) -> None:
    from fuxictr.analysis.records import load_records
    from fuxictr.plotting.spectrum import write_activation_spectra

    records = [load_records(run.path, model) for run in runs]
    dataset_id = runs[0].config.dataset.dataset_id
    named = [  # runs of other code or config are marked as such
        label + run.name.removeprefix(run.config.expid)
        for label, run in zip(labels, runs, strict=True)
    ]
    _print_paths(write_activation_spectra(ROOT, dataset_id, model, records, named))


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(path.relative_to(ROOT))


def _rows(path: Path | None = None) -> list[RunRecord]:
    """Returns the results store, [] if the default one does not exist yet."""
    from fuxictr.experiment.run.run import RESULTS

    return read_results(path or RESULTS, missing_ok=path is None)
