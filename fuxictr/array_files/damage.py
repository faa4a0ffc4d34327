"""What damaged files raise, and how that is said."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuxictr.errors import DataError

# What numpy, zipfile and h5py raise on a file that is damaged, or would need pickle.
DAMAGE = (
    *(OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, OverflowError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# The names of a file's arrays, and what gives one of them: an array, or a dataset to be sliced.
Arrays = tuple[list[str], Callable[[str], Any]]


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
