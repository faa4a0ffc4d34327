"""A row of results as text for a screen: what was run, in what, on what, and what came of it."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr.experiment.results.config_record import DEFAULT, repeat_command
from fuxictr.experiment.results.store import is_finished
from fuxictr.files import file_sha256

WIDTH = 120
NUM_EVALUATIONS = 12
_OLDER = "not known: the row is of an older version, which did not keep it"
_LENGTH_OF_ID = 8


def describe_run(row: dict[str, Any]) -> str:
    """Returns the report on a run; what its row does not hold is said to be unknown."""
    state = "finished" if is_finished(row) else f"FAILED: {row['failed']}"
    sections = {
        "Run": aligned(_run_pairs(row).items()),
        "Metrics": _metrics(row),
        "Environment": aligned(_environment_pairs(row).items()),
        "Config": _config(row),
        "Data": aligned(_data_pairs(row).items()),
        "Files": aligned(_file_pairs(row).items()),
        "To repeat it": [f"  {repeat_command(row) or _OLDER}"],
    }
    parts = [f"{row.get('expid')}, seed {row.get('seed')}: {state}"]
    parts += ["\n".join([title, *lines]) for title, lines in sections.items() if lines]
    return "\n\n".join(parts)


def list_runs(rows: Iterable[dict[str, Any]]) -> str:
    """Returns a table of runs: run_id, time, expid, seed, seconds, and metrics or failure."""
    lines: list[tuple[str, ...]] = [("run", "time (UTC)", "expid", "seed", "seconds", "")]
    for row in rows:
        split = "test" if row.get("test") else "valid"
        metrics = [f"{name} {_number(v)}" for name, v in (row.get(split) or {}).items()]
        text = " ".join([split, *metrics]) if metrics else "no metrics"
        if not is_finished(row):
            text = textwrap.shorten(f"FAILED: {row['failed']}", 70, placeholder=" ...")
        run_id = str(row.get("run_id") or "-")[:_LENGTH_OF_ID]
        cells = (run_id, _time(row), row.get("expid"), row.get("seed"), row.get("seconds", "-"))
        lines.append((*map(str, cells), text))
    return "\n".join(columns(lines))


def aligned(pairs: Iterable[tuple[str, str]], indent: int = 2) -> list[str]:
    """Returns a line a pair, the texts below each other, long ones wrapped."""
    pairs = list(pairs)
    start = indent + max((len(name) for name, _ in pairs), default=0) + 2
    lines = []
    for name, text in pairs:
        first = f"{'':{indent}}{name}".ljust(start)
        options = {"break_long_words": False, "break_on_hyphens": False}
        wrapped = textwrap.wrap(text, max(WIDTH - start, 40), **options)  # type: ignore[arg-type]
        lines += [f"{first if i == 0 else ' ' * start}{line}" for i, line in enumerate(wrapped)]
        lines += [] if wrapped else [first.rstrip()]
    return lines


def columns(lines: Sequence[Sequence[str]], indent: int = 0) -> list[str]:
    """Returns lines of cells as texts, the cells below each other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return [f"{'':{indent}}{line}".rstrip() for line in padded]


def _run_pairs(row: dict[str, Any]) -> dict[str, str]:
    known = {
        "model": f"{row.get('model', 'not known')} ({row.get('variant')})",
        "dataset": str(row.get("dataset_id")),
        "run_id": str(row.get("run_id", "not known")),
        "time": f"{_time(row)} UTC",
        "took": _took(row),
        "config hash": row.get("config_hash") or "not known",
        "data hash": row.get("data_hash") or "not known",
        "code hash": row.get("code_hash") or "not known",
    }
    for entry in row.get("resumes") or []:
        at = ", ".join(f"{name} {value}" for name, value in entry.items())
        known["resumed"] = f"{known['resumed']}; {at}" if "resumed" in known else at
    return known


