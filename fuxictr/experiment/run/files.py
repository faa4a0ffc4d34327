"""The files of a run: their one owner, its row if it was finished before, and its csv line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fuxictr.config import ExperimentConfig
from fuxictr.experiment.results.identity import find_finished
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import check_appendable, read_results
from fuxictr.experiment.run.launch import this_command
from fuxictr.files import file_lock, file_sha256, remove_leftovers
from fuxictr.metrics import format_metrics
from fuxictr.utils import print_to_json, set_logger

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run writes, and what it may reuse. None of it changes its numbers.

    Attributes:
        csv_file: file of FuxiCTR's result lines; None = none.
        results_file: the results store; None = none.
        rebuild: encode the raw data anew in any case.
        skip_finished: return a row of the same expid, seed, config, data and code if there is one.
        resume: continue from the state of an interrupted run of the same config, data and code; if
            that run was finished after all, return its row. A state that does not fit is an error,
            or with ``skip_finished`` ignored. A process that torchrun started again always resumes.
        run_id: name of the run in the results store; None = a random one.
        jobs: runs that share the device at a time, for which its times are recorded.
    """

    csv_file: Path | None = None
    results_file: Path | None = None
    rebuild: bool = False
    skip_finished: bool = False
    resume: bool = False
    run_id: str | None = None
    jobs: int = 1


@contextlib.contextmanager
def own_files(config: ExperimentConfig, options: RunOptions) -> Iterator[None]:
    """Context in which the log is kept and no other process has the files of the run."""
    set_logger({"debug_mode": config.run.debug_mode}, config.log_path)
    shown = {key: value for key, value in config.params().items() if key in config.origins}
    logger.info("Params: %s", print_to_json(shown))
    for path in (options.results_file, options.csv_file):
        if path is not None:
            check_appendable(path)  # not after hours of training
    stem = config.output_stem

    def log_waiting() -> None:
        logger.info("Waiting for another process that trains %s", stem)

    with file_lock(stem.with_name(f".{stem.name}.lock"), log_waiting):
        remove_leftovers(config.checkpoint_path)
        yield


def find_row(config: ExperimentConfig, row: RunRecord, options: RunOptions) -> RunRecord | None:
    """Returns the row of the same run from the results store, if it may be used in its place.

    For a run to resume this is so only if its weights are still there.
    """
    file = options.results_file
    if file is None or not (options.skip_finished or options.resume):
        return None
    rows = read_results(file, missing_ok=True, of=(row.expid, row.seed))
    found = find_finished(rows, row, row.seed)
    if found is None or options.skip_finished:
        return found
    path = config.checkpoint_path
    is_there = path.is_file() and file_sha256(path) == found.checkpoint_sha256
    return found if is_there else None


def csv_line(config: ExperimentConfig, row: RunRecord) -> str:
    """Returns the line of a run, with this row of results, in FuxiCTR's format."""
    parts = [
        f" {datetime.now().strftime('%Y%m%d-%H%M%S')}",
        f"[command] {this_command()}",
        f"[exp_id] {config.expid}",
        f"[dataset_id] {config.dataset.dataset_id}",
        "[train] N.A.",
        f"[val] {format_metrics(row.valid or {}) or 'N.A.'}",
        f"[test] {format_metrics(row.test or {}) or 'N.A.'}",
    ]
    return ",".join(parts)
