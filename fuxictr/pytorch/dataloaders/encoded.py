"""Files of encoded rows: where they are, of which format, and how they come into memory."""

from __future__ import annotations

import glob
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.columnar import (
    ColumnarData,
    check_columns,
    check_group_column,
    check_groups_present,
    collect_columns,
    make_layout,
)
from fuxictr.pytorch.dataloaders.parquet import ParquetRows

SUFFIXES = (".parquet", ".npz", ".h5")

# What numpy and h5py raise on a file that is damaged, or would need pickle.
_DAMAGE = (
    *(OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


def find_encoded(path: str | Path) -> list[Path]:
    """Returns the files of a split, in the order of their rows.

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


def read_encoded(
    path: str | Path, feature_map: FeatureMap, group_id: str | None = None, labels: bool = True
) -> ColumnarData:
    """Reads encoded rows into memory, which holds a slice or a column beside them while it reads.

    A parquet file has one row a row; a sequence or vector is a list. An .npz has one array a
    column, an .h5 one dataset; a sequence or vector is 2-D, with the rows along the first axis.

    Args:
        path: what ``find_encoded`` takes.
        feature_map: the fields and labels to read; other columns are left out.
        group_id: column whose equal values make groups; null = none.
        labels: whether the rows have labels.

    Raises:
        ConfigError: the column ``group_id`` is missing.
        DataError: a file or column is missing or not readable, a cell is missing, of another type
            or shape, an id is outside its vocabulary, or a value is not finite; names file, column
            and row.
    """
    files = find_encoded(path)
    if files[0].suffix == ".parquet":
        return ParquetRows(files, feature_map, group_id, labels).load()
    open_file = _open_npz if files[0].suffix == ".npz" else _open_h5
    return _read_arrays(files[0], open_file, feature_map, group_id, labels)


def read_parquet(path: str | Path, feature_map: FeatureMap) -> ColumnarData:
    """Reads an encoded parquet file, or a folder of part files, into memory.

    Raises:
        DataError: as ``read_encoded``.
    """
    return open_parquet(path, feature_map).load()


def open_parquet(
    path: str | Path, feature_map: FeatureMap, group_id: str | None = None, labels: bool = True
) -> ParquetRows:
    """Returns the rows of encoded parquet files, which stay on disk; takes what read_encoded takes.

    Raises:
        ConfigError: the files are no parquet, or the column ``group_id`` is missing.
        DataError: as ``ParquetRows``.
    """
    files = find_encoded(path)
    if files[0].suffix != ".parquet":
        raise ConfigError(
            f"{files[0]}: only parquet is streamed; key 'streaming': found true, set false"
        )
    return ParquetRows(files, feature_map, group_id, labels)


# The names of a file's columns, and what reads one of them.
_Columns = tuple[list[str], Callable[[str], np.ndarray]]


def _read_arrays(
    path: Path,
    open_file: Callable[[Path], AbstractContextManager[_Columns]],
    feature_map: FeatureMap,
    group_id: str | None,
    labels: bool,
) -> ColumnarData:
    layout = make_layout(feature_map, labels)
    with open_file(path) as (names, read):
        check_columns(names, layout.positions, str(path))
        check_group_column(names, group_id, str(path))
        pairs = ((name, read(name)) for name in layout.positions)
        data = collect_columns(pairs, layout, feature_map, str(path))
        if group_id is None:
            return data
        where = f"{path}: column '{group_id}' (key 'group_id')"
        return replace(data, group_ids=_group_codes(read(group_id), data.num_rows, where))


@contextmanager
def _open_npz(path: Path) -> Iterator[_Columns]:
    def read(name: str) -> np.ndarray:
        try:
            return archive[name]
        except _DAMAGE as error:
            if "Object arrays" in str(error):
                text = "found an object array, expected numbers; it would have to be unpickled"
            else:
                text = f"not readable ({error}); write it again"
            raise DataError(f"{path}: column '{name}': {text}") from error

    with ExitStack() as stack:
        try:
            # numpy leaves a damaged file open that it opened itself.
            file = stack.enter_context(path.open("rb"))
            archive = np.load(file, allow_pickle=False)
        except _DAMAGE as error:
            raise DataError(f"{path}: not readable as npz ({error}); write it again") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: found a single array, expected one a column (numpy.savez)")
        with archive:
            yield archive.files, read


@contextmanager
def _open_h5(path: Path) -> Iterator[_Columns]:
    import h5py

    def read(name: str) -> np.ndarray:
        where = f"{path}: column '{name}'"
        found = "a group"
        try:
            item = file[name]
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind != "O" or h5py.check_string_dtype(item.dtype) is not None:
                    return item[()]
                found = "a dataset of objects"
        except _DAMAGE as error:
            raise DataError(f"{where}: not readable ({error}); write it again") from error
        raise DataError(f"{where}: found {found}, expected a dataset of numbers")

    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
            names = list(file)
        except _DAMAGE as error:
            raise DataError(f"{path}: not readable as h5 ({error}); write it again") from error
        yield names, read


def _group_codes(column: np.ndarray, num_rows: int, where: str) -> np.ndarray:
    if column.shape != (num_rows,):
        raise DataError(f"{where}: found shape {column.shape}, expected ({num_rows},)")
    check_groups_present(column, where)
    return np.unique(column, return_inverse=True)[1].astype(np.int64)
