"""The results store: results.jsonl, one row a run, appended and never rewritten."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError
from fuxictr.files import sync_folder, write_errors

logger = logging.getLogger(__name__)

# What two runs of one expid and seed must share for the one to stand for the other.
IDENTITY = ("config_hash", "data_hash", "code_hash")

# Lines that are warned of one by one.
_SHOWN = 10
# The keys that readers of rows count on, and their types; show.py checks those of its own.
_NEEDED = {"expid": str, "dataset_id": str, "seed": int}
_WHERE_PRESENT: dict[str, Any] = {
    **dict.fromkeys(("model", "variant", "run_id", "time", "config_hash"), str),
    **dict.fromkeys(("checkpoint", "checkpoint_sha256"), str),
    **dict.fromkeys(("data_hash", "code_hash", "code_version", "device"), str),
    **dict.fromkeys(("valid", "test", "rows", "versions", "config"), dict),
    **dict.fromkeys(("history", "collapse"), list),
    **dict.fromkeys(("seconds", "train_seconds", "train_rows_per_second"), (int, float)),
    **dict.fromkeys(("parameters", "epochs", "jobs", "processes"), int),
    **dict.fromkeys(("peak_memory_bytes", "peak_gpu_bytes"), int),
}


def append_result(path: str | Path, row: dict[str, Any]) -> None:
    """Appends one row; several processes may append to one file at once.

    Raises:
        DiskFullError: the disk takes no more.
        WriteError: the file cannot be written.
    """
    append_line(path, json.dumps(row, sort_keys=False))


def append_line(path: str | Path, line: str) -> None:
    """Appends one line, whole or not at all, under a lock; a torn line before it is closed first.

    Raises:
        DiskFullError: the disk takes no more.
        WriteError: the file cannot be written.
    """
    path = Path(path)
    with write_errors(path):
        with _open_to_append(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            is_torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            try:
                _write(file, b"\n" * is_torn + line.encode("utf-8") + b"\n")
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # a line that stays torn is closed by the next
                    os.ftruncate(file.fileno(), size)
                raise
        if not size:
            sync_folder(path.parent)


def check_appendable(path: str | Path) -> None:
    """Sees to it, before a long work, that its result can be appended; leaves no file behind.

    Raises:
        DiskFullError: the disk takes no more.
        WriteError: the file cannot be written.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") if path.exists() else tempfile.TemporaryFile(dir=path.parent):
            pass


def read_results(path: str | Path, missing_ok: bool = False) -> list[dict[str, Any]]:
    """Returns all rows in the order of writing.

    A line that a killed process left torn, or that is no row of results, is skipped with a warning.

    Args:
        path: the results store.
        missing_ok: whether a store that is not there yet has no rows; else it is an error.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    path = Path(path)
    if missing_ok and not path.exists():
        return []
    if not path.exists():
        raise DataError(f"{path}: no results yet; run `bash 2.reproduce.sh` first")
    rows, skipped = [], []
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
            _check_row(row)
        except (ValueError, RecursionError) as error:
            is_torn = isinstance(error, json.JSONDecodeError)
            reason = "is torn" if is_torn else f"is no row of results ({error})"
            skipped.append(f"line {number} {reason} and was skipped")
        else:
            rows.append(row)
    for text in skipped[:_SHOWN]:
        _warn_once(path, text)
    if len(skipped) > _SHOWN:
        _warn_once(path, f"{len(skipped) - _SHOWN} more lines were skipped")
    return rows


def is_finished(row: Mapping[str, Any]) -> bool:
    """Returns whether the row is of a run that came to its end, not of one that failed."""
    return "failed" not in row


def last_failures(rows: Iterable[dict[str, Any]], expid: str, dataset_id: str) -> dict[int, str]:
    """Returns seed -> reason, for the seeds whose newest row is of a failed run."""
    newest = {row["seed"]: row for row in _of(rows, expid, dataset_id)}
    return {seed: row["failed"] for seed, row in newest.items() if not is_finished(row)}


def _of(rows: Iterable[dict[str, Any]], expid: str, dataset_id: str) -> Iterable[dict[str, Any]]:
    return (r for r in rows if r.get("expid") == expid and r.get("dataset_id") == dataset_id)


@functools.lru_cache(maxsize=256)
def _warn_once(path: Path, text: str) -> None:
    logger.warning("%s, %s", path, text)


def _open_to_append(path: Path) -> io.FileIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "ab+", buffering=0)  # what a buffer held back could be torn by its close


def _write(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _read_lines(path: Path) -> list[bytes]:
    """Returns the lines of a file; one that is being written is waited for."""
    try:
        with open(path, "rb") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                fcntl.flock(file, fcntl.LOCK_SH)
                file.seek(0)
                content = file.read()
    except OSError as error:
        raise DataError(f"{path}: not readable ({error.strerror or error})") from error
    return content.split(b"\n")


def _check_row(row: object) -> None:
    """Raises ValueError where a line of the store is none that its readers can use."""
    if not isinstance(row, dict):
        raise ValueError(f"found {type(row).__name__}, expected an object")
    needed = _NEEDED if is_finished(row) else {**_NEEDED, "failed": str}
    for key in needed:
        if row.get(key) is None:
            raise ValueError(f"'{key}' is missing")
    for key, kinds in {**needed, **_WHERE_PRESENT}.items():
        value = row.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise ValueError(f"'{key}' is {type(value).__name__}")
    for key in ("valid", "test", "rows"):
        numbers = (row.get(key) or {}).values()
        if not all(number is None or isinstance(number, int | float) for number in numbers):
            raise ValueError(f"'{key}' holds what is no number")
    keys = (row.get("config") or {}).get("keys") or {}
    if not isinstance(keys, dict) or not all(isinstance(found, dict) for found in keys.values()):
        raise ValueError("'config.keys' holds what is no key and value")
    for key in ("history", "collapse"):
        for entry in row.get(key) or []:
            if not isinstance(entry, dict) or "epoch" not in entry or "variant" not in row:
                raise ValueError(f"'{key}' without 'variant', or with an entry without 'epoch'")
