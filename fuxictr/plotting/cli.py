"""The arguments that all figure scripts share; imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import fuxictr

REPOSITORY = Path(fuxictr.__file__).resolve().parents[1]


def figure_arguments(
    description: str | None, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parses --model, --dataset-id, --expids and --root."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="name of the model, e.g. DeepFM")
    parser.add_argument("--dataset-id", required=True, help="e.g. demo_x1")
    parser.add_argument(
        "--expids",
        required=True,
        nargs="+",
        metavar="EXPID",
        help="recorded runs, e.g. DeepFM_demo DeepFM_demo_gen",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=REPOSITORY,
        help="folder that holds figure/ (default: %(default)s)",
    )
    return parser.parse_args(argv)
