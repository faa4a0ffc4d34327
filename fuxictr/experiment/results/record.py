"""A row of results as a type: the one place that knows, checks, reads and writes its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

_NUMBER = (int, float)
_METRICS = {"*": (int, float, NoneType)}
# The keys of a row in the order in which they are written -> the type of the value. A tuple allows
# several types, [type] is a list of it, {key: type} an object with at least these keys, {"*": type}
# one with any keys.
_FORMAT: dict[str, Any] = {
    **dict.fromkeys(("time", "model", "variant"), str),
    "seed": int,
    **dict.fromkeys(("expid", "dataset_id", "config_hash", "data_hash", "code_hash"), str),
    "config": {
        "folder": (str, NoneType),
        "zoo": str,
        "overrides": [str],
        "keys": {"*": dict},
        "as_default": [str],
    },
    "code_version": str,
    "environment": {
        **dict.fromkeys(("packages", "platform", "threads", "variables", "numerics"), dict),
        **{"git": (dict, NoneType), "device": (dict, NoneType), "argv": [str], "cwd": str},
    },
    "encoded": {"*": str},
    "run_id": str,
    "failed": str,
    "command": str,
    "jobs": int,
    "resumes": [dict],
    "processes": int,
    "device": str,
    "valid": _METRICS,
    "test": _METRICS,
    "parameters": int,
    "epochs": int,
    "rows": _METRICS,
    "history": [{"epoch": _NUMBER}],
    "collapse": [{"epoch": _NUMBER}],
    "train_rows_per_second": _NUMBER,
    "train_seconds": _NUMBER,
    "peak_memory_bytes": int,
    "peak_gpu_bytes": int,
    "threads": int,
    "hooks": [str],
    "versions": dict,
    "seconds": _NUMBER,
    "checkpoint": str,
    "checkpoint_sha256": str,
}


@dataclass(frozen=True)
class ConfigRecord:
    """What a row of results keeps of a config.

    Attributes:
        folder: the config folder; None where the config was not read from one.
        zoo: the model folder.
        overrides: ``key=value`` texts, as --set takes them.
        keys: origin -> key -> value.
        as_default: the keys that were given and have the value that they have anyway.
    """

    folder: str | None
    zoo: str
    overrides: list[str]
    keys: dict[str, dict[str, Any]]
    as_default: list[str]

    def values(self) -> dict[str, Any]:
        """Returns key -> value."""
        return {name: value for keys in self.keys.values() for name, value in keys.items()}


@dataclass(frozen=True, kw_only=True)
class RunKey:
    """What two rows must share to be of one run; a hash of None is not known (``is_run``)."""

    expid: str
    dataset_id: str
    config_hash: str | None = None
    data_hash: str | None = None
    code_hash: str | None = None
    config: ConfigRecord | None = None

    @property
    def config_folder(self) -> str | None:
        """The config folder, None where it is not known."""
        return None if self.config is None else self.config.folder

    @property
    def config_values(self) -> dict[str, Any]:
        """Config key -> value, empty where they are not known."""
        return {} if self.config is None else self.config.values()


@dataclass(frozen=True, kw_only=True)
class RunRecord(RunKey):
    """One row of results: what was run, in what environment, and what came of it.

    A value that the row does not hold is None, as those that older versions did not keep.

    Attributes:
        time: when the run began, UTC in ISO 8601.
        encoded: split -> file or folder of encoded rows.
        failed: why the run failed; None where it finished.
        command: how to repeat a run that failed.
        jobs: runs that shared the device.
        resumes: one entry for each time that the run was resumed: epoch, step, time.
        valid: metric -> value; ``test`` likewise.
        rows: split -> number of rows.
        hooks: methods of training that the model overrides, which were called.
        history: one entry for each evaluation.
        collapse: one entry for each time that the spectra were computed.
        line: the JSON object that the row was read from, with keys of newer versions.
    """

    seed: int
    time: str | None = None
    model: str | None = None
    variant: str | None = None
    code_version: str | None = None
    environment: dict[str, Any] | None = None
    encoded: dict[str, str] | None = None
    run_id: str | None = None
    failed: str | None = None
    command: str | None = None
    jobs: int | None = None
    resumes: list[dict[str, Any]] | None = None
    processes: int | None = None
    device: str | None = None
    valid: dict[str, float] | None = None
    test: dict[str, float] | None = None
    parameters: int | None = None
    epochs: int | None = None
    rows: dict[str, int] | None = None
    history: list[dict[str, Any]] | None = None
    collapse: list[dict[str, Any]] | None = None
    train_rows_per_second: float | None = None
    train_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    threads: int | None = None
    hooks: list[str] | None = None
    versions: dict[str, str] | None = None
    seconds: float | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    line: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end; a row of a run that failed has a reason instead."""
        return self.failed is None

    @property
    def num_processes(self) -> int:
        """Processes that trained together; older versions did not write that it was one."""
        return self.processes or 1

    @classmethod
    def from_json(cls, line: Any) -> RunRecord:
        """Returns the row of a line of results.jsonl; a ValueError names the key that is wrong."""
        if not isinstance(line, dict):
            raise ValueError(f"found {type(line).__name__}, expected an object")
        for key in ("expid", "dataset_id", "seed", *(["failed"] if "failed" in line else [])):
            if line.get(key) is None:
                raise ValueError(f"'{key}' is missing")
        values = {key: line[key] for key in _FORMAT if line.get(key) is not None}
        for key, value in values.items():
            _check(value, _FORMAT[key], key)
        for key in ("history", "collapse"):
            if values.get(key) and "variant" not in values:
                raise ValueError(f"'{key}' without 'variant'")
        if "config" in values:
            config = values["config"]
            values["config"] = ConfigRecord(**{key: config.get(key) for key in _FORMAT["config"]})
        return cls(**values, line=line)

    def to_json(self) -> dict[str, Any]:
        """Returns the row as its line of results.jsonl has it: without the keys that are None.

        Two are written all the same: ``data_hash``, and of a finished run ``peak_gpu_bytes``.
        """
        always = ("data_hash", "peak_gpu_bytes") if self.is_finished else ("data_hash",)
        values = {key: getattr(self, key) for key in _FORMAT}
        if self.config is not None:
            values["config"] = vars(self.config)
        return {k: value for k, value in values.items() if value is not None or k in always}


def _check(value: Any, expected: Any, name: str) -> None:
    """Raises ValueError where a value is not of the type that a key of a row has."""
    kinds: Any = type(expected) if isinstance(expected, (list, dict)) else expected
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"'{name}' is {type(value).__name__}")
    if isinstance(expected, list):
        for place, item in enumerate(value):
            _check(item, expected[0], f"{name}.{place}")
    elif isinstance(expected, dict):
        shape = dict.fromkeys(value, expected["*"]) if "*" in expected else expected
        for key, inner in shape.items():
            _check(value.get(key), inner, f"{name}.{key}")
