"""The files of a run: whose they are, its row where it was finished before, and its line."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from fuxictr.config import ExperimentConfig
from fuxictr.experiment.results.identity import find_finished
from fuxictr.experiment.results.store import check_appendable, read_results
from fuxictr.experiment.run.launch import starter
from fuxictr.files import file_lock, file_sha256, remove_leftovers
from fuxictr.metrics import format_metrics
from fuxictr.utils import print_to_json, set_logger

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def own_files(
    config: ExperimentConfig, csv_file: Path | None, results_file: Path | None
) -> Iterator[None]:
    """Context in which the log is kept and the files of a run are this process's alone.

    Args:
        config: the config of the run.
        csv_file: file of FuxiCTR's result lines, null = none.
        results_file: the results store, null = none.

    Raises:
        WriteError: one of the files cannot be written.
    """
    set_logger({"debug_mode": config.run.debug_mode}, config.log_path)
    shown = {key: value for key, value in config.params().items() if key in config.origins}
    logger.info("Params: %s", print_to_json(shown))
    stem = config.output_stem

    def say() -> None:
        logger.info("Waiting for another process that trains %s", stem)

    for path in (results_file, csv_file):
        if path is not None:
            check_appendable(path)  # not after hours of training
    with file_lock(stem.with_name(f".{stem.name}.lock"), say):
        remove_leftovers(config.checkpoint_path)
        yield


def find_row(
    config: ExperimentConfig,
    row: dict[str, Any],
    results_file: Path | None,
    skip_finished: bool,
    resume: bool,
) -> dict[str, Any] | None:
    """Returns the row of the same run where the results store has it, and it is to stand for it.

    One that was to be gone on with stands for itself only if its weights are still there.

    Args:
        config: the config of the run.
        row: how its row begins.
        results_file: the results store, null = none.
        skip_finished: a finished run is not to be run again.
        resume: an interrupted run is to be gone on with.
    """
    if results_file is None or not (skip_finished or resume):
        return None
    found = find_finished(read_results(results_file, missing_ok=True), row, row["seed"])
    if found is None or skip_finished:
        return found
    path = config.checkpoint_path
    is_there = path.is_file() and file_sha256(path) == found.get("checkpoint_sha256")
    return found if is_there else None


def csv_line(config: ExperimentConfig, row: dict[str, Any]) -> str:
    """Returns a run's line in FuxiCTR's format.

    Args:
        config: the config of the run.
        row: its row of results.
    """
    parts = [
        f" {datetime.now().strftime('%Y%m%d-%H%M%S')}",
        f"[command] {starter()} {shlex.join(sys.argv)}",
        f"[exp_id] {config.expid}",
        f"[dataset_id] {config.dataset.dataset_id}",
        "[train] N.A.",
        f"[val] {format_metrics(row.get('valid', {})) or 'N.A.'}",
        f"[test] {format_metrics(row.get('test', {})) or 'N.A.'}",
    ]
    return ",".join(parts)
