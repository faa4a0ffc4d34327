"""The results store: results.jsonl, one row a run, appended and never rewritten."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError

logger = logging.getLogger(__name__)


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


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Returns all rows in the order of writing.

    A line that a killed process left torn is skipped with a warning.

    Raises:
        DataError: the file is missing.
    """
    path = Path(path)
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
