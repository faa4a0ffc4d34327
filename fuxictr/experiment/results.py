"""The results store: results.jsonl, one row a run, appended and never rewritten."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError

logger = logging.getLogger(__name__)

# What two runs of one expid and seed must share for the one to stand for the other.
IDENTITY = ("config_hash", "data_hash", "code_hash")


def append_result(path: str | Path, row: dict[str, Any]) -> None:
    """Appends one row; several processes may append to one file at once."""
    append_line(path, json.dumps(row, sort_keys=False))


def append_line(path: str | Path, line: str) -> None:
    """Appends one line, whole, under a lock; a torn line before it is closed first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        is_torn = False
        if size:
            file.seek(-1, os.SEEK_END)
            is_torn = file.read(1) != b"\n"
        file.write(b"\n" * is_torn + line.encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_results(path: str | Path, missing_ok: bool = False) -> list[dict[str, Any]]:
    """Returns all rows in the order of writing.

    A line that a killed process left torn is skipped with a warning.

    Args:
        path: the results store.
        missing_ok: whether a store that is not there yet has no rows; else it is an error.

    Raises:
        DataError: the file is missing.
    """
    path = Path(path)
    if missing_ok and not path.is_file():
        return []
    if not path.is_file():
        raise DataError(f"{path}: no results yet; run `bash 2.reproduce.sh` first")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError:
            logger.warning("%s, line %d is torn and was skipped", path, number)
    return rows


def is_finished(row: dict[str, Any]) -> bool:
    """Returns whether the row is of a run that came to its end, not of one that failed."""
    return "failed" not in row


def find_finished(rows: Iterable[dict[str, Any]], wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the newest finished row of the same run, or None.

    Args:
        rows: the results store.
        wanted: a row's expid, dataset_id, seed and the keys of IDENTITY; null = any value.
    """
    keys = [k for k in ("expid", "dataset_id", "seed", *IDENTITY) if wanted[k] is not None]
    same = [r for r in rows if is_finished(r) and all(r.get(k) == wanted[k] for k in keys)]
    return same[-1] if same else None


def newest_runs(
    rows: Iterable[dict[str, Any]],
    expid: str,
    dataset_id: str,
    seeds: Collection[int] | None = None,
) -> dict[int, dict[str, Any]]:
    """Returns seed -> newest finished run, all of the config, data and code of the newest of them.

    Args:
        rows: the results store.
        expid: the experiment.
        dataset_id: the dataset.
        seeds: only these; null = all.
    """
    runs = [
        row
        for row in _of(rows, expid, dataset_id)
        if is_finished(row) and (seeds is None or row["seed"] in seeds)
    ]
    same = [row for row in runs if all(row.get(k) == runs[-1].get(k) for k in IDENTITY)]
    return {row["seed"]: row for row in sorted(same, key=lambda row: row["seed"])}


def last_failures(rows: Iterable[dict[str, Any]], expid: str, dataset_id: str) -> dict[int, str]:
    """Returns seed -> reason, for the seeds whose newest row is of a failed run."""
    newest = {row["seed"]: row for row in _of(rows, expid, dataset_id)}
    return {seed: row["failed"] for seed, row in newest.items() if not is_finished(row)}


def _of(rows: Iterable[dict[str, Any]], expid: str, dataset_id: str) -> Iterable[dict[str, Any]]:
    return (r for r in rows if r.get("expid") == expid and r.get("dataset_id") == dataset_id)
