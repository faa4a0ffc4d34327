"""Npz and h5 files as arrays by name; whatever is wrong with a file is one DataError."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fuxictr.array_files.damage import Arrays, naming_damage
from fuxictr.array_files.memory import require_memory


def open_arrays(path: Path) -> AbstractContextManager[Arrays]:
    """Opens an npz or h5 file, known by its suffix; nothing is unpickled.

    Raises DataError if it is damaged, of another kind, leads to another file, declares more than
    memory holds, or holds what is no array of numbers or texts.
    """
    if path.suffix == ".npz":
        from fuxictr.array_files.npz import open_npz

        return open_npz(path)
    from fuxictr.array_files.h5 import open_h5  # imports h5py

    return open_h5(path)


def read_whole(path: Path, name: str, found: Any) -> np.ndarray:
    """Returns all values of what ``open_arrays`` found; DataError where memory cannot hold them."""
    with naming_damage(path, name):
        if not isinstance(found, np.ndarray):  # a dataset of an h5, still on disk
            require_memory(found.nbytes, f"{path}: column '{name}'")
        values: np.ndarray = found[()]
    return values
