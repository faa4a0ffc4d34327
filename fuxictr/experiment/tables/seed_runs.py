"""The runs of one expid over some seeds, from the results store alone.

Nothing here averages over fewer seeds than requested: where a run is missing there is no mean.
"""

from __future__ import annotations

import math
import re
import statistics as medians
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuxictr.errors import ConfigError
from fuxictr.experiment.results.identity import (
    PresentData,
    PresentKey,
    has_config,
    outdated,
    present_key,
    runs_of,
)
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import last_failures
from fuxictr.experiment.tables.statistics import mean, sample_std
from fuxictr.experiment.zoo.models import load_experiment
from fuxictr.metrics import find_metric, split_label

METRICS = ("AUC", "logloss")
_REASON = 160  # characters of a failure's reason; the results store has it whole


@dataclass(frozen=True)
class SeedRuns:
    """The runs of one expid over some seeds.

    Attributes:
        seeds: the requested seeds, ascending.
        runs: seed -> row of results, of the seeds that have one.
        missing: seed -> why it has none: not run, failed, or run with another config, data or code.
        failed_since: seed -> reason, of the seeds that have a run and failed when run again.
        left_out: seeds that were run or failed and were not requested.
        remarks: what else a reader must know of the runs.
    """

    expid: str
    seeds: tuple[int, ...]
    runs: dict[int, RunRecord]
    missing: dict[int, str]
    failed_since: dict[int, str] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every seed has a run."""
        return bool(self.seeds) and not self.missing

    @property
    def status(self) -> str:
        """What is shown instead of a mean: ``not run``, or ``2 of 3 runs``."""
        if self.is_complete:
            return ""
        if not self.runs and set(self.missing.values()) <= {"not run"}:
            return "not run"
        return f"{len(self.runs)} of {len(self.seeds)} runs"

    def values(self, metric: str) -> list[float]:
        """Returns the test metric of each seed, in the order of the seeds; [] unless complete."""
        tests = [self.runs[seed].test or {} for seed in self.seeds if seed in self.runs]
        return self._all([test.get(metric) for test in tests])

    def mean(self, metric: str) -> float | None:
        """Returns the mean of a test metric over the seeds, None unless all seeds have it."""
        values = self.values(metric)
        return mean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Returns the sample deviation over the seeds, None with one seed or unless complete."""
        return sample_std(self.values(metric))

    @property
    def parameters(self) -> float | None:
        """Number of trained weights."""
        return self._median("parameters")

    @property
    def train_seconds(self) -> float | None:
        """Median seconds in training steps, over all epochs until early stopping."""
        return self._median("train_seconds")

    @property
    def seconds_per_row(self) -> float | None:
        """Seconds in training steps per row, from the median speed."""
        speed = self._median("train_rows_per_second")
        return 1 / speed if speed else None

    @property
    def peak_memory(self) -> float | None:
        """Median peak in bytes: of the GPU where it trained on one, else of the process."""
        return self._median("peak_gpu_bytes" if self.on_gpu else "peak_memory_bytes")

    @property
    def on_gpu(self) -> bool:
        """Whether its runs used a GPU."""
        return any(re.match(r"(\d+ x )?cuda", name) for name in self.devices)

    @property
    def devices(self) -> list[str]:
        """The kinds of device that its runs used, sorted, without the index of a GPU.

        Where several runs shared a device and so took longer, the name gives their number.
        """
        names = set()
        for run in self.runs.values():
            name = re.sub(r"^cuda:\d+", "cuda", run.device or "unknown")
            names.add(name if run.jobs in (None, 1) else f"{name}, {run.jobs} runs at a time")
        return sorted(names)

    def shared(self, key: str) -> Any:
        """Returns the value that all its runs have at a key; None where they differ."""
        values = [getattr(run, key) for run in self.runs.values()]
        return values[0] if values and all(value == values[0] for value in values) else None

    def notes(self, name: str) -> list[str]:
        """Returns what a reader must know of its runs, in a line that begins with a name."""
        if not self.seeds:
            return [f"{name}: not run"]
        parts = _by_reason(self.missing)
        parts += _by_reason({s: f"{r}, when run again" for s, r in self.failed_since.items()})
        why = f"of {self.expid} left out: no run to pair with, of the same data and code"
        parts += _by_reason(dict.fromkeys(self.left_out, why))
        parts += [
            f"{metric} is not among the test metrics of every run"
            for metric in shown_metrics([self])
            if self.is_complete and not self.values(metric)
        ]
        parts += self.remarks
        return [f"{name}: {'; '.join(parts)}"] if parts else []

    def _median(self, key: str) -> float | None:
        values = self._all([getattr(run, key) for run in self.runs.values()])
        return medians.median(values) if values else None

    def _all(self, values: Sequence[float | None]) -> list[float]:
        """Returns the values of all seeds, [] where one of them is missing."""
        known = [value for value in values if value is not None]
        return known if self.is_complete and len(known) == len(values) else []


