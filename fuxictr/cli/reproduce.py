"""``bash 2.reproduce.sh``: trains DIS and GEN on datasets and prints the results tables."""

from __future__ import annotations

import argparse

from fuxictr.cli.command import run_cli
from fuxictr.cli.options import add_rebuild_option, add_sweep_options
from fuxictr.datasets.registry import PAPER_DATASETS
from fuxictr.experiment.zoo.selection import PAPER_SEEDS


def main(argv: list[str] | None = None) -> None:
    """Parses the command line and runs the sweep."""
    parser = argparse.ArgumentParser(
        prog="2.reproduce.sh",
        description="Train the DIS and the GEN variant of backbones and compare them. Runs that "
        "are already in results/results.jsonl are not repeated, so the same command resumes a "
        "sweep.",
    )
    parser.add_argument(
        "--paper",
        action="store_true",
        help=f"the whole table: all backbones, datasets {','.join(PAPER_DATASETS)}, {PAPER_SEEDS} "
        "seeds, unless other options select others",
    )
    add_sweep_options(parser)
    parser.add_argument(
        "--gpu",
        help="auto (a GPU if there is one; all of them with --paper, --ablation or --jobs), -1 "
        "(CPU), or a list of GPUs that each take whole runs, as 0,2 (default auto)",
    )
    parser.add_argument(
        "--gpus",
        help="the GPUs that each run uses all at once, through torchrun, as 0,1,2,3 (--gpus=-1,-1: "
        "two processes on the CPU)",
    )
    parser.add_argument(
        "--gpus-per-run",
        type=int,
        metavar="N",
        help="with --gpus: N of them for each run, so that several runs are trained at a time",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        help="runs at a time, which share the CPUs (default: one per GPU, or one on the CPU)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the runs with time and memory; train nothing"
    )
    parser.add_argument("--rerun", action="store_true", help="repeat runs that are in the results")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show what the runs log, also for --paper and --ablation (not with --jobs above 1)",
    )
    parser.add_argument(
        "--fresh-processes",
        action="store_true",
        help="start Python anew for each run, not as a fork of one that has imported torch",
    )
    add_rebuild_option(parser)
    args = parser.parse_args(argv)

    def run() -> int:
        from fuxictr.experiment.sweep.reproduce import reproduce  # --help must not need numpy

        return reproduce(args)

    run_cli(run)


if __name__ == "__main__":
    main()
