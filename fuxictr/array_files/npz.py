"""Npz files: a zip archive of one array a column, each checked before memory is taken for it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from fuxictr.array_files.damage import DAMAGE, Arrays, brief, naming_damage
from fuxictr.array_files.memory import require_memory
from fuxictr.errors import DataError

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextmanager
def open_npz(path: Path) -> Iterator[Arrays]:
    """Opens an npz file; see ``open_arrays``."""

    def read(name: str) -> np.ndarray:
        with naming_damage(path, name):
            return _read(archive, members[name], f"{path}: column '{name}'")

    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except DAMAGE as error:
            text = f"not readable as npz ({brief(error)}); write it again"
            with suppress(*DAMAGE):
                np.lib.format.open_memmap(path, mode="r")
                text = "found a single array, expected one a column (numpy.savez)"
            raise DataError(f"{path}: {text}") from error
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        members = dict(zip(names, archive.infolist(), strict=True))
        yield names, read


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    with archive.open(member) as file:
        read_header = _HEADERS.get(np.lib.format.read_magic(file))
        if read_header is None:
            raise ValueError("an array of named fields, or of another version of numpy")
        shape, _, dtype = read_header(file)
        declared = member.file_size - file.tell()
    if dtype.hasobject:
        raise ValueError("Object arrays are not read")
    if dtype.fields is not None or not dtype.itemsize:
        raise ValueError(f"values of type {dtype}, allowed: numbers or texts")
    # numpy would take memory for the shape before it reads a byte.
    if math.prod(shape) * dtype.itemsize != declared:
        raise ValueError(f"{declared} bytes of data, but its shape is {shape} of {dtype}")
    require_memory(declared, where)
    with archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
