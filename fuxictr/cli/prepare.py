"""``bash 1.prepare.sh``: fetches datasets, or generates the demo data."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from fuxictr.cli.command import run_cli
from fuxictr.cli.options import ROOT
from fuxictr.datasets import prepare, registry
from fuxictr.errors import ConfigError


def main(argv: list[str] | None = None) -> None:
    """Parses the command line and prepares each dataset."""
    parser = argparse.ArgumentParser(
        prog="1.prepare.sh",
        description="Download and verify datasets, or generate the demo data.",
    )
    names = ", ".join(d.name.lower() for d in registry.DATASETS)
    parser.add_argument(
        "datasets", nargs="*", help=f"avazu, criteo, {names} (default: avazu criteo)"
    )
    parser.add_argument("--rows", type=int, default=None, help="rows of the demo data (200000)")
    parser.add_argument("--seed", type=int, default=None, help="seed of the demo data (2019)")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder that holds data/")
    args = parser.parse_args(argv)

    def run() -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        datasets = [registry.resolve(name) for name in args.datasets or ["avazu", "criteo"]]
        if (args.rows, args.seed) != (None, None) and all(d.md5 for d in datasets):
            raise ConfigError("--rows and --seed are of the demo data only; add: demo")
        for dataset in datasets:
            if dataset.md5:
                prepare.prepare_download(args.root, dataset)
            else:
                prepare.prepare_demo(args.root, dataset, args.rows, args.seed)

    run_cli(run)


if __name__ == "__main__":
    main()
