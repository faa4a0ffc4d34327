"""Log messages on the files that a split's rows come from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.array_files import SUFFIXES, find_encoded, search, span
from fuxictr.errors import DataError
from fuxictr.preprocess.dataset.cache import Split
from fuxictr.preprocess.sources.splitting import SPLITS
from fuxictr.preprocess.sources.typed_files import count_rows

logger = logging.getLogger(__name__)

_MOST_SHOWN = 5


def origins_of(
    splits: Sequence[Split], codes: np.ndarray | None, file_rows: Sequence[int]
) -> dict[str, str]:
    """Returns split -> the number of its files, the first and the last one.

    Where train_data is divided, ``codes`` are the splits of rows, ``file_rows`` the rows of files.
    """
    found = {split.name: span(split.files) for split in splits}
    if codes is not None:
        files, ends = splits[0].files, np.cumsum(file_rows)
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)[[0, -1]]
            first, last = np.searchsorted(ends, rows, side="right")
            found[SPLITS[code]] = span(files[first : last + 1])
    return found


def files_in_both(files: Mapping[str, Sequence[Path]]) -> list[str]:
    """Returns a warning where the training split shares a file with valid or test."""
    trained = {path.resolve() for path in files.get("train", ())}
    found = []
    for name in SPLITS[1:]:
        both = [path for path in files.get(name, ()) if path.resolve() in trained]
        if both:
            found.append(f"{name}_data ({name_some(both)})")
    if not found:
        return []
    return [
        f"files of train_data are in {' and in '.join(found)} too: the model would be evaluated on "
        "rows that it was trained on; name other files, or set valid_size or test_size"
    ]


def log_skipped(key: str, given: str, skipped: Sequence[Path]) -> None:
    """Logs the files beside a split's that are not read, if there are any."""
    if skipped:
        logger.info("%s %s: skipped %s", key, given, name_some(skipped))


def name_some(paths: Sequence[Path]) -> str:
    """Returns the names of the first paths, and how many more there are."""
    names = [f"{path.name}{'/' * path.is_dir()}" for path in paths[:_MOST_SHOWN]]
    more = len(paths) - _MOST_SHOWN
    return f"{', '.join(names)}{f' and {more} more' if more > 0 else ''}"


def log_splits(rows: Mapping[str, int], origins: Mapping[str, str]) -> None:
    """Logs each split's rows, with the first and last file that they come from."""
    for name, count in rows.items():
        logger.info("%s: %s rows of %s", name, f"{count:,}", origins.get(name, "an earlier build"))


def log_encoded(paths: Mapping[str, Path], column: str) -> None:
    """Logs rows and files of encoded splits, which have ``column``; skips faulty ones."""
    rows: dict[str, Any] = {}
    origins, read = {}, {}
    for name, path in paths.items():
        with contextlib.suppress(DataError):
            files = find_encoded(path)
            kind = files[0].suffix.removeprefix(".")
            rows[name] = sum(count_rows(file, kind, column) for file in files)
            origins[name] = span(files)
            log_skipped(f"{name}:", str(path), search(path, SUFFIXES).skipped)
            read[name] = files
    log_splits(rows, origins)
    for text in files_in_both(read):
        logger.warning("%s", text)
