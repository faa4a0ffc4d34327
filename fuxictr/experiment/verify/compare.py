"""Compares two rows of results: code and environment, outcome, and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fuxictr.errors import CheckpointError
from fuxictr.experiment.results.environment import VARIABLES
from fuxictr.experiment.results.record import RunRecord
from fuxictr.files import file_sha256
from fuxictr.pytorch.checkpoint.weights import read_tensors

# The outcome of a run, except for times and memory.
_RESULTS = ("valid", "test", "epochs", "parameters", "rows", "history")
# Differences of these are shown, but explain no difference of a number.
HARMLESS = (
    "git.",
    "code_version",
    "packages.scikit-learn",  # in rows of earlier versions; nothing computes with it
    "platform.kernel",
    "platform.memory_bytes",
    "platform.cores",
    "platform.usable_cores",
)


@dataclass(frozen=True)
class Difference:
    """A value that differs in the repeat, by its path in the row, as ``test.AUC``.

    ``size`` is the absolute difference, None where it is not defined.
    """

    name: str
    before: Any
    now: Any
    size: float | None = None


def environment_differences(row: RunRecord, now: RunRecord) -> list[Difference]:
    """Returns the differences of a row from one of this process, where the row holds the value.

    They are in code, packages, machine, device, threads, flags and git.
    """
    before, after = _environment(row), _environment(now)
    names = [name for name in before if before[name] != after.get(name)]
    return [Difference(name, before[name], after.get(name)) for name in names]


def differences(row: RunRecord, repeat: RunRecord) -> list[Difference]:
    """Returns every metric, count and value of the history in which two rows differ.

    What the run's row does not hold, as one of an older version, is not compared.
    """
    keys = [key for key in _RESULTS if getattr(row, key) is not None]
    before, now = (flatten({key: getattr(r, key) for key in keys}) for r in (row, repeat))
    found = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if not _equal(old, new):
            found.append(Difference(name, old, new, _distance(old, new)))
    return found


def compare_weights(
    row: RunRecord, path: Path, is_exact: bool
) -> tuple[list[Difference], str | None]:
    """Returns the weights that differ in a repeat's checkpoint, and why they cannot be compared.

    The reason is None where they could. ``is_exact`` says whether equal weights make equal files,
    as they do with the same torch and device.
    """
    wanted, found = row.checkpoint_sha256, file_sha256(path)
    if wanted == found:
        return [], None
    left = Path(row.checkpoint or "")
    if wanted is None or not left.is_file() or file_sha256(left) != wanted:
        if is_exact:
            return [Difference("checkpoint_sha256", wanted, found)], None
        return [], f"{left} is gone or is not what the run left"
    try:
        before, now = read_tensors(left), read_tensors(path)
    except CheckpointError as error:
        return [], str(error)
    names = [n for n in dict.fromkeys([*before, *now]) if not _same_bits(before.get(n), now.get(n))]
    return [_weight_difference(name, before.get(name), now.get(name)) for name in names], None


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Returns the leaves of dicts and lists by path, as ``history.0.metrics.AUC``."""
    if not isinstance(value, (dict, list)):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{name}.{key}" if name else str(key))
    return flat


def _environment(row: RunRecord) -> dict[str, Any]:
    """Returns name -> value of what a run depends on, as far as its row holds it."""
    known = {
        name: getattr(row, name) for name in ("code_hash", "code_version", "device", "threads")
    }
    known["processes"] = row.num_processes
    record = row.environment
    if record is None:  # an older version
        return {**known, **flatten(row.versions or {}, "packages")}
    parts = {key: record.get(key) for key in ("packages", "platform", "numerics", "git")}
    parts["device"] = record.get("device") or {}
    parts["inter_op_threads"] = record["threads"].get("inter_op")
    parts["variables"] = {name: record["variables"].get(name) for name in VARIABLES}
    return {**known, **flatten(parts)}


def _equal(before: Any, now: Any) -> bool:
    both_nan = all(isinstance(value, float) and math.isnan(value) for value in (before, now))
    return both_nan or (before == now and isinstance(before, bool) == isinstance(now, bool))


def _distance(before: Any, now: Any) -> float | None:
    if all(isinstance(v, (int, float)) and math.isfinite(v) for v in (before, now)):
        return abs(before - now)
    return None


def _same_bits(before: torch.Tensor | None, now: torch.Tensor | None) -> bool:
    if before is None or now is None or (before.dtype, before.shape) != (now.dtype, now.shape):
        return False
    raw = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (before, now))
    return torch.equal(*raw)


def _weight_difference(
    name: str, before: torch.Tensor | None, now: torch.Tensor | None
) -> Difference:
    old, new = (None if t is None else f"{t.dtype} {tuple(t.shape)}" for t in (before, now))
    size = None
    if before is not None and now is not None and before.shape == now.shape and before.numel():
        size = float((before.double() - now.double()).abs().max())
    return Difference(f"weight {name}", old, new, size)
