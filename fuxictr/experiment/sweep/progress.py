"""What a sweep shows while it runs: a line a run, and how much is left."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from fuxictr.experiment.results.store import is_finished
from fuxictr.experiment.sweep.plan import PlannedRun
from fuxictr.metrics import format_metrics


class SweepProgress:
    """Headlines where the runs show their own bars, else a line a run above one bar.

    Args:
        num_runs: runs to do.
        num_skipped: runs that were finished before.
        num_slots: runs at a time.
        verbose: the runs show what they do.
    """

    def __init__(self, num_runs: int, num_skipped: int, num_slots: int, verbose: bool) -> None:
        from tqdm import tqdm

        self.num_runs, self.num_skipped, self.num_slots = num_runs, num_skipped, num_slots
        self.num_begun = self.num_ended = self.num_failed = 0
        self.remaining = ""
        self._bar = tqdm(
            total=num_runs,
            desc="Sweep",
            unit="run",
            disable=verbose or not num_runs,
            dynamic_ncols=True,
            bar_format="{desc}: {n_fmt}/{total_fmt} runs |{bar}| {elapsed}{postfix}",
        )

    def __enter__(self) -> SweepProgress:
        if self.num_skipped:
            self._bar.write(
                f"{self.num_skipped} of {self.num_runs + self.num_skipped} runs are in the results "
                "already, with the same config, data and code; --rerun runs them again"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def begin(
        self, run: PlannedRun, gpu: str, left: Sequence[PlannedRun], rows: list[dict[str, Any]]
    ) -> None:
        """Says that a run begins.

        Args:
            run: the run.
            gpu: where it runs, as --gpu, or the GPUs of its processes, as ``0,1``.
            left: it and the runs after it.
            rows: the results store, which says how long such runs take.
        """
        self.num_begun += 1
        seconds = expected_seconds(left, rows, len(gpu.split(",")))
        self.remaining = "" if seconds is None else f"{_span(seconds / self.num_slots)} left"
        title = f"{run.expid}, seed {run.seed}, {device_text(gpu)}"
        if self._bar.disable:
            left_text = f"; about {self.remaining}" if self.remaining else ""
            self._bar.write(f"\n=== Run {self.num_begun}/{self.num_runs}: {title}{left_text} ===")
        self._show(title)

    def end(self, run: PlannedRun, row: dict[str, Any]) -> None:
        """Says what came of a run: its row, or that of its failure."""
        self.num_ended += 1
        name = f"{run.expid}, seed {run.seed}"
        if is_finished(row):
            text = (
                f"{name}: test {format_metrics(row.get('test', {})) or 'N.A.'} - "
                f"{row['epochs']} epochs, {row['train_rows_per_second']:,.0f} rows/s, "
                f"{_span(row['seconds'])}"
            )
        else:
            self.num_failed += 1
            text = f"{name}: FAILED: {row['failed']}"
        if not (self._bar.disable and is_finished(row)):
            self._bar.write(text)
        self._bar.update()
        self._show("")

    def _show(self, doing: str) -> None:
        failed = f"{self.num_failed} failed" if self.num_failed else ""
        parts = [part for part in (self.remaining, failed, doing) if part]
        self._bar.set_postfix_str("; ".join(parts))


def device_text(gpu: str) -> str:
    """Returns ``CPU``, ``GPU 0``, ``GPUs 0,1`` or ``2 processes on the CPU``, of a slot's GPUs."""
    number = len(gpu.split(","))
    if gpu.startswith("-1"):
        return "CPU" if number == 1 else f"{number} processes on the CPU"
    return f"GPU {gpu}" if number == 1 else f"GPUs {gpu}"


def expected_seconds(
    runs: Sequence[PlannedRun], rows: list[dict[str, Any]], num_processes: int = 1
) -> float | None:
    """Returns how long runs take one after the other, or None where nothing is known.

    A run takes what finished runs of its expid took (median), else of its dataset.

    Args:
        runs: the runs.
        rows: the results store.
        num_processes: of each run; rows of another number say nothing.
    """
    by_expid: dict[tuple[str, str], list[float]] = {}
    by_dataset: dict[str, list[float]] = {}
    for row in rows:
        is_alike = is_finished(row) and row.get("processes", 1) == num_processes
        if is_alike and row.get("seconds"):
            by_expid.setdefault((row["expid"], row["dataset_id"]), []).append(row["seconds"])
            by_dataset.setdefault(row["dataset_id"], []).append(row["seconds"])
    total = 0.0
    for run in runs:
        dataset_id = run.config.dataset.dataset_id
        known = by_expid.get((run.expid, dataset_id)) or by_dataset.get(dataset_id)
        if not known:
            return None
        total += statistics.median(known)
    return total


def _span(seconds: float) -> str:
    """Returns a time as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
