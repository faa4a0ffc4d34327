"""A row of results as text for a screen: the run, its outcome, environment, config and files."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr.experiment.results.config_record import DEFAULT, repeat_command
from fuxictr.experiment.results.record import RunRecord
from fuxictr.files import file_sha256
from fuxictr.text_tables import align_columns, align_pairs

NUM_EVALUATIONS = 12
_UNKNOWN = "not known"
_OLDER = "not known: the row is of an older version, which did not keep it"
_LENGTH_OF_ID = 8


def describe_run(row: RunRecord) -> str:
    """Returns the report on a run; what its row does not hold is shown as not known."""
    state = "finished" if row.is_finished else f"FAILED: {row.failed}"
    sections = {
        "Run": align_pairs(_run_pairs(row).items()),
        "Metrics": _metrics(row),
        "Environment": align_pairs(_environment_pairs(row).items()),
        "Config": _config(row),
        "Data": align_pairs(_data_pairs(row).items()),
        "Files": align_pairs(_file_pairs(row).items()),
        "To repeat it": [f"  {repeat_command(row) or _OLDER}"],
    }
    parts = [f"{row.expid}, seed {row.seed}: {state}"]
    parts += ["\n".join([title, *lines]) for title, lines in sections.items() if lines]
    return "\n\n".join(parts)


def list_runs(rows: Iterable[RunRecord]) -> str:
    """Returns a table of runs: run_id, time, expid, seed, seconds, and metrics or failure."""
    lines: list[tuple[str, ...]] = [("run", "time (UTC)", "expid", "seed", "seconds", "")]
    for row in rows:
        split = "test" if row.test else "valid"
        metrics = [f"{name} {_number(v)}" for name, v in (row.test or row.valid or {}).items()]
        text = " ".join([split, *metrics]) if metrics else "no metrics"
        if not row.is_finished:
            text = textwrap.shorten(f"FAILED: {row.failed}", 70, placeholder=" ...")
        seconds = "-" if row.seconds is None else row.seconds
        cells = ((row.run_id or "-")[:_LENGTH_OF_ID], _time(row), row.expid, row.seed, seconds)
        lines.append((*map(str, cells), text))
    return "\n".join(align_columns(lines))


def _run_pairs(row: RunRecord) -> dict[str, str]:
    known = {
        "model": f"{row.model or _UNKNOWN} ({row.variant})",
        "dataset": row.dataset_id,
        "run_id": row.run_id or _UNKNOWN,
        "time": f"{_time(row)} UTC",
        "took": _took(row),
        "config hash": row.config_hash or _UNKNOWN,
        "data hash": row.data_hash or _UNKNOWN,
        "code hash": row.code_hash or _UNKNOWN,
    }
    resumes = [", ".join(f"{k} {v}" for k, v in entry.items()) for entry in row.resumes or []]
    return {**known, "resumed": "; ".join(resumes)} if resumes else known


def _took(row: RunRecord) -> str:
    parts = []
    if row.seconds is not None:
        parts.append(f"{row.seconds:,} s")
    if row.train_seconds is not None:
        parts.append(f"training {row.train_seconds:,} s")
    if row.train_rows_per_second is not None:
        parts.append(f"{row.train_rows_per_second:,.0f} rows/s")
    if row.num_processes != 1:
        parts.append(f"{row.processes} processes")
    if row.jobs not in (None, 1):
        parts.append(f"{row.jobs} runs at a time on the device")
    return ", ".join(parts) or _UNKNOWN


def _metrics(row: RunRecord) -> list[str]:
    scores = {split: found for split, found in (("valid", row.valid), ("test", row.test)) if found}
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    lines = [("", *names)]
    for split, found in scores.items():
        lines.append((split, *(_number(found.get(name)) for name in names)))
    texts = align_columns(lines, indent=2) if scores else []
    kept = {
        "epochs": row.epochs,
        "parameters": _count(row.parameters) if row.parameters else None,
        "peak memory": _bytes(row.peak_memory_bytes),
        "peak GPU memory": _bytes(row.peak_gpu_bytes),
        "spectra": f"{len(row.collapse)} looks" if row.collapse else None,
    }
    pairs = [(name, _text(value)) for name, value in kept.items() if value is not None]
    blocks = [block for block in (texts, align_pairs(pairs), _history(row.history or [])) if block]
    return [line for i, block in enumerate(blocks) for line in ([""] * (i > 0) + block)]


def _history(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the evaluations as a table, without the middle of a long training."""
    if not history:
        return []
    flat = []
    for entry in history:
        metrics = entry.get("metrics")
        flat.append({**entry, **metrics} if isinstance(metrics, dict) else entry)
    names = [name for name in dict.fromkeys(n for e in flat for n in e) if name != "metrics"]
    lines = [tuple(_number(entry.get(name)) for name in names) for entry in flat]
    if len(lines) > NUM_EVALUATIONS:
        skipped = len(lines) - NUM_EVALUATIONS
        middle = (f"({skipped} more)", *[""] * (len(names) - 1))
        lines = [*lines[:2], middle, *lines[2 - NUM_EVALUATIONS :]]
    return align_columns([tuple(names), *lines], indent=2)


