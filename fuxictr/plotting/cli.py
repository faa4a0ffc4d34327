"""The arguments that all figure scripts share; imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import fuxictr
from fuxictr.datasets import registry

REPOSITORY = Path(fuxictr.__file__).resolve().parents[1]


def figure_arguments(
    description: str | None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parses --model, --dataset-id, --expids and --root."""
    parser = _parser(description)
    parser.add_argument("--model", required=True, help="name of the model, e.g. DeepFM")
    parser.add_argument("--dataset-id", required=True, help="e.g. demo_x1")
    parser.add_argument(
        "--expids",
        required=True,
        nargs="+",
        metavar="EXPID",
        help="recorded runs, e.g. DeepFM_demo DeepFM_demo_gen",
    )
    _add_root(parser)
    return parser.parse_args(argv)


def ablation_arguments(
    description: str | None, argv: Sequence[str] | None = None, *, reads_results: bool = True
) -> argparse.Namespace:
    """Parses --model, --dataset and --root, and --results and --seeds where results are read.

    The namespace also has ``dataset_id``.
    """
    parser = _parser(description)
    parser.add_argument("--model", default="DCNv2", help="the backbone (default: %(default)s)")
    parser.add_argument("--dataset", required=True, help="avazu, criteo, demo or a dataset_id")
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
