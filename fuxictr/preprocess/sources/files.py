"""The raw files of a split, and their format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuxictr.array_files import Found, search
from fuxictr.array_files.searching import has_wildcards, what_is_there
from fuxictr.config import DatasetConfig
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.preprocess.sources.csv_rows import CsvDialect

# How the names of data files end.
SUFFIXES = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet",),
    "npz": (".npz",),
    "h5": (".h5",),
}


@dataclass(frozen=True)
class SourceFormat:
    """The format of raw files: csv (of a dialect), parquet, npz or h5."""

    name: str
    dialect: CsvDialect = field(default_factory=CsvDialect)


def format_of(given: str, otherwise: SourceFormat) -> SourceFormat:
    """Returns the format that the ending of a path names, or ``otherwise``."""
    for name, suffixes in SUFFIXES.items():
        if given.endswith(suffixes):
            return SourceFormat(name, otherwise.dialect)
    return otherwise


def format_of_config(config: DatasetConfig, read: Sequence[str]) -> SourceFormat:
    """Returns the format of a dataset's raw files; ConfigError where a column has no place."""
    names, labels = None, config.labels()
    if config.header is not True:
        names = tuple(config.header or _names_in_order(config, read))
    own = tuple(label.name for label in labels if not label.preprocess)
    numeric = frozenset(label.name for label in labels if label.type == "numeric")
    dialect = CsvDialect(config.separator, config.quote_char, names, own, numeric)
    return SourceFormat(config.data_format, dialect)


def _names_in_order(config: DatasetConfig, read: Sequence[str]) -> list[str]:
    """Returns the labels, then the raw columns of feature_cols, inactive ones too."""
    active = {column.name for column in config.columns()}
    entries = [(label.name, True) for label in config.labels()]
    for entry in config.feature_cols:
        names = entry["name"] if isinstance(entry["name"], list) else [entry["name"]]
        entries += [(name, bool(entry.get("preprocess")) or name in active) for name in names]
    order = [name for name, is_judged in entries if name in read or not is_judged]
    for name in read:
        if name not in order:
            raise ConfigError(
                f"dataset '{config.dataset_id}': key 'header': found false, but raw column "
                f"'{name}' has no entry in feature_cols that says its place; name the file's "
                "columns in order, as header: [label, I1, ...]"
            )
    return order


def search_files(given: str, key: str, base_dir: Path, data_format: str) -> Found:
    """Returns a split's files (2 before 10) and what is skipped; ``key`` is for messages."""
    path = (base_dir / Path(given).expanduser()).resolve()
    found = search(path, SUFFIXES[data_format])
    if found.files:
        return found
    where = f"(key '{key}': '{given}')"
    if path.is_dir():
        hint = f"{what_is_there(path)}; other files and deeper ones are read by a glob, as **/*"
        raise DataError(f"{path}: no .{data_format} file in this folder {where}; {hint}")
    if has_wildcards(path):
        raise DataError(f"{path}: no such file {where}; {what_is_there(path)}")
    near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f"{path}: no such file {where}{did_you_mean(path.name, near)}")
