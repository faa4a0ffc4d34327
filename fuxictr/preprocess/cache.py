"""When an encoded dataset may be reused: its key, its lock, and how it gets its final names."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError
from fuxictr.files import write_atomically
from fuxictr.preprocess.processor import FeatureProcessor
from fuxictr.preprocess.sources import find_files

logger = logging.getLogger(__name__)

CACHE_KEY = "cache_key.json"
# Raise it whenever the same config and rows are encoded differently from before.
ENCODER_VERSION = 1
_STAGING = ".building"
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class Split:
    """One raw split: train, valid or test.

    Attributes:
        name: its name.
        given: file, folder or glob as the config has it.
        files: the files found, in order.
        error: why there are none, or None.
    """

    name: str
    given: str
    files: list[Path] = field(default_factory=list)
    error: DataError | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Returns name, size, modification time and a content sample's hash of each file."""
        return {"given": self.given, "files": [_fingerprint(path) for path in self.files]}


def find_splits(processor: FeatureProcessor, base_dir: Path) -> list[Split]:
    """Returns the splits that the config names; absent files are noted, not raised."""
    config, splits = processor.config, []
    for name in ("train", "valid", "test"):
        key = f"{name}_data"
        given = getattr(config, key)
        if given is None:
            continue
        try:
            files = find_files(given, key, base_dir, config.data_format)
            splits.append(Split(name, given, files))
        except DataError as error:
            splits.append(Split(name, given, error=error))
    return splits


def make_key(processor: FeatureProcessor, splits: Sequence[Split]) -> dict[str, Any]:
    """Returns all that decides what is written: encoder version, config and raw files."""
    config = processor.config
    expressions = processor.expressions
    return {
        "encoder_version": ENCODER_VERSION,
        "config": {
            "data_format": config.data_format,
            "min_categr_count": config.min_categr_count,
            "columns": {c.name: asdict(c.config) for c in processor.all_columns},
            "order": [c.name for c in processor.all_columns],
            "preprocess": {name: str(e) for name, e in expressions.by_column.items()},
            "preprocess_inputs": {
                name: list(expressions.raw_entry(name)) for name in expressions.inputs
            },
            "splits": [split.name for split in splits],
        },
        "sources": {split.name: split.fingerprint() for split in splits},
    }


def read_key(folder: Path) -> dict[str, Any] | None:
    """Returns what the last finished build left, or None."""
    try:
        content = json.loads((folder / CACHE_KEY).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    is_whole = isinstance(content, dict) and {"rows", "files", "data_hash"} <= set(content)
    return content if is_whole else None


def stale_reason(folder: Path, key: dict[str, Any]) -> str | None:
    """Returns why the encoded dataset of a folder cannot be reused, or None when it can.

    Raw files that are absent altogether are taken as unchanged: users may delete them.
    """
    old = read_key(folder)
    if old is None:
        return "there is no finished encoded dataset"
    if old.get("encoder_version") != key["encoder_version"]:
        return "this version encodes differently"
    changed = _changed(old.get("config", {}), key["config"])
    if changed:
        return f"the config changed ({', '.join(changed)})"
    for name, source in key["sources"].items():
        known = old.get("sources", {}).get(name, {})
        if source["files"] and source["files"] != known.get("files"):
            return f"the raw files of the {name} split changed"
        if not source["files"] and source["given"] != known.get("given"):
            return f"the raw files of the {name} split are others"
    for name, size in old.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is missing or damaged"
    return None


@contextlib.contextmanager
def dataset_lock(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which ends with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for another process that builds %s", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty hidden folder; it goes in the end, and so does what a killed build left."""
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, folder: Path, key: dict[str, Any]) -> None:
    """Moves finished files to their final names; without the key, written last, none is used."""
    old_files = (read_key(folder) or {}).get("files", {})
    (folder / CACHE_KEY).unlink(missing_ok=True)
    sizes = {}
    for path in sorted(staging.iterdir()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        sizes[path.name] = path.stat().st_size
        os.replace(path, folder / path.name)
    for name in set(old_files) - set(sizes):
        (folder / Path(name).name).unlink(missing_ok=True)
    write_atomically(folder / CACHE_KEY, json.dumps({**key, "files": sizes}, indent=2) + "\n")


def _changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    changed = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            columns = sorted(c for c in {*before, *after} if before.get(c) != after.get(c))
            changed += [f"column '{column}'" for column in columns]
        else:
            changed.append(name)
    return list(dict.fromkeys(changed))


def _fingerprint(path: Path) -> dict[str, Any]:
    status = path.stat()
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start in (0, status.st_size // 2, max(status.st_size - _SAMPLE_BYTES, 0)):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return {
        "name": path.name,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sample": digest.hexdigest(),
    }
