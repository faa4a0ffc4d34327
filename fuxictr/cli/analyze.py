"""analyze.py and 3.analyze.sh: checkpoints -> recorded embeddings -> figures, and the report."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuxictr.analysis.sample import Sample
from fuxictr.cli.command import run_cli
from fuxictr.cli.options import add_gpu_option, add_sweep_options


def main(argv: list[str] | None = None) -> None:
    """Records the embeddings of one trained expid and evaluates its test split (analyze.py)."""
    parser = argparse.ArgumentParser(
        prog="analyze.py",
        description="Record the embeddings of a trained expid on validation rows, "
        "and print the metrics of its weights on the test split.",
    )
    parser.add_argument("--model", required=True, help="a folder of model_zoo/")
    parser.add_argument("--expid", required=True, help="the trained experiment")
    parser.add_argument("--config", help="config folder (default: config/ of the model's folder)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    _add_sample_options(parser)
    add_gpu_option(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        from fuxictr.experiment.report.analyses import (
            record_one,
        )  # not before --help: it needs numpy

        record_one(args)

    run_cli(run)


def main_all(argv: list[str] | None = None) -> None:
    """Records trained models and draws their figures, or makes the report (3.analyze.sh)."""
    parser = argparse.ArgumentParser(
        prog="3.analyze.sh",
        description="Record the embeddings of trained models and draw spectra, correlations and "
        "fields; with --report, one page on everything that was run on a dataset.",
    )
    add_sweep_options(parser)
    add_gpu_option(parser)
    _add_sample_options(parser, "--sample-seed")
    parser.add_argument(
        "--report",
        action="store_true",
        help="write results/<dataset_id>/report.html and report.md, from all backbones and seeds "
        "that have results unless --model and --seeds choose",
    )
    parser.add_argument(
        "--rerecord", action="store_true", help="with --report: also what is recorded already"
    )
    parser.add_argument(
        "--results", type=Path, help="the results store (default: results/results.jsonl)"
    )
    args = parser.parse_args(argv)

    def run() -> None:
        from fuxictr.experiment.report.analyses import analyze_all

        analyze_all(args)

    run_cli(run)


def _add_sample_options(parser: argparse.ArgumentParser, seed_option: str = "--seed") -> None:
    sample = Sample()
    parser.add_argument(
        "--rows",
        type=int,
        default=sample.num_rows,
        help=f"validation rows (default {sample.num_rows})",
    )
    parser.add_argument(
        seed_option,
        dest="sample_seed",
        type=int,
        default=sample.seed,
        help=f"seed of the sample (default {sample.seed})",
    )


if __name__ == "__main__":
    main_all()
