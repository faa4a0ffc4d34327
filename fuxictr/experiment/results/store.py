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
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO

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


def read_results(
    path: str | Path, missing_ok: bool = False, of: tuple[str, int] | None = None
) -> list[RunRecord]:
    """Returns all rows in the order of writing; skips torn or malformed lines with a warning.

    With ``missing_ok`` a missing file has no rows, else it is a DataError. ``of`` is an expid and a
    seed: lines that do not name both are left out, unread.
    """
    if not missing_ok and not Path(path).exists():
        raise DataError(f"{path}: no results yet; run `bash 2.reproduce.sh` first")
    return ResultsReader(path, of).rows()


class ResultsReader:
    """Reads a results store again and again, each time only what was appended; thread-safe.

    Args:
        path: the file; a missing one has no rows.
        of: as in ``read_results``.
    """

    def __init__(self, path: str | Path, of: tuple[str, int] | None = None) -> None:
        self.path = Path(path)
        self._wanted = [] if of is None else [json.dumps(value).encode() for value in of]
        self._lock = threading.Lock()
        self._forget()

    def rows(self) -> list[RunRecord]:
        """Returns all rows in the order of writing; raises and warns as ``read_results``."""
        with self._lock:
            *whole, rest = self._read_on()
            skipped = self._parse(whole, self._rows)
            self._num_lines += len(whole)
            unfinished: list[RunRecord] = []  # a last line without an end may be a row all the same
            skipped += self._parse([rest], unfinished)
            for text in skipped[:_SHOWN]:
                _warn_once(self.path, text)
            if len(skipped) > _SHOWN:
                _warn_once(self.path, f"{len(skipped) - _SHOWN} more lines were skipped")
            return self._rows + unfinished

    def _forget(self) -> None:
        self._rows: list[RunRecord] = []
        self._num_lines = self._num_bytes = 0
        self._last = b""  # the last line that was read

    def _read_on(self) -> list[bytes]:
        """Returns the lines that are new, and what follows the last line's end.

        That is empty, or what a writer left that has ended.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._num_bytes - len(self._last))
                if file.read(len(self._last)) != self._last:  # another file, or it was edited
                    self._forget()
                content = self._content(file)
        except FileNotFoundError:
            self._forget()
            return [b""]
        except OSError as error:
            raise DataError(f"{self.path}: not readable ({error.strerror or error})") from error
        lines = content.split(b"\n")
        self._num_bytes += len(content) - len(lines[-1])
        self._last = lines[-2] + b"\n" if len(lines) > 1 else self._last
        return lines

    def _content(self, file: IO[bytes]) -> bytes:
        """Returns what is new, once its last line is complete or the writer has ended."""
        file.seek(self._num_bytes)
        content = file.read()
        if content and not content.endswith(b"\n"):
            fcntl.flock(file, fcntl.LOCK_SH)
            file.seek(self._num_bytes)
            content = file.read()
        return content

    def _parse(self, lines: list[bytes], rows: list[RunRecord]) -> list[str]:
        """Adds the rows of lines; returns what is wrong with those that were skipped."""
        skipped = []
        for number, line in enumerate(lines, start=self._num_lines + 1):
            if not line.strip() or not all(text in line for text in self._wanted):
                continue
            try:
                rows.append(RunRecord.from_json(json.loads(line.decode("utf-8"))))
            except (ValueError, RecursionError) as error:
                is_torn = isinstance(error, json.JSONDecodeError)
                reason = "is torn" if is_torn else f"is no row of results ({error})"
                skipped.append(f"line {number} {reason} and was skipped")
        return skipped


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
