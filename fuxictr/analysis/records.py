"""Recorded embeddings on disk, one HDF5 file per run, and the names that the analyses read.

Every model records these names under the path of the module that made them:

- ``feature_emb``: raw embeddings v (B, F, D).
- ``gen``: what the spectrum takes, z for GEN, v for DIS; one per layer of a cross network.
- ``left``, ``right``: the two sides that interact.
- ``final_representation``: what the last linear layer reads.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from fuxictr.errors import CheckpointError, did_you_mean
from fuxictr.files import atomic_path

T = TypeVar("T")
_AS_JSON = ("fields", "cardinalities")
# An upper bound of what an array, a module or an attribute takes in the file beside its values.
_BYTES_PER_NAME = 2048
# Recordings of older versions lack these.
_OPTIONAL = ("cardinalities", "train_seed", "code_hash", "data_hash", "config_hash", "folder")


@dataclass(frozen=True)
class RecordMeta:
    """What was recorded: the run, its checkpoint and the sample of rows.

    Attributes:
        seed: of the sample; ``train_seed`` is that of the training.
        embedding_dim: the width D of one field.
        sample_mode: the model's mode while recording (``eval``: no dropout).
        cardinalities: vocabulary size of each field, 0 for a numeric or unknown one.
        code_hash: the code that recorded; ``data_hash`` and ``config_hash`` are of the training.
        folder: of the config.

    The last six are empty or None in older files, and where they are not known.
    """

    model: str
    expid: str
    variant: str
    dataset_id: str
    split: str
    num_rows: int
    seed: int
    fields: tuple[str, ...]
    embedding_dim: int
    checkpoint_sha256: str
    sample_mode: str = "eval"
    cardinalities: tuple[int, ...] = ()
    train_seed: int | None = None
    code_hash: str | None = None
    data_hash: str | None = None
    config_hash: str | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        object.__setattr__(self, "cardinalities", tuple(self.cardinalities))
        if self.variant not in ("dis", "gen"):
            raise CheckpointError(f"variant '{self.variant}' of {self.expid}: allowed: dis, gen")
        if self.cardinalities and len(self.cardinalities) != len(self.fields):
            raise CheckpointError(
                f"{self.expid}: {len(self.cardinalities)} cardinalities do not fit "
                f"{len(self.fields)} fields"
            )


@dataclass(frozen=True)
class Records:
    """The arrays of one run, ``{"<module path>/<name>": (rows, ...)}``, and what they are."""

    arrays: Mapping[str, np.ndarray]
    meta: RecordMeta


def records_path(root: str | Path, dataset_id: str, expid: str) -> Path:
    """Returns ``<root>/figure/raw_data/<dataset_id>/<expid>/records.h5``."""
    return Path(root) / "figure" / "raw_data" / dataset_id / expid / "records.h5"


def save_records(path: str | Path, arrays: Mapping[str, np.ndarray], meta: RecordMeta) -> None:
    """Writes the arrays as float32 and the meta data as attributes, whole or not at all.

    Raises CheckpointError if there is nothing to write, DiskFullError if the disk is full.
    """
    if not arrays:
        raise CheckpointError(
            f"{meta.expid}: the model recorded nothing; let a module append to record_<name> lists "
            f"in forward while self.analyzing is true"
        )
    attributes = {
        name: json.dumps(value) if name in _AS_JSON else value
        for name, value in asdict(meta).items()
        if value is not None
    }
    num_bytes = _most_bytes(arrays, attributes)
    with atomic_path(path) as temporary, _ReservedFile(temporary, num_bytes) as reserved:
        with h5py.File(reserved, "w") as file:
            file.attrs.update(attributes)
            for key, array in arrays.items():
                file.create_dataset(key, data=np.asarray(array, dtype=np.float32))


def _most_bytes(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> int:
    """Returns an upper bound of the size of a recording's file."""
    num_values = sum(np.asarray(array).size for array in arrays.values())
    num_names = len(attributes) + sum(1 + key.count("/") for key in arrays)
    return 4 * num_values + len(json.dumps(attributes)) + _BYTES_PER_NAME * (num_names + 8)


