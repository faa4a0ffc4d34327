"""``python predict.py``: scores the raw rows of files with a trained expid."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuxictr.cli.command import run_cli
from fuxictr.cli.options import add_gpu_option


def main(argv: list[str] | None = None) -> None:
    """Parses the command line and scores the rows of files (predict.py)."""
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description="Score new raw rows with a trained expid, or with a checkpoint alone; needs no "
        "label.",
    )
    parser.add_argument("--model", help="a folder of model_zoo/")
    parser.add_argument("--expid", help="the trained experiment")
    parser.add_argument(
        "--checkpoint",
        help="<expid>.model, in the place of --model, --expid and --config: scores with the config "
        "that it was trained with",
    )
    parser.add_argument("--data", required=True, help="raw rows: a file, a folder or a glob")
    parser.add_argument("--out", required=True, type=Path, help="file to write: .csv or .parquet")
    parser.add_argument(
        "--keep", help="columns to carry along, as id,user (default: all that are no features)"
    )
    parser.add_argument("--config", help="config folder (default: config/ of the model's folder)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch-size", type=int, default=10_000, help="rows of a forward pass")
    add_gpu_option(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        from fuxictr.array_files import span
        from fuxictr.experiment.scoring import Scorer  # not before --help: it needs torch
        from fuxictr.preprocess.dataset.origins import name_some

        scorer = Scorer(
            args.model,
            args.expid,
            args.config,
            args.checkpoint,
            args.set,
            args.gpu,
            args.batch_size,
        )
        keep = None if args.keep is None else [name for name in args.keep.split(",") if name]
        scored = scorer.score_files(args.data, args.out, keep)
        if scored.skipped:
            print(f"Skipped {name_some(scored.skipped)}")
        print(f"Scored {scored.num_rows:,} rows of {span(scored.files)}: {args.out}")

    run_cli(run)


if __name__ == "__main__":
    main()
