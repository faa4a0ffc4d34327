"""``python model_zoo/<Model>/run_expid.py``, ``ge4rec run``: trains one expid."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from pathlib import Path

from fuxictr.cli.command import run_cli
from fuxictr.cli.job import end_process
from fuxictr.cli.options import add_gpu_option, add_rebuild_option

_SECONDS_TO_SAVE = 30  # for a run whose sweep is gone


def main(zoo_dir: str | Path | None = None, argv: list[str] | None = None) -> None:
    """Parses the command line and runs one experiment.

    ``zoo_dir`` is the folder of run_expid.py; None = that of the model that --model names.
    """
    prog = "ge4rec run" if zoo_dir is None else None
    parser = argparse.ArgumentParser(prog, description="Train and evaluate one experiment.")
    parser.add_argument("--version", action="version", version=_version())
    if zoo_dir is None:
        parser.add_argument("--model", required=True, help="a folder of model_zoo/")
    parser.add_argument("--config", help="config folder (default: config/ of the model's folder)")
    parser.add_argument("--expid", required=True, help="the experiment of the config to run")
    add_gpu_option(parser)
    add_rebuild_option(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume an interrupted run, to the same result; starts a new one if there is none",
    )
    parser.add_argument("--seed", type=int, help="overrides the config's seed")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="overrides any key of the config, checked as in the YAML",
    )
    # What a sweep gives its runs.
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--skip-finished", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run-id", help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    run_cli(lambda: _run(args, zoo_dir), end_process)


def _version() -> str:
    from fuxictr import ge4rec_version

    return f"GE4Rec {ge4rec_version}"


def _end_with_stdin() -> None:
    """Ends this process when the one that started it is gone, also when that one was killed."""
    while os.read(0, 1 << 16):  # sys.stdin's buffer would still be locked at the end of a run
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECONDS_TO_SAVE)
    os._exit(128 + signal.SIGTERM)


def _run(args: argparse.Namespace, zoo_dir: str | Path | None) -> None:
    from fuxictr.experiment.run.files import RunOptions
    from fuxictr.experiment.run.launch import (
        mute_warnings_unless,
        report_errors_once,
        report_errors_once_per_machine,
    )
    from fuxictr.experiment.run.run import RESULTS, run_experiment
    from fuxictr.experiment.zoo.models import find_config_dir, find_folder, load_experiment
    from fuxictr.pytorch.distributed.ranks import joined
    from fuxictr.pytorch.torch_utils import get_device
    from fuxictr.utils import keep_early_warnings

    zoo_dir = find_folder(args.model) if zoo_dir is None else Path(zoo_dir).resolve()
    with report_errors_once_per_machine():
        device = get_device(args.gpu)
    with report_errors_once(), joined(device) as ranks:
        with ranks.raise_on_any_rank(), mute_warnings_unless(ranks.is_first):
            keep_early_warnings()
            config, model_class = load_experiment(
                args.expid, zoo_dir, args.config, args.set, args.seed
            )
            folder = find_config_dir(args.config, zoo_dir)
        options = RunOptions(
            csv_file=zoo_dir / f"{folder.name}.csv",
            results_file=args.results or RESULTS,
            rebuild=args.rebuild,
            skip_finished=args.skip_finished,
            resume=args.resume,
            run_id=args.run_id,
            jobs=args.jobs,
        )
        run_experiment(config, model_class, device, options)
