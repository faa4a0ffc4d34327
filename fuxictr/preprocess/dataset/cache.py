"""The cache key: when an encoded dataset may be reused."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from fuxictr.array_files import natural_order, partitions
from fuxictr.errors import DataError
from fuxictr.files import file_sha256
from fuxictr.preprocess.dataset.processor import FeatureProcessor
from fuxictr.preprocess.dataset.publishing import (
    CACHE_KEY,
    changed_file,
    complete_publish,
    published_files,
)
from fuxictr.preprocess.sources.files import search_files
from fuxictr.preprocess.sources.splitting import SPLITS

# Raise it whenever the same config and rows are encoded differently.
ENCODER_VERSION = 3
# Keys of the config that change what is written, besides those of the columns.
_HASHED_KEYS = (
    "data_format",
    "separator",
    "quote_char",
    "valid_size",
    "test_size",
    "split_type",
    "split_seed",
    "min_categr_count",
    "data_block_size",
)
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class Split:
    """One raw split: its files, others seen beside them (``skipped``), or an ``error``."""

    name: str
    given: str
    files: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    error: DataError | None = None

    def fingerprint(self, is_full: bool, columns: Sequence[str]) -> dict[str, Any]:
        """Returns each file's fingerprint and the values of its folders that are read."""
        files = [fingerprint(path, is_full) for path in self.files]
        for path, known in zip(self.files, files, strict=True):
            values = {n: v for n, v in partitions(path).items() if n in columns}
            known.update({"folders": values} if values else {})
        return {"given": self.given, "files": files}


def find_splits(processor: FeatureProcessor, base_dir: Path) -> list[Split]:
    """Returns the splits that the config names; an absent file is noted in ``error``."""
    config, splits = processor.config, []
    for name in SPLITS:
        key = f"{name}_data"
        given = getattr(config, key)
        if given is None:
            continue
        try:
            found = search_files(given, key, base_dir, config.data_format)
            # A glob may find what a build wrote below the raw files.
            written = {path for path in found.files if _is_written(path)}
            files = [path for path in found.files if path not in written] or found.files
            skipped = [*found.skipped, *(path for path in found.files if path not in files)]
            splits.append(Split(name, given, files, skipped))
        except DataError as error:
            splits.append(Split(name, given, error=error))
    return splits


def _is_written(path: Path) -> bool:
    """Returns whether a build of some dataset wrote the file."""
    beside, above = path.parent, path.parent.parent
    return path.name in published_files(beside) or (
        f"{beside.name}/{path.name}" in published_files(above)
    )


def make_key(processor: FeatureProcessor, splits: Sequence[Split]) -> dict[str, Any]:
    """Returns everything that decides what is written: encoder version, config, raw files."""
    is_full, columns = processor.config.source_hash == "full", processor.raw_columns()
    vectors = {
        column.name: processor.pretrained_path(column)
        for column in processor.columns
        if column.config.pretrained_emb
    }
    return {
        "encoder_version": ENCODER_VERSION,
        "config": config_key(processor),
        "sources": {split.name: split.fingerprint(is_full, columns) for split in splits},
        "vectors": {
            name: fingerprint(path, is_full=True)["content"]
            for name, path in vectors.items()
            if path.is_file()
        },
    }


def config_key(processor: FeatureProcessor) -> dict[str, Any]:
    """Returns the part of the config that decides what is written."""
    config, expressions = processor.config, processor.expressions
    return {
        **{name: getattr(config, name) for name in _HASHED_KEYS},
        "header": list(processor.source_format.dialect.names or ()) or True,
        "columns": {c.name: asdict(c.config) for c in processor.all_columns},
        "order": [c.name for c in processor.all_columns],
        "preprocess": {name: str(e) for name, e in expressions.by_column.items()},
        "preprocess_inputs": {
            name: list(expressions.raw_entry(name))
            for name in expressions.inputs(list(expressions.by_column))
        },
        "splits": [s for s in SPLITS if getattr(config, f"{s}_data") is not None],
        "processor": _code_digest(type(processor)),
    }