def _environment_pairs(row: RunRecord) -> dict[str, str]:
    code, device = row.code_version or _UNKNOWN, row.device or _UNKNOWN
    found = row.environment
    if found is None:
        threads = _UNKNOWN if row.threads is None else str(row.threads)
        versions = _words(row.versions or {})
        known = {"code": code, "device": device, "threads": threads}
        return {**known, "versions": versions, "others": _OLDER}
    git = found.get("git")
    return {
        "code": code,
        "git": "no repository, or none that git could read" if git is None else _git(git),
        "packages": _words(found["packages"]),
        "platform": _words(found["platform"]),
        "device": _device(device, found.get("device") or {}),
        "threads": _words(found["threads"]),
        "variables": " ".join(f"{k}={v}" for k, v in found["variables"].items())
        or "none is set of those that change numbers",
        "numerics": _words(found["numerics"]),
        "command": shlex.join(found["argv"]),
        "run in": found["cwd"],
    }


def _git(git: Mapping[str, Any]) -> str:
    parts = [f"commit {git.get('commit')}", f"branch {git.get('branch') or '(none)'}"]
    parts.append(f"dirty (diff {git.get('diff_sha256')})" if git.get("dirty") else "clean")
    return ", ".join(parts) + f", {git.get('untracked')} untracked files"


def _device(name: str, known: Mapping[str, Any]) -> str:
    details = {key: value for key, value in known.items() if key not in ("type", "name")}
    return ", ".join(filter(None, (name, _words(details))))


def _config(row: RunRecord) -> list[str]:
    record = row.config
    if record is None:
        return [f"  {_OLDER}"]
    lines = [f"  folder {record.folder or 'none'}"]
    given = {origin: keys for origin, keys in record.keys.items() if origin != DEFAULT}
    for is_default, title in ((False, "from"), (True, "as the default, from")):
        for origin, keys in given.items():
            shown = {k: _text(v) for k, v in keys.items() if (k in record.as_default) == is_default}
            lines += [f"  {title} {origin}", *align_pairs(shown.items(), 4)] if shown else []
    unset = {name: _text(value) for name, value in record.keys.get(DEFAULT, {}).items()}
    return lines + (["  default", *align_pairs(unset.items(), 4)] if unset else [])


def _data_pairs(row: RunRecord) -> dict[str, str]:
    counts = [f"{_count(count)} {split}" for split, count in (row.rows or {}).items()]
    pairs = {"rows": ", ".join(counts)} if counts else {}
    for split, name in (row.encoded or {}).items():
        pairs[f"encoded {split}"] = name if Path(name).exists() else f"{name} (gone)"
    return pairs


def _file_pairs(row: RunRecord) -> dict[str, str]:
    if not row.checkpoint:
        return {}
    path = Path(row.checkpoint)
    log = path.with_suffix(".log")
    pairs = {"checkpoint": str(path), "": _state(path, row.checkpoint_sha256)}
    return {**pairs, "log": f"{log}" if log.is_file() else f"{log} (gone)"}


def _state(path: Path, sha256: str | None) -> str:
    if not path.is_file():
        return "is gone"
    if sha256 is None:
        return "is there; whether it is what the run left is not known"
    found = file_sha256(path)
    if found == sha256:
        return f"is what the run left (sha256 {sha256})"
    return f"is NOT what the run left: sha256 {found}, it was {sha256}"


def _words(mapping: Mapping[str, Any]) -> str:
    parts = []
    for name, value in mapping.items():
        is_size = name.endswith("_bytes")
        shown = _bytes(value) if is_size else _text(value)
        parts.append(f"{name.removesuffix('_bytes').replace('_', ' ')} {shown}")
    return ", ".join(parts)


def _time(row: RunRecord) -> str:
    return (row.time or _UNKNOWN)[:19].replace("T", " ")


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else _text(value)


def _bytes(value: Any) -> str | None:
    return f"{value / 1e9:.2f} GB" if isinstance(value, (int, float)) else None


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"
    return "-" if value is None else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
