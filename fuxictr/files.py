"""Files that appear completely or not at all, and one clear line if a disk refuses them.

Locks are fcntl.flock, not filelock, which cannot share a lock, follow a symbolic link, or lock
another user's file in a folder like /tmp.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fuxictr.errors import FuxiCTRError

_FULL = (errno.ENOSPC, errno.EDQUOT)
# The disk refuses every write.
_REFUSED = (*_FULL, errno.EROFS, errno.EFBIG)
# Other errors that a user can fix: rights, a folder in a file's place, a name that is too long.
_FIXABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
_PROBE_BYTES = 1 << 20
_ATTEMPTS = 30  # to mark a folder, 10 ms apart
_NAME_BYTES = 200  # of the 255 of a name; temporary names add some


class WriteError(FuxiCTRError, RuntimeError):
    """A file that cannot be written; its earlier content is unchanged."""


class DiskFullError(WriteError):
    """The disk of a path, or its user's quota, is full; ``needed`` is in bytes, None = unknown."""

    def __init__(self, path: str | Path, needed: int | None = None, is_quota: bool = False) -> None:
        folder = _nearest_folder(Path(path))
        found = f"{shutil.disk_usage(folder).free / 1e9:.2f} GB free"
        if is_quota:
            found += ", but the quota is used up"
        elif needed:
            found += f"; {needed / 1e9:.2f} GB are needed"
        elif os.statvfs(folder).f_files and not os.statvfs(folder).f_favail:
            found += ", but it has no room for another file's name (no free inodes)"
        super().__init__(
            f"{path}: the disk is full ({found}); free some space and run the command again"
        )


def explain(
    error: OSError, path: str | Path | None = None, kind: type[FuxiCTRError] = WriteError
) -> FuxiCTRError:
    """Returns an error of the disk as one line for a user: DiskFullError, or else a ``kind``.

    ``path`` is the written file; None = the one that the error names.
    """
    named = error.filename2 or error.filename
    if named is None or _is_temporary(named):
        named = path or "a file, or the output"
    if error.errno in _FULL and (path or error.filename):
        return DiskFullError(path or named, is_quota=error.errno == errno.EDQUOT)
    is_full = error.errno in _FULL
    hint = "free some space on its disk" if is_full else "check that files can be written there"
    return kind(f"{named}: {error.strerror or error}; {hint} and run the command again")


def is_explained(error: OSError) -> bool:
    """Returns whether an error is of the disk or of rights, so that a user can fix it."""
    return error.errno in _REFUSED or error.errno in _FIXABLE


@contextlib.contextmanager
def write_errors(path: str | Path, kind: type[FuxiCTRError] = WriteError) -> Iterator[None]:
    """Turns every OSError into DiskFullError or a ``kind``; for bodies that only write ``path``."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, kind) from error
    except WriteError as error:
        if isinstance(error, DiskFullError | kind):
            raise
        raise kind(str(error)) from error


@contextlib.contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """Turns errors of libraries into a WriteError if the disk of ``path`` refuses to write.

    Some libraries (torch, numpy, polars) drop the reason; then a test file is written to find it.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, FuxiCTRError):
            raise
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, OSError) and number in _REFUSED:
            raise explain(OSError(number, error.strerror), path) from error
        refusal = _probe_disk(_nearest_folder(Path(path))) if number is None else None
        if refusal is None:
            raise
        raise explain(refusal, path) from error


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    If the body raises, the temporary file is removed. Temporary files of the same path that killed
    processes left are removed first. Raises WriteError if a file cannot be written there.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
    with _live_folder(path) as folder:
        with write_errors(path):
            temporary = _create_beside(path)
        try:
            with naming_full_disk(path):
                yield temporary
            with write_errors(path):
                sync_file(temporary)
                os.replace(temporary, path)
                _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Removes temporary files of ``atomic_path(path)`` that killed processes left.

    They stay while any process writes in the folder, since they may be its own.
    """
    path = Path(path)
    if not path.parent.is_dir():
        return
    name = re.escape(_temporary_name(path, "RANDOM")).replace("RANDOM", "[0-9a-f]{16}")
    if not any(re.fullmatch(name, found) for found in os.listdir(path.parent)):
        return
    with _opened(path.parent) as folder:
        if not _lock(folder, fcntl.LOCK_EX):
            return
        for found in os.listdir(path.parent):
            if re.fullmatch(name, found):
                (path.parent / found).unlink(missing_ok=True)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes text (UTF-8) or bytes to ``path``, completely or not at all."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def sync_file(path: str | Path) -> None:
    """Waits until the disk has a file's content."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: str | Path) -> None:
    """Waits until the disk has the names in a folder, for example after ``os.replace``."""
    with _opened(folder) as opened:
        _sync(opened)


@contextlib.contextmanager
def file_lock(path: str | Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock file ``path``, which stays; the lock ends with its process, however that ends.

    ``on_wait`` is called once before waiting for another process. Raises WriteError if the file
    cannot be created.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class LogFile(logging.FileHandler):
    """A log file. If the disk refuses a line, one message says so, and work continues."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Reports once that lines are lost; errors of the logging call are shown as usual."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed:
            self._has_failed = True
            print(
                f"Lines of the log are lost. {explain(error, self.baseFilename)}", file=sys.stderr
            )

    def close(self) -> None:
        """Closes the file; buffered lines that the disk refuses are lost."""
        try:
            super().close()
        except OSError:
            if not self._has_failed:
                raise


@contextlib.contextmanager
def _live_folder(path: Path) -> Iterator[int]:
    """Opens the folder of ``path`` and marks it with a shared lock, as a live process writes in it.

    The lock ends with the process, leaves no file, and does not conflict with HDF5's locks on
    files. If another program holds the folder, no leftovers are removed, and no mark is needed.
    """
    with contextlib.ExitStack() as stack:
        with write_errors(path):
            folder = stack.enter_context(_opened(path.parent))
        for _ in range(_ATTEMPTS):
            if _lock(folder, fcntl.LOCK_SH) is not False:
                break
            time.sleep(0.01)  # removing leftovers is quick
        yield folder


@contextlib.contextmanager
def _opened(folder: str | Path) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield number
    finally:
        os.close(number)


def _lock(folder: int, operation: int) -> bool | None:
    """Locks an open folder; returns False if another process holds it, None if it has no locks."""
    try:
        fcntl.flock(folder, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system
        return None
    return True


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # the file system syncs names by itself
            raise


def _create_beside(path: Path) -> Path:
    """Creates an empty temporary file with the default rights; returns its path."""
    temporary = path.with_name(_temporary_name(path, secrets.token_hex(8)))
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return temporary


def _temporary_name(path: Path, random: str) -> str:
    """Returns a hidden, unique name with the suffix, which tells libraries the format."""
    stem = os.fsencode(path.name)[:_NAME_BYTES].decode("utf-8", "ignore")
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= 20 else ""
    return f".{stem}.{random}.tmp{suffix}"


def _is_temporary(name: object) -> bool:
    return bool(re.search(r"/\.[^/]*\.[0-9a-f]{16}\.tmp[^/]*$", str(name)))


def _probe_disk(folder: Path) -> OSError | None:
    """Writes a megabyte to a test file; returns the disk's error, or None."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _nearest_folder(path: Path) -> Path:
    """Returns the path itself or the nearest parent that is a folder."""
    return next(found for found in (path, *path.absolute().parents) if found.is_dir())
