"""H5 files: datasets by name, each first read by another process.

On a damaged file, the C library may crash or never return; the training process must not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py

from fuxictr.array_files.damage import DAMAGE, Arrays, brief, naming_damage
from fuxictr.array_files.h5_probe import PROBE
from fuxictr.array_files.memory import require_memory
from fuxictr.errors import DataError

# A file that declares so many bytes for one that it stores is a trap; compression does not get far.
_MOST_PER_STORED_BYTE = 10_000


@contextmanager
def open_h5(path: Path) -> Iterator[Arrays]:
    """Opens an h5 file; see ``open_arrays``."""

    def read(name: str) -> Any:
        with naming_damage(path, name):
            PROBE.check(path, name)
            return find_dataset(file, path, name)

    with ExitStack() as stack:
        try:
            PROBE.check(path)
            file = stack.enter_context(h5py.File(path, "r"))
            # A name that is not UTF-8 comes as bytes; no column has such a name.
            names = [n if isinstance(n, str) else n.decode(errors="backslashreplace") for n in file]
        except DAMAGE as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}: not readable as h5 ({brief(error)}); write it again"
            ) from error
        yield names, read


def find_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """Returns a dataset of numbers or texts in this file; DataError where it is something else."""
    found = "a link" if not isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    item = None if found else file[name]
    if isinstance(item, h5py.Dataset):
        if item.is_virtual or item.external:
            found = "a dataset whose values lie in other files"
        elif item.dtype.kind == "O" and h5py.check_string_dtype(item.dtype) is None:
            found = "a dataset of objects"
        elif item.shape is None:
            found = "a dataset without values"
        else:
            _check_size(item, f"{path}: column '{name}'")
            return item
    raise DataError(
        f"{path}: column '{name}': found {found or 'a group'}, expected a dataset of numbers"
    )


def _check_size(item: h5py.Dataset, where: str) -> None:
    stored = item.id.get_storage_size()
    if item.nbytes > _MOST_PER_STORED_BYTE * stored:
        raise DataError(
            f"{where}: declares {item.nbytes:,} bytes in shape {item.shape}, but {stored:,} are "
            "stored; write it again"
        )
    if item.chunks:
        require_memory(math.prod(item.chunks) * item.dtype.itemsize, f"{where}: a chunk")
