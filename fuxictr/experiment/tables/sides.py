"""The runs of one expid over some seeds, from the results store alone.

Nothing here averages over fewer seeds than were asked for: a side that misses a run has no mean.
"""

from __future__ import annotations

import math
import re
import statistics as medians
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuxictr.experiment.results import is_finished, last_failures, newest_runs
from fuxictr.experiment.tables.statistics import mean, sample_std

METRICS = ("AUC", "logloss")
_REASON = 160  # characters of a failure's reason; the results store has it whole


@dataclass(frozen=True)
class Side:
    """The runs of one expid over some seeds.

    Attributes:
        expid: the experiment.
        seeds: the seeds asked for, ascending.
        runs: seed -> row of results, of the seeds that have one.
        missing: seed -> why it has none: ``not run``, ``failed: <reason>``, or that it was run with
            another config, data or code than the newest run.
        failed_since: seed -> reason, of the seeds that have a run and failed when run again.
    """

    expid: str
    seeds: tuple[int, ...]
    runs: dict[int, dict[str, Any]]
    missing: dict[int, str]
    failed_since: dict[int, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every seed has a run."""
        return bool(self.seeds) and not self.missing

    @property
    def status(self) -> str:
        """What stands in the place of a mean: ``not run``, or ``2 of 3 runs``."""
        if self.is_complete:
            return ""
        if all(reason == "not run" for reason in self.missing.values()) and not self.runs:
            return "not run"
        return f"{len(self.runs)} of {len(self.seeds)} runs"

    def values(self, metric: str) -> list[float]:
        """Returns the test metric of each seed, in the order of the seeds; [] unless complete."""
        if not self.is_complete:
            return []
        values = [self.runs[seed]["test"].get(metric) for seed in self.seeds]
        return [] if None in values else values

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
        """Seconds in training steps for a row, from the median speed."""
        speed = self._median("train_rows_per_second")
        return 1 / speed if speed else None

    @property
    def peak_memory(self) -> float | None:
        """Median peak in bytes: of the GPU where it trained on one, else of the process."""
        return self._median("peak_gpu_bytes" if self.on_gpu else "peak_memory_bytes")

    @property
    def on_gpu(self) -> bool:
        """Whether its runs used a GPU."""
        return any(name.startswith("cuda") for name in self.devices)

    @property
    def devices(self) -> list[str]:
        """The kinds of device that its runs used, sorted; which GPU of several is left out."""
        names = (str(run.get("device", "unknown")) for run in self.runs.values())
        return sorted({re.sub(r"^cuda:\d+", "cuda", name) for name in names})

    def shared(self, key: str) -> Any:
        """Returns the value that all its runs have at a key; None where they differ."""
        values = [run.get(key) for run in self.runs.values()]
        return values[0] if values and all(value == values[0] for value in values) else None

    def notes(self, name: str) -> list[str]:
        """Returns what a reader must know of its runs, in one line; [] where there is nothing.

        Args:
            name: how the line calls it.
        """
        if not self.seeds:
            return [f"{name}: not run"]
        parts = _by_reason(self.missing)
        parts += _by_reason({s: f"{r}, when run again" for s, r in self.failed_since.items()})
        parts += [
            f"{metric} is not among the test metrics of every run"
            for metric in METRICS
            if self.is_complete and not self.values(metric)
        ]
        return [f"{name}: {'; '.join(parts)}"] if parts else []

    def _median(self, key: str) -> float | None:
        values = [run.get(key) for run in self.runs.values()]
        if not self.is_complete or None in values:
            return None
        return medians.median(values)  # type: ignore[type-var]


def find_sides(
    rows: Sequence[dict[str, Any]],
    expids: Iterable[str],
    dataset_id: str,
    seeds: Sequence[int] | None = None,
) -> dict[str, Side]:
    """Returns expid -> its runs over the same seeds.

    Args:
        rows: the results store.
        expids: the experiments.
        dataset_id: the dataset.
        seeds: the seeds each must have; null = all that any of the expids ran or failed with.
    """
    runs = {expid: newest_runs(rows, expid, dataset_id, seeds) for expid in expids}
    reasons: dict[str, dict[int, str]] = {}
    for expid in runs:
        failures = last_failures(rows, expid, dataset_id).items()
        reasons[expid] = {seed: f"failed: {_one_line(why)}" for seed, why in failures}
    if seeds is None:
        seeds = [seed for expid, found in runs.items() for seed in (*found, *reasons[expid])]
    wanted = tuple(sorted(set(seeds)))
    finished = [row for row in rows if row.get("dataset_id") == dataset_id and is_finished(row)]
    sides = {}
    for expid, found in runs.items():
        ran = {row["seed"] for row in finished if row.get("expid") == expid}
        other = dict.fromkeys(ran - set(found), "run with another config, data or code")
        sides[expid] = _make_side(expid, wanted, found, {**other, **reasons[expid]})
    return sides


def _make_side(
    expid: str, seeds: tuple[int, ...], found: dict[int, dict[str, Any]], reasons: dict[int, str]
) -> Side:
    missing = {seed: reasons.get(seed, "not run") for seed in seeds if seed not in found}
    for seed, run in found.items():
        wrong = [f"{m} is {v}" for m, v in run.get("test", {}).items() if not math.isfinite(v)]
        if wrong or "test" not in run:
            missing[seed] = f"failed: test {', '.join(wrong) or 'metrics are missing'}"
    runs = {seed: run for seed, run in found.items() if seed not in missing}
    since = {seed: reasons[seed] for seed in runs if seed in reasons}
    return Side(expid, seeds, runs, dict(sorted(missing.items())), since)


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
