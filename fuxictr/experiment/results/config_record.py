"""The config in a row of results: every key with its origin, and how it is loaded again."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fuxictr.config import ExperimentConfig
from fuxictr.config.loading import SECTIONS
from fuxictr.config.sections import RENAMED_KEYS
from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import ROOT, ZOO, load_experiment

DEFAULT = "default"
NO_KEY = "no such key"
_SET = "command line (--set)"
# Characters of a value's JSON; a longer one, as of a thousand columns, is kept as its hash.
_LONGEST = 8000
_CREDENTIALS = re.compile(r"(\w://)[^/\s@]+@")


def config_record(config: ExperimentConfig, model_class: type) -> dict[str, Any]:
    """Returns what a row of results keeps of a config, as JSON holds it.

    Returns:
        ``folder`` (the config's; None where the config was not read from one), ``zoo`` (the
        model's), ``overrides`` (as --set takes them), ``keys`` (origin -> key -> value) and
        ``as_default`` (the keys that were given and have the value that they have anyway).
    """
    params, defaults = config.params(), default_values(model_class)
    keys: dict[str, dict[str, Any]] = {}
    as_default = []
    for name in sorted({*params, *defaults}):
        value = params.get(name, defaults.get(name))
        origin = config.origins.get(name, DEFAULT) if name in params else DEFAULT
        keys.setdefault(plain(origin), {})[name] = _bounded(plain(value))
        if origin != DEFAULT and name in defaults and plain(defaults[name]) == plain(value):
            as_default.append(name)
    folder = config_folder(config)
    return {
        "folder": None if folder is None else str(folder),
        "zoo": str(_zoo_folder(config, folder, model_class)),
        "overrides": [plain(f"{name}={_yaml(value)}") for name, value in _overrides(config)],
        "keys": keys,
        "as_default": as_default,
    }


def load_recorded(row: Mapping[str, Any]) -> tuple[ExperimentConfig, type]:
    """Loads the config of a row of results as its files are now, with the run's own seed.

    Of a row of an older version, which says no folder, it is that of the model's folder.

    Raises:
        ConfigError: the config cannot be loaded any more.
    """
    record = row.get("config") or {}
    if record.get("folder") is not None:
        folder, zoo, overrides = record["folder"], Path(record["zoo"]), record["overrides"]
    elif record or not row.get("model"):
        raise ConfigError(f"run {row.get('run_id')}: its row does not say which folder it is of")
    else:
        zoo = ZOO / row["model"]
        folder, overrides = zoo / "config", []
    return load_experiment(row["expid"], zoo, folder, overrides, row["seed"])


def changed_keys(
    row: Mapping[str, Any], config: ExperimentConfig, model_class: type
) -> dict[str, tuple[str, str]]:
    """Returns key -> (what it was, what it is), of the keys that a run had otherwise.

    Seed and names of files are left out: they are the run's own.
    """
    before = recorded_values(row.get("config") or {})
    now = recorded_values(config_record(config, model_class)) if before else {}
    return {
        name: tuple(_shown(values, name) for values in (before, now))  # type: ignore[misc]
        for name in sorted({*before, *now} - {"seed", "model_id"})
        if name not in before or name not in now or before[name] != now[name]
    }


def repeat_command(row: Mapping[str, Any]) -> str | None:
    """Returns the command that makes a run again, None where the row does not say enough."""
    record = row.get("config") or {}
    if "command" in row or record.get("folder") is None:  # a sweep keeps that of a failed run
        return row.get("command")
    zoo = Path(record["zoo"])
    if not (zoo / "run_expid.py").is_file():
        zoo = ZOO / str(row.get("model"))
    processes = row.get("processes", 1)
    command = (
        ["python"]
        if processes == 1
        else ["torchrun", "--standalone", f"--nproc_per_node={processes}"]
    )
    command += [str(zoo / "run_expid.py"), "--config", record["folder"]]
    command += ["--expid", row["expid"], "--seed", str(row["seed"])]
    command += ["--gpu", gpu_option(row)]
    command += ["--set", *record["overrides"]] if record["overrides"] else []
    return shlex.join(command)


def train_command(config: ExperimentConfig, model_class: type, gpu: int | str = "auto") -> str:
    """Returns the command that trains a config, as it works in the current folder."""
    record = config_record(config, model_class)
    zoo = Path(record["zoo"])
    if not (zoo / "run_expid.py").is_file():
        zoo = ZOO / config.run.model
    command = ["python", from_here(zoo / "run_expid.py"), *config_option(record["folder"], zoo)]
    command += ["--expid", config.expid, "--gpu", str(gpu)]
    command += ["--set", *record["overrides"]] if record["overrides"] else []
    return shlex.join(command)


def analyze_command(row: Mapping[str, Any], gpu: int | str = -1) -> str:
    """Returns the command that records a run of the results, as it works in the current folder."""
    record, model = row.get("config") or {}, str(row["model"])
    command = ["python", from_here(ROOT / "analyze.py"), "--model", model]
    command += [*config_option(record.get("folder"), ZOO / model), "--expid", str(row["expid"])]
    command += ["--gpu", str(gpu)]
    command += ["--set", *record["overrides"]] if record.get("overrides") else []
    return shlex.join(command)


def config_option(folder: str | None, zoo: Path) -> list[str]:
    """Returns the --config of a config folder; nothing for the model's own, the default."""
    if folder is None or Path(folder) == zoo / "config":
        return []
    return ["--config", from_here(Path(folder))]


def from_here(path: Path) -> str:
    """Returns a path as a command in the current folder takes it: relative where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def gpu_option(row: Mapping[str, Any]) -> str:
    """Returns the --gpu of a run: a GPU's index, ``auto`` for several GPUs, or -1 for the CPU."""
    device = re.match(r"(?P<several>\d+ x )?cuda(:(?P<index>\d+))?", str(row.get("device")))
    if device is None:
        return "-1"
    return "auto" if device["several"] else device["index"] or "0"


def plain(value: Any) -> Any:
    """Returns a value as JSON holds it; user names and passwords in URLs become ``***``.

    NaN and the infinities, which JSON has not, become texts.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return _CREDENTIALS.sub(r"\1***@", value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=str)
    is_number = hasattr(value, "dtype") and getattr(value, "ndim", None) == 0
    return plain(value.item()) if is_number else plain(str(value))


def _overrides(config: ExperimentConfig) -> list[tuple[str, Any]]:
    """Returns name and value of the keys that --set gave, by the old name where it gave that."""
    params = config.params()
    old = {new: name for name, new in RENAMED_KEYS.items() if config.origins.get(name) == _SET}
    given = [name for name in params if config.origins.get(name) == _SET]
    return [(old.get(name, name), params[name]) for name in given]


def default_values(model_class: type) -> dict[str, Any]:
    """Returns the values that keys have unless given: those of the sections and of the model."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(model_class).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            found[name] = parameter.default
    for section in SECTIONS:
        for key in dataclasses.fields(section):
            if key.default is not dataclasses.MISSING:
                found[key.name] = key.default
            elif key.default_factory is not dataclasses.MISSING:
                found[key.name] = key.default_factory()
    return found


def config_folder(config: ExperimentConfig) -> Path | None:
    """Returns the folder whose model_config.yaml, or file of model_config/, has the expid."""
    ends = (" (Base)", f" ({config.expid})")
    origins = [origin for origin in config.origins.values() if origin.endswith(ends)]
    files = [Path(origin.rpartition(" (")[0]) for origin in dict.fromkeys(origins)]
    folders = [file.parent for file in files if file.name == "model_config.yaml"]
    folders += [file.parents[1] for file in files if file.parent.name == "model_config"]
    return folders[0] if folders else None


def _zoo_folder(config: ExperimentConfig, folder: Path | None, model_class: type) -> Path:
    """Returns the model folder that relative paths resolved against, or else the model's own."""
    for place in (config.data_dir, config.run_dir):
        if folder is not None and place != folder:
            return place
    return Path(inspect.getfile(model_class)).resolve().parents[1]


def _bounded(value: Any) -> Any:
    text = json.dumps(value, sort_keys=True)
    if len(text) <= _LONGEST:
        return value
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "characters": len(text)}


def _yaml(value: Any) -> str:
    """Returns a value as YAML on one line, which --set reads."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("...\n").rstrip("\n")


def recorded_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns key -> value of what ``config_record`` returned, {} of an empty record."""
    return {name: v for keys in (record.get("keys") or {}).values() for name, v in keys.items()}


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return NO_KEY
    text = json.dumps(values[name], ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]} ..."
