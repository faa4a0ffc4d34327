"""Command-line options that the commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

# The repository; its results store.
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "results.jsonl"


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Adds --model, --dataset, --variants, --seeds and --ablation."""
    parser.add_argument("--model", help="a backbone of model_zoo/, a list a,b, or all")
    parser.add_argument("--default-model", default="DeepFM", help=argparse.SUPPRESS)
    parser.add_argument(
        "--dataset",
        help="avazu, criteo, demo or a dataset_id of the configs "
        "(default: avazu if it is prepared, otherwise the embedded demo data)",
    )
    parser.add_argument("--variants", default="dis,gen", help="dis, gen or both (default dis,gen)")
    parser.add_argument(
        "--seeds",
        help="how many seeds, counted up from the config's own, or a list of them, as 2019,2020 "
        "(a list of one ends in a comma: 7,)",
    )
    parser.add_argument(
        "--ablation", help="the paper's ablations: source, encoder, target, activation, or all"
    )


def add_gpu_option(parser: argparse.ArgumentParser) -> None:
    """Adds --gpu."""
    parser.add_argument(
        "--gpu",
        default="auto",
        help="auto (a GPU if there is one), -1 (CPU), or a GPU's index (default auto)",
    )


def add_rebuild_option(parser: argparse.ArgumentParser) -> None:
    """Adds --rebuild."""
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="encode the raw data anew, also where an up-to-date encoded dataset is there",
    )