def shown_metrics(sides: Iterable[SeedRuns]) -> list[str]:
    """Returns the test metrics that tables show of some runs.

    They are AUC and logloss, but for a regression that has them not, then those of a regression and
    of single labels.
    """
    tests = [run.test or {} for side in sides for run in side.runs.values()]
    found = dict.fromkeys(name for test in tests for name in test)
    others = [name for name in found if _is_of_task(name)]
    return [name for name in METRICS if name in found or not others] + others


def is_better_higher(metric: str) -> bool:
    """Returns whether a metric, of one label or of all, is better the higher."""
    return find_metric(split_label(metric)[1]).mode == "max"


def _is_of_task(name: str) -> bool:
    try:
        label, metric = split_label(name)
    except ConfigError:  # of a model's own evaluate
        return False
    return bool(label) or not find_metric(metric).needs_clicks


@dataclass(frozen=True)
class ExpidRuns:
    """What the results store has of one expid.

    Attributes:
        rows: of its config as it is now, finished or failed, in the order of writing.
        ran: the seeds that finished, with whatever config.
        key: of a run of it now; None where it has no rows.
    """

    expid: str
    dataset_id: str
    rows: list[RunRecord]
    ran: set[int]
    key: PresentKey | None = None

    @property
    def seeds(self) -> set[int]:
        """The seeds that were run with the data and code that are shown, or failed last."""
        return {*self._runs(), *self.failures}

    @property
    def tried(self) -> set[int]:
        """The seeds that were run with its config, or failed."""
        return {row.seed for row in self.rows}

    @property
    def failures(self) -> dict[int, str]:
        """Seed -> reason, of the seeds whose newest run failed."""
        return last_failures(self.rows, self.expid, self.dataset_id)

    def over(self, seeds: Iterable[int], names_left_out: bool = False) -> SeedRuns:
        """Returns its runs over some seeds; ``names_left_out`` says whether to name its others."""
        wanted = tuple(sorted(set(seeds)))
        found = self._runs(wanted)
        reasons = dict.fromkeys(self.ran - set(found), "run with another config, data or code")
        reasons |= {seed: f"failed: {_one_line(why)}" for seed, why in self.failures.items()}
        missing = {seed: reasons.get(seed, "not run") for seed in wanted if seed not in found}
        for seed, run in found.items():
            test = run.test or {}
            wrong = [f"{metric} is {v}" for metric, v in test.items() if not math.isfinite(v)]
            if wrong or run.test is None:
                missing[seed] = f"failed: test {', '.join(wrong) or 'metrics are missing'}"
        runs = {seed: run for seed, run in found.items() if seed not in missing}
        return SeedRuns(
            self.expid,
            wanted,
            runs,
            dict(sorted(missing.items())),
            {seed: reasons[seed] for seed in runs if seed in reasons},
            tuple(sorted(self.tried - set(wanted))) if names_left_out else (),
            self._remarks(runs),
        )

    def _runs(self, seeds: Iterable[int] | None = None) -> dict[int, RunRecord]:
        if self.key is None:
            return {}
        return runs_of(self.rows, self.key, None if seeds is None else set(seeds))

    def _remarks(self, runs: dict[int, RunRecord]) -> tuple[str, ...]:
        """Returns that runs are of other data or code than now, and how the seeds differ."""
        if self.key is None or not runs:
            return ()
        shown = next(iter(runs.values()))
        found = [f"run with other {what}" for what in outdated(shown, self.key)]
        data = {row.data_hash for row in self.rows if row.is_finished}
        is_known = self.key.data_hash is not None or self.key.stale_data
        if not is_known and len(data) > 1:
            found.append(
                f"run on several data, and those at hand are not encoded: data_hash "
                f"{shown.data_hash}, the newest run's, is shown"
            )
        return (*found, *_unlike_seeds(runs))


