"""The results store: results.jsonl, one row per run, appended and never rewritten."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from fuxictr.errors import DataError
from fuxictr.experiment.results.record import RunRecord
from fuxictr.files import sync_folder, write_errors

logger = logging.getLogger(__name__)

# What two runs of one expid and seed must share for the one to stand for the other.
IDENTITY = ("config_hash", "data_hash", "code_hash")

_SHOWN = 10  # lines that are warned of one by one


def append_result(path: str | Path, row: RunRecord) -> None:
    """Appends one row; several processes may append to one file at once. Raises as append_line."""
    append_line(path, json.dumps(row.to_json()))


def append_line(path: str | Path, line: str) -> None:
    """Appends one line, whole or not at all, under a lock; a torn line before it is closed first.

    Raises:
        DiskFullError: the disk is full.
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
                with contextlib.suppress(OSError):  # the next one closes a line that stays torn
                    os.ftruncate(file.fileno(), size)
                raise
        if not size:
            sync_folder(path.parent)


def check_appendable(path: str | Path) -> None:
    """Checks, before a long run, that ``append_line`` would succeed; leaves no file behind."""
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") if path.exists() else tempfile.TemporaryFile(dir=path.parent):
            pass


def read_results(path: str | Path, missing_ok: bool = False) -> list[RunRecord]:
    """Returns all rows in the order of writing; skips torn or malformed lines with a warning.

    With ``missing_ok`` a missing file has no rows, else it is a DataError.
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
            rows.append(RunRecord.from_json(json.loads(line.decode("utf-8"))))
        except (ValueError, RecursionError) as error:
            is_torn = isinstance(error, json.JSONDecodeError)
            reason = "is torn" if is_torn else f"is no row of results ({error})"
            skipped.append(f"line {number} {reason} and was skipped")
    for text in skipped[:_SHOWN]:
        _warn_once(path, text)
    if len(skipped) > _SHOWN:
        _warn_once(path, f"{len(skipped) - _SHOWN} more lines were skipped")
    return rows


def last_failures(rows: Iterable[RunRecord], expid: str, dataset_id: str) -> dict[int, str]:
    """Returns seed -> reason, for the seeds whose newest row is of a failed run."""
    newest = {r.seed: r for r in rows if (r.expid, r.dataset_id) == (expid, dataset_id)}
    return {seed: row.failed for seed, row in newest.items() if row.failed is not None}


@functools.lru_cache(maxsize=256)
def _warn_once(path: Path, text: str) -> None:
    logger.warning("%s, %s", path, text)


def _open_to_append(path: Path) -> io.FileIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "ab+", buffering=0)  # closing a buffer could write a part of a line


def _write(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _read_lines(path: Path) -> list[bytes]:
    """Returns the lines of a file, once the last one is complete or its writer has ended."""
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
