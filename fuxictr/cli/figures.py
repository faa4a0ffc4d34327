"""The plot_paper_*.py scripts: their options and what they draw."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fuxictr.cli.options import ROOT
from fuxictr.datasets import registry

# Each with the name that the paper's reference code gives it.
_MODEL = ("--model", "--model_name")
_DATASET = ("--dataset", "--dataset_name")


def figure_arguments(
    description: str | None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parses --model, --dataset-id, --expids and --root; expids are DIS and GEN by default.

    Raises ConfigError if they are not given, and the model has none on the dataset.
    """
    parser = _parser(description)
    parser.add_argument(*_MODEL, required=True, help="name of the model, e.g. DeepFM")
    parser.add_argument(
        *("--dataset-id", *_DATASET), required=True, help="e.g. demo_x1; or avazu, criteo, demo"
    )
    parser.add_argument(
        "--expids",
        nargs="+",
        metavar="EXPID",
        help="recorded runs (default: DIS and GEN, as DeepFM_demo DeepFM_demo_gen)",
    )
    _add_root(parser)
    args = parser.parse_args(argv)
    if args.expids is None:
        from fuxictr.experiment.zoo.models import select_expids

        choices = select_expids(args.model, args.dataset_id, ["dis", "gen"])
        args.expids = [choice.expid for choice in choices]
    args.dataset_id = registry.dataset_id_of(args.dataset_id)
    return args


def ablation_arguments(
    description: str | None, argv: Sequence[str] | None = None, *, reads_results: bool = True
) -> argparse.Namespace:
    """Parses --model, --dataset, --root and, where results are read, --results and --seeds.

    The namespace also has ``dataset_id``.
    """
    parser = _parser(description)
    parser.add_argument(*_MODEL, default="DCNv2", help="the backbone (default: %(default)s)")
    parser.add_argument(
        *(*_DATASET, "--dataset-id"), required=True, help="avazu, criteo, demo or a dataset_id"
    )
    _add_root(parser)
    if reads_results:
        parser.add_argument(
            "--results",
            type=Path,
            help="the results store (default: results/results.jsonl under --root)",
        )
        parser.add_argument(
            "--seeds",
            type=_seeds,
            help="the seeds that every run must have, as 2019,2020 (default: all in the results)",
        )
    args = parser.parse_args(argv)
    args.dataset_id = registry.dataset_id_of(args.dataset)
    if reads_results and args.results is None:
        args.results = args.root / "results" / "results.jsonl"
    return args


def draw_ablation_auc(description: str | None, group: str) -> None:
    """Draws the test AUC of an ablation's arms, and prints the paths."""
    args = ablation_arguments(description)
    from fuxictr.experiment.report.figures import draw_ablation
    from fuxictr.experiment.report.inputs import load_ablation

    runs = load_ablation(args.results, args.model, args.dataset, group, args.seeds)
    _print_paths(draw_ablation(args.root, args.dataset_id, args.model, group, *runs))


def draw_activation_spectra(description: str | None) -> None:
    """Draws the spectra of the encoder's activations, and prints the paths."""
    args = ablation_arguments(description, reads_results=False)
    from fuxictr.experiment.report.inputs import load_activation_runs
    from fuxictr.plotting.spectrum import write_activation_spectra

    runs = load_activation_runs(args.root, args.model, args.dataset)
    _print_paths(write_activation_spectra(args.root, args.dataset_id, args.model, *runs))


def draw_recorded(description: str | None, figure: str) -> None:
    """Draws ``collapse`` or ``correlation`` of a model's recorded runs, and prints the paths."""
    args = figure_arguments(description)
    from fuxictr.experiment.report.inputs import load_runs
    from fuxictr.plotting import correlation, spectrum

    writers = {"collapse": spectrum.write_collapse, "correlation": correlation.write_correlation}
    records = load_runs(args.root, args.dataset_id, args.expids, args.model)
    _print_paths(writers[figure](args.root, args.dataset_id, args.model, records))


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(path)


def _parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        default=ROOT,
        help="folder that holds figure/ and results/ (default: %(default)s)",
    )


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': allowed: a list such as 2019,2020") from None
