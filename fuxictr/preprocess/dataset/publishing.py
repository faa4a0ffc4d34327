"""Gives all files of a build their final names, even where the process is killed meanwhile.

A build is made in a hidden folder. It counts from the moment that a note of the planned moves lies
beside it: the next process with the lock completes the moves.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuxictr.files import (
    file_lock,
    file_sha256,
    naming_full_disk,
    sync_file,
    sync_folder,
    write_atomically,
    write_errors,
)

logger = logging.getLogger(__name__)

CACHE_KEY = "cache_key.json"
_STAGING, _NOTE = ".building", ".publishing.json"


@contextlib.contextmanager
def dataset_lock(folder: Path) -> Iterator[None]:
    """Holds a lock that ends with its process; first completes a killed process's publish."""
    on_wait = functools.partial(logger.info, "Waiting for another process that builds %s", folder)
    with file_lock(folder / ".lock", on_wait):
        _complete(folder)
        yield


@contextlib.contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty hidden folder and removes it afterwards, with a killed build's files."""
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    with write_errors(staging):
        staging.mkdir()
    try:
        with naming_full_disk(folder):
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, folder: Path, key: dict[str, Any]) -> None:
    """Moves finished files to their final names; the key comes last, without it none is used.

    Files of earlier builds go. ``key`` is written to CACHE_KEY with the files' sizes and hashes.
    """
    paths = [path for path in sorted(staging.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(staging).as_posix(): path.stat().st_size for path in paths}
    for path in paths:
        sync_file(path)
    hashes = {name: file_sha256(staging / name) for name in sizes}
    content = {**key, "files": sizes, "hashes": hashes}
    write_atomically(staging / CACHE_KEY, json.dumps(content, indent=2) + "\n")
    for parent in {path.parent for path in paths} - {staging}:
        sync_folder(parent)
    files = dict.fromkeys([*published_files(folder), *sizes])
    write_atomically(folder / _NOTE, json.dumps({"files": files}))
    _complete(folder)


def changed_file(folder: Path, key: dict[str, Any]) -> str | None:
    """Returns the name of a file that is gone or differs from the build of ``key``, or None.

    Sizes are compared; only files newer than the key, such as copies, are hashed.
    """
    hashes = key.get("hashes") or {}
    try:
        written = (folder / CACHE_KEY).stat().st_mtime_ns
        for name, size in key["files"].items():
            status = (folder / name).stat()
            if status.st_size != size:
                return name
            if status.st_mtime_ns > written and name in hashes:
                if file_sha256(folder / name) != hashes[name]:
                    return name
    except FileNotFoundError as error:
        return str(Path(error.filename).relative_to(folder))
    return None


def complete_publish(folder: Path) -> None:
    """Completes a killed process's publish; waits for one that is running."""
    if (folder / _NOTE).is_file() and (folder / _STAGING / CACHE_KEY).is_file():
        with dataset_lock(folder):
            pass


def published_files(folder: Path) -> list[str]:
    """Returns the names, below the folder, of all files of its build, and of a killed one."""
    return [*_known_files(folder / CACHE_KEY), *_known_files(folder / _NOTE)]


def _complete(folder: Path) -> None:
    """Moves the rest of what the note says, under the lock; needs no room on the disk."""
    staging = folder / _STAGING
    if not (folder / _NOTE).is_file():
        return
    if (staging / CACHE_KEY).is_file():
        new_files = _known_files(staging / CACHE_KEY)
        (folder / CACHE_KEY).unlink(missing_ok=True)
        old_files = [n for n in _known_files(folder / _NOTE) if n not in new_files]
        for name in old_files:
            (folder / name).unlink(missing_ok=True)
        for name in new_files:
            if (staging / name).is_file():
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(staging / name, folder / name)
        for parent in {(folder / name).parent for name in [*old_files, *new_files]} - {folder}:
            with contextlib.suppress(OSError):  # not empty, or not there
                parent.rmdir()
            if parent.is_dir():
                sync_folder(parent)
        sync_folder(folder)
        os.replace(staging / CACHE_KEY, folder / CACHE_KEY)
        sync_folder(folder)
    if (folder / CACHE_KEY).is_file():
        shutil.rmtree(staging, ignore_errors=True)
        (folder / _NOTE).unlink()


def _known_files(path: Path) -> list[str]:
    """Returns the names that a key or a note of publish lists."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["files"]
        return [n for n in names if not Path(n).is_absolute() and ".." not in Path(n).parts]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
