"""``run_param_tuner.py``, ``enumerate_param_list.py``, ``ge4rec tune``: grid search."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fuxictr.cli.command import run_cli


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Enumerates a tuner file, or takes a config folder, and runs its expids as one sweep."""
    parser = argparse.ArgumentParser(
        prog, description="Grid search over a tuner file. Started again, it continues."
    )
    parser.add_argument(
        "--config",
        default="../config/tuner_config.yaml",
        help="tuner file (base_expid, tuner_space, ...), or a folder that was made of one "
        "(default %(default)s)",
    )
    parser.add_argument("--tag", help="run only expids that contain this text")
    parser.add_argument(
        "--gpu",
        nargs="+",
        default=["-1"],
        metavar="GPU",
        help="one run at a time for each: 0 1, or -1 -1 for two on the CPU (default -1)",
    )
    args = parser.parse_args(argv)
    run_cli(lambda: _search(args))


def main_enumerate(argv: Sequence[str] | None = None) -> None:
    """Writes the config folder of a tuner file, and runs nothing."""
    parser = argparse.ArgumentParser(description="Write the config folder of a tuner file.")
    parser.add_argument("--config", required=True, help="tuner file")
    parser.add_argument("--exclude", help="csv of results, whose expids are left out")
    args = parser.parse_args(argv)
    run_cli(lambda: _enumerate(args))


def _search(args: argparse.Namespace) -> None:
    from fuxictr.autotuner import enumerate_params, grid_search
    from fuxictr.pytorch.torch_utils import get_device

    for gpu in args.gpu:
        get_device(gpu)
    is_file = Path(args.config).suffix in (".yaml", ".yml")
    folder = enumerate_params(args.config) if is_file else args.config
    if grid_search(folder, args.gpu, args.tag):
        sys.exit(1)


def _enumerate(args: argparse.Namespace) -> None:
    from fuxictr.autotuner import enumerate_params, finished_expids

    excluded = finished_expids(args.exclude) if args.exclude else []
    enumerate_params(args.config, excluded)
