"""The arguments that all figure scripts share; imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import fuxictr
from fuxictr.datasets import registry

# Each with the name that the paper's reference code gives it.
_MODEL = ("--model", "--model_name")
_DATASET = ("--dataset", "--dataset_name")
REPOSITORY = Path(fuxictr.__file__).resolve().parents[1]


def figure_arguments(
    description: str | None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parses --model, --dataset-id, --expids and --root; expids are DIS and GEN by default.

    Raises:
        ConfigError: no --expids, and the model has no such expids on the dataset.
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
    """Parses --model, --dataset and --root, and --results and --seeds where results are read.

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


def _parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        default=REPOSITORY,
        help="folder that holds figure/ and results/ (default: %(default)s)",
    )


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': allowed: a list such as 2019,2020") from None