def _took(row: dict[str, Any]) -> str:
    parts = []
    if row.get("seconds") is not None:
        parts.append(f"{row['seconds']:,} s")
    if row.get("train_seconds") is not None:
        parts.append(f"training {row['train_seconds']:,} s")
    if row.get("train_rows_per_second") is not None:
        parts.append(f"{row['train_rows_per_second']:,.0f} rows/s")
    if row.get("processes", 1) != 1:
        parts.append(f"{row['processes']} processes")
    if row.get("jobs", 1) != 1:
        parts.append(f"{row['jobs']} runs at a time on the device")
    return ", ".join(parts) or "not known"


def _metrics(row: dict[str, Any]) -> list[str]:
    scores = {split: row[split] for split in ("valid", "test") if row.get(split)}
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    lines = [("", *names)]
    for split, found in scores.items():
        lines.append((split, *(_number(found.get(name)) for name in names)))
    texts = columns(lines, 2) if scores else []
    kept = {
        "epochs": row.get("epochs"),
        "parameters": _count(row["parameters"]) if row.get("parameters") else None,
        "peak memory": _bytes(row.get("peak_memory_bytes")),
        "peak GPU memory": _bytes(row.get("peak_gpu_bytes")),
        "spectra": f"{len(row['collapse'])} looks" if row.get("collapse") else None,
    }
    pairs = [(name, _text(value)) for name, value in kept.items() if value is not None]
    history = _history(row.get("history") or [])
    blocks = [block for block in (texts, aligned(pairs), history) if block]
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
    return columns([tuple(names), *lines], 2)


def _environment_pairs(row: dict[str, Any]) -> dict[str, str]:
    found = row.get("environment")
    known = {
        "code": str(row.get("code_version", "not known")),
        "device": str(row.get("device", "not known")),
        "threads": str(row.get("threads", "not known")),
    }
    if found is None:
        return {**known, "versions": _words(row.get("versions") or {}), "others": _OLDER}
    git = found.get("git")
    return {
        "code": known["code"],
        "git": "no repository, or none that git could read" if git is None else _git(git),
        "packages": _words(found["packages"]),
        "platform": _words(found["platform"]),
        "device": _device(known["device"], found.get("device") or {}),
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


def _config(row: dict[str, Any]) -> list[str]:
    record = row.get("config")
    if not record:
        return [f"  {_OLDER}"]
    as_default, lines = set(record["as_default"]), [f"  folder {record.get('folder') or 'none'}"]
    given = {origin: keys for origin, keys in record["keys"].items() if origin != DEFAULT}
    for is_default, title in ((False, "from"), (True, "as the default, from")):
        for origin, keys in given.items():
            shown = {k: _text(v) for k, v in keys.items() if (k in as_default) == is_default}
            lines += [f"  {title} {origin}", *aligned(shown.items(), 4)] if shown else []
    unset = {name: _text(value) for name, value in record["keys"].get(DEFAULT, {}).items()}
    return lines + (["  default", *aligned(unset.items(), 4)] if unset else [])


def _data_pairs(row: dict[str, Any]) -> dict[str, str]:
    counts = [f"{_count(count)} {split}" for split, count in (row.get("rows") or {}).items()]
    pairs = {"rows": ", ".join(counts)} if counts else {}
    for split, name in (row.get("encoded") or {}).items():
        pairs[f"encoded {split}"] = name if Path(name).exists() else f"{name} (gone)"
    return pairs


def _file_pairs(row: dict[str, Any]) -> dict[str, str]:
    if not row.get("checkpoint"):
        return {}
    path, sha256 = Path(row["checkpoint"]), row.get("checkpoint_sha256")
    log = path.with_suffix(".log")
    pairs = {"checkpoint": str(path), "": _state(path, sha256)}
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


def _time(row: dict[str, Any]) -> str:
    return str(row.get("time", "not known"))[:19].replace("T", " ")


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
