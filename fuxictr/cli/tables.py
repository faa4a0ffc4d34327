"""The paper's tables from the results store alone: ``python -m fuxictr tables``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuxictr.cli.command import run_cli
from fuxictr.cli.options import RESULTS


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
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results store")
    parser.add_argument(
        "--ablation",
        help="also the tables of source, encoder, target, activation, a list of them, or all",
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS.parent, help="write to OUT/<dataset_id>/"
    )
    args = parser.parse_args(argv)

    def run() -> None:
        from fuxictr.experiment.tables.make import make_tables  # not before --help: it needs numpy

        print(make_tables(args))

    run_cli(run)


if __name__ == "__main__":
    main()
