"""Where the files of an encoded split are."""

from __future__ import annotations

import glob
from pathlib import Path

from fuxictr.errors import DataError, did_you_mean

SUFFIXES = (".parquet", ".npz", ".h5")


def find_encoded(path: str | Path) -> list[Path]:
    """Returns the files of an encoded split, in the order of their rows.

    Args:
        path: a file; a folder of parquet parts, sorted by name; a glob; or a file's path without
            its suffix .parquet, .npz or .h5.

    Raises:
        DataError: there is no such file, or the files are none that can be read as one split.
    """
    path = Path(path).expanduser()
    named = [Path(f"{path}{suffix}") for suffix in SUFFIXES]
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    else:
        found = [p for p in named if p.is_file()][:1]
        found = found or sorted(Path(name) for name in glob.glob(str(path)))
    found = [p for p in found if p.is_file() and not p.name.startswith(".")]
    if not found:
        beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
        near = [name for p in beside for name in (p.name, p.stem)]
        inside = f", no {', '.join(SUFFIXES)} file is in it" if path.is_dir() else ""
        raise DataError(f"{path}: no such encoded data{inside}{did_you_mean(path.name, near)}")
    suffixes = sorted({p.suffix for p in found})
    if not set(suffixes) <= set(SUFFIXES):
        raise DataError(f"{path}: found {', '.join(suffixes)}, allowed: {', '.join(SUFFIXES)}")
    if len(found) > 1 and suffixes != [".parquet"]:
        raise DataError(
            f"{path}: found {len(found)} files ({', '.join(suffixes)}), allowed: one file, or "
            "parts that are all .parquet"
        )
    return found