def only_encoding(key: dict[str, Any]) -> dict[str, Any]:
    """Returns a config key without what only says how rows are read, divided and written."""
    without = {*_HASHED_KEYS, "header", "splits"} - {"min_categr_count"}
    return {name: value for name, value in key.items() if name not in without}


def read_key(folder: Path) -> dict[str, Any] | None:
    """Returns the key of the last finished build, or None; writes nothing."""
    try:
        content = json.loads((folder / CACHE_KEY).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    kinds = {"rows": dict, "files": dict, "config": dict, "sources": dict, "data_hash": str}
    is_whole = isinstance(content, dict) and all(
        isinstance(content.get(name), kind) for name, kind in kinds.items()
    )
    return content if is_whole else None


def load_key(folder: Path) -> dict[str, Any] | None:
    """Completes a publish that was interrupted, then returns read_key's answer."""
    key = read_key(folder)
    if key is None:
        complete_publish(folder)
        key = read_key(folder)
    return key


def stale_reason(folder: Path, key: dict[str, Any], processor: FeatureProcessor) -> str | None:
    """Returns why the encoded dataset of a folder cannot be reused, or None.

    Absent raw files count as unchanged: users may delete them. Functions are tried on kept rows.
    """
    old = read_key(folder)
    if old is None:
        return "there is no finished encoded dataset"
    if old.get("encoder_version") != key["encoder_version"]:
        return "this version encodes differently"
    changed = changed_keys(old.get("config", {}), key["config"])
    if changed:
        return f"the config changed ({', '.join(changed)})"
    for name, content in key["vectors"].items():
        if content != old.get("vectors", {}).get(name):
            return f"the vectors of {name} changed"
    for name, source in key["sources"].items():
        known = old.get("sources", {}).get(name, {})
        if source["files"] and source["files"] != known.get("files"):
            return f"the raw files of the {name} split changed"
        if not source["files"] and source["given"] != known.get("given"):
            return f"the config names other raw files for the {name} split"
    damaged = changed_file(folder, old)
    if damaged is not None:
        return f"{damaged} is missing or damaged"
    foreign = foreign_parts(folder, {name.partition("/")[0] for name in old.get("files", {})})
    if foreign:
        return f"{foreign[0]} was not written by the build"
    try:
        return processor.expressions.changed_value(folder)
    except DataError as error:
        return str(error)


def foreign_parts(folder: Path, splits: Collection[str]) -> list[Path]:
    """Returns the files in the ``splits``' part folders that no build wrote."""
    ours = published_files(folder)
    parts = [path for split in splits for path in (folder / split).glob("*.parquet")]
    foreign = [path for path in parts if path.relative_to(folder).as_posix() not in ours]
    return sorted(foreign, key=natural_order)


def _code_digest(processor: type) -> str | None:
    """Returns a hash of a user's processor classes; None for the plain one."""
    digest = hashlib.sha256()
    added = processor.__mro__[: processor.__mro__.index(FeatureProcessor)]
    for kind in added:
        digest.update(kind.__qualname__.encode())
        try:
            digest.update(Path(inspect.getfile(kind)).read_bytes())
        except (OSError, TypeError):  # defined in a notebook or at a prompt
            for name, member in sorted(vars(kind).items()):
                if inspect.isfunction(member):
                    digest.update(name.encode() + _code_bytes(member.__code__))
    return digest.hexdigest()[:16] if added else None


def _code_bytes(code: CodeType) -> bytes:
    parts = [code.co_code, repr(code.co_names).encode()]
    for constant in code.co_consts:
        nested = isinstance(constant, CodeType)
        parts.append(_code_bytes(constant) if nested else repr(constant).encode())
    return b"".join(parts)


def changed_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns the keys and columns in which two config keys differ."""
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


def fingerprint(path: Path, is_full: bool = False) -> dict[str, Any]:
    """Returns name, size and hash of a file; without ``is_full``, of 3 samples, and the time."""
    status = path.stat()
    known = {"name": path.name, "size": status.st_size}
    if is_full:  # no time: a copy changes it
        return {**known, "content": file_sha256(path)}
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for start in (0, status.st_size // 2, max(status.st_size - _SAMPLE_BYTES, 0)):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return {**known, "content": digest.hexdigest(), "mtime_ns": status.st_mtime_ns}
