"""Fetches datasets and verifies them, or generates the demo data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuxictr.datasets import registry
from fuxictr.datasets.registry import SPLITS, RawDataset
from fuxictr.errors import DataError, DownloadError
from fuxictr.files import DiskFullError, file_lock, sync_folder, write_atomically, write_errors

_MARKER = ".verified.json"


def prepare_demo(root: Path, dataset: RawDataset, rows: int | None, seed: int | None) -> None:
    """Generates the demo data, unless it is there with these rows and this seed.

    Raises ConfigError for rows or seed out of range, DataError or DiskFullError if it cannot write.
    """
    from fuxictr.datasets import demo

    folder = registry.raw_dir(root, dataset)
    rows = demo.DEFAULT_ROWS if rows is None else rows
    seed = demo.DEFAULT_SEED if seed is None else seed
    with write_errors(folder, DataError), _exclusive(folder):
        if demo.generate(folder, rows, seed):
            ceiling = demo.load_bayes_ceiling(folder)
            print(
                f"demo: {rows:,} rows in {folder}; Bayes ceiling of the test split: "
                f"AUC {ceiling['AUC']:.6f}, logloss {ceiling['logloss']:.6f}"
            )
        else:
            print(f"demo: all in place in {folder}")


def prepare_download(root: Path, dataset: RawDataset) -> None:
    """Downloads, unpacks and verifies a dataset; does nothing if all is in place.

    The csv files appear under their final names only when all three are verified. A csv that is
    there is verified and kept. Raises DiskFullError, or DownloadError if a csv in the folder is not
    the published one, and as download.py and archive.py.
    """
    folder = registry.raw_dir(root, dataset)
    with write_errors(folder, DownloadError), _exclusive(folder):
        missing = _missing_splits(folder, dataset)
        if missing:
            _fetch(folder, dataset, missing)
            print(f"{dataset.name}: verified in {folder}")
        else:
            shutil.rmtree(_staging(folder), ignore_errors=True)  # left by a killed command
            print(f"{dataset.name}: all in place in {folder}")


def _fetch(folder: Path, dataset: RawDataset, missing: list[str]) -> None:
    from fuxictr.datasets.archive import unpack_csv
    from fuxictr.datasets.download import archive_url, download

    staging = _staging(folder)
    archive = staging / f"{dataset.name}.zip"
    if not archive.is_file():
        url = archive_url(dataset.name)
        print(f"{dataset.name}: downloading {url}", flush=True)
        download(url, archive)
    shutil.rmtree(staging / "csv", ignore_errors=True)  # left by a killed command
    try:
        files = unpack_csv(archive, staging / "csv", dataset.md5)
    except DiskFullError:
        raise
    except DownloadError:
        archive.unlink()  # it would fail again; the next command downloads it
        raise
    folder.mkdir(parents=True, exist_ok=True)
    for split in missing:
        os.replace(files[split], folder / f"{split}.csv")
    sync_folder(folder)
    _write_marker(folder, dataset)
    shutil.rmtree(staging)


def _missing_splits(folder: Path, dataset: RawDataset) -> list[str]:
    """Returns the splits without a csv; verifies the others, and records that all are verified."""
    missing = [split for split in SPLITS if not (folder / f"{split}.csv").exists()]
    if not missing and _read_marker(folder) == _fingerprint(folder):
        return missing
    from fuxictr.datasets.archive import file_md5

    for split, expected in zip(SPLITS, dataset.md5, strict=True):
        path = folder / f"{split}.csv"
        if split not in missing and (found := file_md5(path)) != expected:
            raise DownloadError(
                f"{path}: md5 {found}, expected {expected}; it is not the published file: move it "
                "away and run the command again"
            )
    if not missing:
        _write_marker(folder, dataset)
    return missing


def _fingerprint(folder: Path) -> dict[str, list[int]]:
    stats = {split: (folder / f"{split}.csv").stat() for split in SPLITS}
    return {split: [found.st_size, found.st_mtime_ns] for split, found in stats.items()}


def _read_marker(folder: Path) -> dict[str, list[int]] | None:
    try:
        return json.loads((folder / _MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_marker(folder: Path, dataset: RawDataset) -> None:
    content = {"name": dataset.name, "md5": dataset.md5, "files": _fingerprint(folder)}
    write_atomically(folder / _MARKER, json.dumps(content, indent=2) + "\n")


def _staging(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.download")


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Holds the dataset's lock; a second command waits and finds the work of the first done."""

    def say() -> None:
        print(f"Another command is preparing {folder.name}: waiting for it.", flush=True)

    with file_lock(folder.with_name(f".{folder.name}.lock"), say):
        yield
