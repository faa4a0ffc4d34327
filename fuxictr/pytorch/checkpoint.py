"""Weights on disk: whole or not at all, and never unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from fuxictr.errors import CheckpointError
from fuxictr.files import atomic_path, write_atomically


def save_weights(model: nn.Module, path: str | Path, encoders_hash: str = "") -> None:
    """Writes the model's state_dict, whole or not at all.

    Args:
        model: the model.
        path: the file.
        encoders_hash: of the data it is trained on, written to ``<path>.json``; empty = unknown.
    """
    note = _note_path(Path(path))
    with atomic_path(path) as temporary:
        torch.save(model.state_dict(), temporary)
        note.unlink(missing_ok=True)  # cut off here, the weights are of unknown encoders
    if encoders_hash:
        write_atomically(note, json.dumps({"encoders_hash": encoders_hash}) + "\n")


def load_weights(model: nn.Module, path: str | Path, encoders_hash: str = "") -> None:
    """Loads weights that ``save_weights`` wrote into a model of the same config.

    Args:
        model: the model.
        path: the file.
        encoders_hash: of the data that it is to read now; empty = unknown.

    Raises:
        CheckpointError: the file is missing or unreadable, the weights belong to data that were
            encoded in another way, or a weight is missing, unexpected or of another shape; names
            the first few.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train the model first")
    known = _known_encoders(path)
    if known and encoders_hash and known != encoders_hash:
        raise CheckpointError(
            f"{path}: was trained on data that were encoded in another way (encoders {known}, now "
            f"{encoders_hash}); train again"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises on foreign bytes, the file is no checkpoint
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({first_line})") from error
    problems = _mismatches(model.state_dict(), state)
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" * (len(problems) > 3))
        raise CheckpointError(
            f"{path} does not fit the model {type(model).__name__}: {shown}; "
            "train again, or use the config and data that it was trained with"
        )
    model.load_state_dict(state)


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _known_encoders(path: Path) -> str:
    try:
        content = json.loads(_note_path(path).read_text(encoding="utf-8"))
        return str(content.get("encoders_hash", ""))
    except FileNotFoundError:
        return ""
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{_note_path(path)}: not readable ({error})") from error


def _mismatches(expected: dict[str, torch.Tensor], found: object) -> list[str]:
    if not isinstance(found, dict):
        return [f"expected a mapping of weights, found {type(found).__name__}"]
    problems = [f"weight '{name}' is missing" for name in expected if name not in found]
    problems += [f"unexpected weight '{name}'" for name in found if name not in expected]
    for name, tensor in expected.items():
        other = found.get(name)
        if isinstance(other, torch.Tensor) and other.shape != tensor.shape:
            shapes = f"{tuple(other.shape)}, the model has {tuple(tensor.shape)}"
            problems.append(f"weight '{name}' has shape {shapes}")
    return problems
