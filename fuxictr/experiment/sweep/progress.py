"""What a sweep shows while it runs: one line per run, and the remaining time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from types import TracebackType

from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.sweep.plan import PlannedRun
from fuxictr.metrics import format_metrics
from fuxictr.text_tables import format_duration


class SweepProgress:
    """A headline per run where the runs show their own bars, else a line per run above one bar.

    ``num_slots`` runs train at a time; ``verbose`` says whether the runs show their own output.
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
        self, run: PlannedRun, gpu: str, left: Sequence[PlannedRun], rows: Sequence[RunRecord]
    ) -> None:
        """Shows that a run begins, and the estimated time of the runs ``left``, it included."""
        self.num_begun += 1
        seconds = expected_seconds(left, rows, len(gpu.split(",")))
        self.remaining = (
            "" if seconds is None else f"{format_duration(seconds / self.num_slots)} left"
        )
        title = f"{run.expid}, seed {run.seed}, {device_text(gpu)}"
        if self._bar.disable:
            left_text = f"; about {self.remaining}" if self.remaining else ""
            self._bar.write(f"\n=== Run {self.num_begun}/{self.num_runs}: {title}{left_text} ===")
        self._show(title)

    def end(self, run: PlannedRun, row: RunRecord) -> None:
        """Shows the outcome of a run."""
        self.num_ended += 1
        name = f"{run.expid}, seed {run.seed}"
        if row.is_finished:
            text = (
                f"{name}: test {format_metrics(row.test or {}) or 'N.A.'} - "
                f"{row.epochs} epochs, {row.train_rows_per_second:,.0f} rows/s, "
                f"{format_duration(row.seconds or 0)}"
            )
        else:
            self.num_failed += 1
            text = f"{name}: FAILED: {row.failed}"
        if not (self._bar.disable and row.is_finished):
            self._bar.write(text)
        self._bar.update()
        self._show("")

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.write(text)

    def _show(self, doing: str) -> None:
        failed = f"{self.num_failed} failed" if self.num_failed else ""
        self._bar.set_postfix_str("; ".join(filter(None, (self.remaining, failed, doing))))


def device_text(gpu: str) -> str:
    """Returns ``CPU``, ``GPU 0``, ``GPUs 0,1`` or ``2 processes on the CPU``, of a slot's GPUs."""
    number = len(gpu.split(","))
    if gpu.startswith("-1"):
        return "CPU" if number == 1 else f"{number} processes on the CPU"
    return f"GPU {gpu}" if number == 1 else f"GPUs {gpu}"


def expected_seconds(
    runs: Sequence[PlannedRun], rows: Sequence[RunRecord], num_processes: int = 1
) -> float | None:
    """Returns how long runs take one after the other, or None where nothing is known.

    The time of a run is the median of finished runs of its expid, else of its dataset, with as many
    processes.
    """
    by_expid: dict[tuple[str, str], list[float]] = {}
    by_dataset: dict[str, list[float]] = {}
    for row in rows:
        if row.is_finished and row.num_processes == num_processes and row.seconds:
            by_expid.setdefault((row.expid, row.dataset_id), []).append(row.seconds)
            by_dataset.setdefault(row.dataset_id, []).append(row.seconds)
    total = 0.0
    for run in runs:
        dataset_id = run.config.dataset.dataset_id
        known = by_expid.get((run.expid, dataset_id)) or by_dataset.get(dataset_id)
        if not known:
            return None
        total += statistics.median(known)
    return total
