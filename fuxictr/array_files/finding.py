"""Where the files of an encoded split are."""

from __future__ import annotations

from pathlib import Path

from fuxictr.array_files.searching import has_wildcards, search, what_is_there
from fuxictr.errors import DataError, did_you_mean

SUFFIXES = (".parquet", ".npz", ".h5")


def find_encoded(path: str | Path) -> list[Path]:
    """Returns the files of an encoded split, in the order of their rows, or raises DataError.

    ``path`` is what ``search`` takes, or a file's path without its suffix .parquet, .npz or .h5.
    """
    path = Path(path).expanduser().absolute()
    named = [Path(f"{path}{suffix}") for suffix in SUFFIXES]
    found = [] if path.exists() else [p for p in named if p.is_file()][:1]
    found = found or search(path, SUFFIXES).files
    if not found:
        beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
        near = [name for p in beside for name in (p.name, p.stem) if name != path.name]
        hint = did_you_mean(path.name, near)
        if path.is_dir() or has_wildcards(path):
            inside = f", no {', '.join(SUFFIXES)} file is in it" if path.is_dir() else ""
            hint = f"{inside}; {what_is_there(path)}"
        raise DataError(f"{path}: no such encoded data{hint}")
    suffixes = sorted({p.suffix for p in found})
    if not set(suffixes) <= set(SUFFIXES):
        raise DataError(f"{path}: found {', '.join(suffixes)}, allowed: {', '.join(SUFFIXES)}")
    if len(found) > 1 and suffixes != [".parquet"]:
        raise DataError(
            f"{path}: found {len(found)} files ({', '.join(suffixes)}), allowed: one file, or "
            "parts that are all .parquet"
        )
    return found
