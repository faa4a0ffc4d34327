"""Npz and h5 files as arrays by name; whatever is wrong with a file is one DataError."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.array_files.memory import require_memory
from fuxictr.errors import DataError

# What numpy, zipfile and h5py raise on a file that is damaged, or would need pickle.
DAMAGE = (
    *(OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, OverflowError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# The names of a file's arrays, and what gives one of them: an array, or a dataset to be sliced.
Arrays = tuple[list[str], Callable[[str], Any]]


def open_arrays(path: Path) -> AbstractContextManager[Arrays]:
    """Opens an npz or h5 file, known by its suffix; nothing is unpickled.

    Raises:
        DataError: it is damaged, of another kind, or what is read from it is no array of numbers or
            texts, leads to another file, or declares more than memory holds.
    """
    if path.suffix == ".npz":
        from fuxictr.array_files.npz import open_npz

        return open_npz(path)
    from fuxictr.array_files.h5 import open_h5  # imports h5py

    return open_h5(path)


def brief(error: BaseException) -> str:
    """Returns what a library says of an error, on one line and not longer than a message may be."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


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
            text = f"not readable ({brief(error)}); write it again"
        raise DataError(f"{path}: column '{name}': {text}") from error


def read_whole(path: Path, name: str, found: Any) -> np.ndarray:
    """Returns all values of what ``open_arrays`` found under a name.

    Raises:
        DataError: they are not readable, or more than memory holds.
    """
    with naming_damage(path, name):
        if not isinstance(found, np.ndarray):  # a dataset of an h5, still on disk
            require_memory(found.nbytes, f"{path}: column '{name}'")
        values: np.ndarray = found[()]
    return values