class _ReservedFile(io.FileIO):
    """A new file of at most ``num_bytes``, reserved first, so that a full disk is an OSError.

    HDF5 aborts the process, or leaves it broken, if the disk is full at one of its own writes.
    """

    def __init__(self, path: Path, num_bytes: int) -> None:
        super().__init__(path, "r+")
        self._end = 0
        try:
            os.posix_fallocate(self.fileno(), 0, num_bytes)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # reserving is not supported
                self.close()
                raise

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves to a position; the end is that of what was written, not of what is reserved."""
        if whence == os.SEEK_END:
            return super().seek(self._end + offset)
        return super().seek(offset, whence)

    def write(self, data: Any, /) -> int:
        """Writes all of the bytes."""
        view = memoryview(data).cast("B")
        while view:
            view = view[super().write(view) :]
        self._end = max(self._end, self.tell())
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None, /) -> int:
        """Releases what is reserved behind the end."""
        self._end = super().truncate(size)
        return self._end


def load_records(path: str | Path, model: str = "<Model>", command: str | None = None) -> Records:
    """Opens the recording of a run; each array is read from disk on access.

    ``command`` is what messages tell to run, by default analyze.py of the ``model``. Raises
    CheckpointError if the file is missing, truncated or no recording.
    """
    path = Path(path)
    expid = path.parent.name
    command = command or f"python analyze.py --model {model} --expid {expid} --gpu -1"
    if not path.is_file():
        runs = path.parent.parent
        recorded = [run.name for run in runs.iterdir()] if runs.is_dir() else []
        raise CheckpointError(
            f"{path}: no recorded embeddings of '{expid}'{did_you_mean(expid, recorded)}; "
            f"to record them run: {command}"
        )
    arrays = _ArraysOnDisk(path, command)
    if not arrays:
        raise CheckpointError(f"{path}: holds no arrays; to record them again run: {command}")
    return Records(arrays, _read(path, command, _read_meta))


def interacting_embeddings(records: Records) -> np.ndarray:
    """Returns the embeddings whose spectrum is taken (rows, F * D); see ``stack_generated``."""
    return stack_generated(records.arrays, records.meta.expid)


def stack_generated(arrays: Mapping[str, np.ndarray], expid: str) -> np.ndarray:
    """Returns all arrays named ``gen``, layer by layer stacked along the rows, (rows, F * D).

    Raises CheckpointError if there is none, or their widths differ.
    """
    layers = interacting_layers(arrays, expid)
    widths = {layer.shape[1] for layer in layers.values()}
    if len(widths) > 1:
        raise CheckpointError(
            f"{expid}: the layers recorded as 'gen' differ in width "
            f"({sorted(widths)}), so they cannot be stacked: {', '.join(layers)}"
        )
    stacked = list(layers.values())
    return stacked[0] if len(stacked) == 1 else np.concatenate(stacked)


def interacting_layers(arrays: Mapping[str, np.ndarray], expid: str) -> dict[str, np.ndarray]:
    """Returns the arrays named ``gen``, key -> (rows, F * D), in order; CheckpointError if none."""
    return {key: _flatten(arrays[key]) for key in _keys_named(arrays, expid, "gen")}


def interacting_sides(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first ``left`` and the first ``right``, each (rows, F * D).

    Raises CheckpointError if one is missing, or their numbers of rows differ.
    """
    arrays, expid = records.arrays, records.meta.expid
    keys = [_keys_named(arrays, expid, name)[0] for name in ("left", "right")]
    left, right = (_flatten(arrays[key]) for key in keys)
    if len(left) != len(right):
        raise CheckpointError(
            f"{expid}: the interacting sides {keys[0]} and {keys[1]} have "
            f"{len(left)} and {len(right)} rows; both must come from the same rows"
        )
    return left, right


class _ArraysOnDisk(Mapping):
    """The datasets of an HDF5 file by key, each read on access."""

    def __init__(self, path: Path, command: str) -> None:
        self._path, self._command = path, command
        self._keys = _read(path, command, _dataset_keys)

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._keys:
            raise KeyError(key)
        return _read(self._path, self._command, lambda file: file[key][()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _read(path: Path, command: str, reader: Callable[[h5py.File], T]) -> T:
    try:
        with h5py.File(path, "r") as file:
            return reader(file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a recording, it is damaged or comes from elsewhere "
            f"({str(error).splitlines()[0]}); to record it again run: {command}"
        ) from error


def _read_meta(file: h5py.File) -> RecordMeta:
    required = [field.name for field in fields(RecordMeta) if field.name not in _OPTIONAL]
    missing = [name for name in required if name not in file.attrs]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    values = {}
    for name in [*required, *(name for name in _OPTIONAL if name in file.attrs)]:
        value = file.attrs[name]
        value = value.item() if isinstance(value, np.generic) else value
        values[name] = json.loads(value) if name in _AS_JSON else value
    return RecordMeta(**values)


def _dataset_keys(file: h5py.File) -> list[str]:
    keys: list[str] = []
    file.visititems(lambda key, item: keys.append(key) if isinstance(item, h5py.Dataset) else None)
    return sorted(keys, key=_natural)


def _keys_named(arrays: Mapping[str, np.ndarray], expid: str, name: str) -> list[str]:
    """Returns the keys of the arrays called ``name``, layer 2 before layer 10."""
    keys = [key for key in arrays if key.rpartition("/")[2] == name]
    if not keys:
        raise CheckpointError(
            f"{expid}: no module recorded '{name}'; recorded: "
            f"{', '.join(sorted(arrays, key=_natural)) or 'nothing'}"
        )
    return sorted(keys, key=_natural)


def _natural(key: str) -> list[tuple[bool, int, str]]:
    """Sort key that takes runs of digits as numbers."""
    parts = re.split(r"(\d+)", key)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _flatten(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)