def find_runs(
    rows: Iterable[RunRecord],
    expid: str,
    folder: Path,
    dataset_id: str,
    data: PresentData | None = None,
) -> ExpidRuns:
    """Returns what the results store has of an expid with its config as it is now.

    ``data`` are the encoded data as they are now, shared by the calls for several expids.
    """
    own = [row for row in rows if (row.expid, row.dataset_id) == (expid, dataset_id)]
    ran = {row.seed for row in own if row.is_finished}
    if not own:
        return ExpidRuns(expid, dataset_id, [], ran)
    # The config is checked against the model's signature, so this imports torch.
    config, model_class = load_experiment(expid, folder)
    key = present_key(config, model_class, data)
    return ExpidRuns(expid, dataset_id, [row for row in own if has_config(row, key)], ran, key)


def shared_seeds(
    pairs: Sequence[tuple[ExpidRuns, ExpidRuns]], found: Sequence[ExpidRuns]
) -> list[int]:
    """Returns the seeds that a mean over compared ``pairs`` must be over where none are requested.

    They are all that any pair was run or failed with on both sides: with the data and code of each
    side's newest run, else with any of its config. So a single run of one side does not require its
    seed of the others. Where no pair shares a seed they are all of ``found``.
    """
    shared = {seed for a, b in pairs for seed in (a.seeds & b.seeds or a.tried & b.tried)}
    tried = {seed for runs in found for seed in runs.tried}
    ran = {seed for runs in found for seed in runs.ran}
    return sorted(shared or tried or ran)


def unlike_runs(first: SeedRuns, second: SeedRuns) -> list[str]:
    """Returns ``different data (data_hash a, b)`` and the like, of what two sides do not share."""
    if not first.runs or not second.runs:
        return []
    found = [
        f"different {word} ({key} {first.shared(key)}, {second.shared(key)})"
        for key, word in (("data_hash", "data"), ("code_hash", "code"))
        if first.shared(key) != second.shared(key)
    ]
    for name, read in _SURROUNDINGS.items():
        ours, theirs = ({str(read(row)) for row in side.runs.values()} for side in (first, second))
        if len(ours) == len(theirs) == 1 and ours != theirs:  # else the notes of a side name it
            found.append(f"different {name} ({', '.join([*ours, *theirs])})")
    return found


# What else the last digits of a run depend on -> how it is read from a row.
_SURROUNDINGS: dict[str, Callable[[RunRecord], Any]] = {
    "torch": lambda row: (row.versions or {}).get("torch"),
    "threads": lambda row: row.threads,
    "processes": lambda row: row.num_processes,
    "device": lambda row: re.sub(r"^cuda:\d+|, \d+ threads", "", str(row.device)),
}


def _unlike_seeds(runs: dict[int, RunRecord]) -> list[str]:
    """Returns ``seeds ran with unlike torch: 2.4.0 (seed 1), 2.13.0 (seed 2)`` and the like."""
    notes = []
    for name, read in _SURROUNDINGS.items():
        of_value: dict[Any, list[int]] = {}
        for seed, row in runs.items():
            of_value.setdefault(read(row), []).append(seed)
        if len(of_value) > 1:
            found = [f"{value} (seed {', '.join(map(str, s))})" for value, s in of_value.items()]
            notes.append(f"the seeds ran with unlike {name}: {'; '.join(found)}")
    return notes


def _one_line(text: object) -> str:
    """Returns the text without line breaks and control characters, as those of a terminal."""
    return "".join(filter(str.isprintable, " ".join(str(text).split())))


def _by_reason(reasons: dict[int, str]) -> list[str]:
    """Returns ``seeds 1, 2 not run`` for each reason."""
    found: dict[str, list[int]] = {}
    for seed, reason in reasons.items():
        found.setdefault(textwrap.shorten(reason, _REASON, placeholder=" ..."), []).append(seed)
    return [
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} {reason}"
        for reason, seeds in found.items()
    ]
