"""Weights on disk: written atomically, checked when read, and never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fuxictr.errors import CheckpointError
from fuxictr.files import atomic_path, write_atomically
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.layers.embeddings.fuxictr_weights import rename_fuxictr_weights


def save_weights(
    weights: dict[str, torch.Tensor], path: str | Path, note: Mapping[str, Any] | None = None
) -> None:
    """Writes a model's state_dict atomically, and what is known of it to ``<path>.json``.

    The ``note`` is what is known, such as ``encoders_hash`` of the data; None: nothing.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        _write(weights, temporary)
        note_path(path).unlink(missing_ok=True)  # a run killed here leaves weights without a note
    if note:
        content = {**note, "weights": _weights_digest(path)}
        write_atomically(note_path(path), json.dumps(content, indent=1, default=str) + "\n")


def read_note(path: str | Path) -> dict[str, Any]:
    """Returns the note beside weights, or {}; CheckpointError if damaged or of other weights."""
    path = Path(path)
    note = note_path(path)
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"found {type(content).__name__}, expected an object")
        of_weights, known = content.get("weights"), content.get("encoders_hash", "")
        if not isinstance(known, str):
            raise TypeError(f"encoders_hash {known!r:.100}")
        if of_weights is not None and path.is_file() and of_weights != _weights_digest(path):
            raise CheckpointError(
                f"{note}: is the note of other weights than those in {path}; copy a checkpoint "
                "together with its .json, or remove the note where nothing is known of the weights"
            )
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{note}: not readable ({error})") from error
    return content


def write_tensors(content: dict[str, Any], path: str | Path) -> None:
    """Writes tensors, numbers and texts, in dicts and lists, atomically and reproducibly."""
    with atomic_path(path) as temporary:
        _write(content, temporary)


def read_tensors(path: str | Path, mapped: bool = False) -> Any:
    """Returns what ``write_tensors`` wrote, on the CPU.

    It checks every byte against the checksums of torch.save, makes only tensors and plain values,
    and reads no more than the file's length. ``mapped`` maps tensors into memory, so that processes
    of one machine share their pages; changes to them do not reach the file.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train the model first")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path.stat().st_size)
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # whatever torch raises on foreign bytes, the file is no checkpoint
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({first_line:.300})") from error


def load_weights(model: nn.Module, path: str | Path, encoders_hash: str = "") -> None:
    """Loads weights that ``save_weights`` wrote into a model of the same config.

    Those of FuxiCTR's embedding layers are read as well, see rename_fuxictr_weights.

    ``encoders_hash`` is that of the data that the model will read; empty: unknown.

    Raises:
        CheckpointError: the file is missing or unreadable, its data were encoded in another way, or
            a weight is missing, unexpected or of another shape; names the first few.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train the model first")
    known = read_note(path).get("encoders_hash", "")
    if known and encoders_hash and known != encoders_hash:
        raise CheckpointError(
            f"{path}: was trained on data that were encoded in another way (encoders {known}, now "
            f"{encoders_hash}); train again"
        )
    state = read_tensors(path)
    if _holds_weights(state):
        for name, module in model.named_modules():
            if isinstance(module, FieldBlocks):
                rename_fuxictr_weights(module, state, f"{name}." if name else "")
    problems = _mismatches(model.state_dict(), state)
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" * (len(problems) > 3))
        raise CheckpointError(
            f"{path} does not fit the model {type(model).__name__}: {shown}; "
            "train again, or use the config and data that it was trained with"
        )
    model.load_state_dict(dict(state))  # a plain dict, without torch's _metadata


def _write(content: Any, path: Path) -> None:
    with open(path, "wb") as file:  # given a path, torch.save would write its name into the file
        torch.save(content, file)


_IS_FOLDER = 0x10  # the attribute of a folder, by which torch's reader tells one


def _check_archive(archive: zipfile.ZipFile, num_bytes: int) -> None:
    """Raises ValueError for what torch.save never writes and torch.load does not check."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its members are compressed, which torch.save does not do")
    if any(member.external_attr & _IS_FOLDER or member.is_dir() for member in members):
        raise ValueError("it has folders, which torch would read as weights without numbers")
    if sum(member.file_size for member in members) > num_bytes:
        raise ValueError("it declares more bytes than it has")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its members have one name")
    damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")


def note_path(path: Path) -> Path:
    """Returns the file of the note beside a checkpoint."""
    return path.with_name(path.name + ".json")


def _weights_digest(path: Path) -> str:
    """Returns 16 hex digits over the file's size and torch.save's checksums, not the weights."""
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            digest.update(f"{member.filename} {member.CRC} {member.file_size}\n".encode())
    return digest.hexdigest()[:16]


def _holds_weights(state: object) -> bool:
    """Returns whether a file holds tensors by name, as any checkpoint of weights does."""
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )


def _mismatches(expected: dict[str, torch.Tensor], found: object) -> list[str]:
    if not isinstance(found, dict):
        return [f"expected a mapping of weights, found {type(found).__name__}"]
    problems = [f"weight '{name}' is missing" for name in expected if name not in found]
    problems += [f"unexpected weight '{name}'" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        kinds = [_kind(tensor) for tensor in (found[name], expected[name])]
        if kinds[0] != kinds[1]:
            problems.append(f"weight '{name}' has {kinds[0]}, the model has {kinds[1]}")
    return problems


def _kind(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return f"type {type(value).__name__}"
    if value.is_meta:
        return "no data"
    dtype, layout = (str(kind).removeprefix("torch.") for kind in (value.dtype, value.layout))
    return f"shape {tuple(value.shape)} of {dtype}" + f" ({layout})" * (layout != "strided")
