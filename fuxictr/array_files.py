"""Files of encoded rows, and of arrays by name: where they are, and how npz and h5 are opened."""

from __future__ import annotations

import glob
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.errors import DataError, did_you_mean

SUFFIXES = (".parquet", ".npz", ".h5")

# What numpy and h5py raise on a file that is damaged, or would need pickle.
DAMAGE = (
    *(OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# The names of a file's arrays, and what gives one of them: an array, or a dataset to be sliced.
Arrays = tuple[list[str], Callable[[str], Any]]


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


@contextmanager
def open_arrays(path: Path) -> Iterator[Arrays]:
    """Opens an npz or h5 file, known by its suffix; nothing is unpickled.

    Raises:
        DataError: it is damaged, of another kind, or what is read from it is no array of numbers or
            texts.
    """
    with (_open_npz if path.suffix == ".npz" else _open_h5)(path) as arrays:
        yield arrays


@contextmanager
def naming_damage(path: Path, name: str) -> Iterator[None]:
    """Turns what numpy and h5py raise while a column is read into a DataError."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, DataError):
            raise
        if "Object arrays" in str(error):
            text = "found an object array, allowed: numbers or texts of fixed width"
        else:
            text = f"not readable ({error}); write it again"
        raise DataError(f"{path}: column '{name}': {text}") from error


@contextmanager
def _open_npz(path: Path) -> Iterator[Arrays]:
    def read(name: str) -> np.ndarray:
        with naming_damage(path, name):
            return archive[name]

    with ExitStack() as stack:
        try:
            # numpy leaves a damaged file open that it opened itself.
            file = stack.enter_context(path.open("rb"))
            archive = np.load(file, allow_pickle=False)
        except DAMAGE as error:
            raise DataError(f"{path}: not readable as npz ({error}); write it again") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: found a single array, expected one a column (numpy.savez)")
        with archive:
            yield archive.files, read


@contextmanager
def _open_h5(path: Path) -> Iterator[Arrays]:
    import h5py

    def read(name: str) -> Any:
        found = "a group"
        with naming_damage(path, name):
            item = file[name]
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind != "O" or h5py.check_string_dtype(item.dtype) is not None:
                    return item
                found = "a dataset of objects"
        raise DataError(f"{path}: column '{name}': found {found}, expected a dataset of numbers")

    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            names = list(file)
        except DAMAGE as error:
            raise DataError(f"{path}: not readable as h5 ({error}); write it again") from error
        yield names, read
