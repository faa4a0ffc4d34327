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
from fuxictr.experiment.results.record import ConfigRecord, RunRecord
from fuxictr.experiment.zoo.models import ROOT, ZOO, load_experiment

DEFAULT = "default"
NO_KEY = "no such key"
_SET = "command line (--set)"
_LONGEST = 8000  # characters of a value's JSON; of a longer one the hash is kept
_CREDENTIALS = re.compile(r"(\w://)[^/\s@]+@")


def config_record(config: ExperimentConfig, model_class: type) -> ConfigRecord:
    """Returns what a row of results keeps of a config, with values as JSON holds them."""
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
    return ConfigRecord(
        folder=None if folder is None else str(folder),
        zoo=str(_zoo_folder(config, folder, model_class)),
        overrides=[plain(f"{name}={_yaml(value)}") for name, value in _overrides(config)],
        keys=keys,
        as_default=as_default,
    )


def load_recorded(row: RunRecord) -> tuple[ExperimentConfig, type]:
    """Loads the config of a row of results as its files are now, with the run's own seed.

    A row of an older version does not name its folder; then it is the model's own.
    """
    record = row.config
    if record is not None and record.folder is not None:
        folder, zoo, overrides = Path(record.folder), Path(record.zoo), record.overrides
    elif record is not None or not row.model:
        raise ConfigError(f"run {row.run_id}: its row does not name its config folder")
    else:
        zoo = ZOO / row.model
        folder, overrides = zoo / "config", []
    return load_experiment(row.expid, zoo, folder, overrides, row.seed)


def changed_keys(
    row: RunRecord, config: ExperimentConfig, model_class: type
) -> dict[str, tuple[str, str]]:
    """Returns key -> (value of the run, value now) where they differ.

    Seed and names of files are left out: they are the run's own.
    """
    before = row.config_values
    now = config_record(config, model_class).values() if before else {}
    return {
        name: (_shown(before, name), _shown(now, name))
        for name in sorted({*before, *now} - {"seed", "model_id"})
        if name not in before or name not in now or before[name] != now[name]
    }


def repeat_command(row: RunRecord) -> str | None:
    """Returns the command that repeats a run, None where the row does not hold enough."""
    if row.command is not None or row.config_folder is None:  # a failed run keeps its command
        return row.command
    record, processes = row.config, row.num_processes
    assert record is not None
    launcher = ["torchrun", "--standalone", f"--nproc_per_node={processes}"]
    command = ["python"] if processes == 1 else launcher
    command += [str(_script(record, str(row.model))), "--config", row.config_folder]
    command += ["--expid", row.expid, "--seed", str(row.seed), "--gpu", gpu_option(row.device)]
    return shlex.join(command + _set_option(record))


def train_command(config: ExperimentConfig, model_class: type, gpu: int | str = "auto") -> str:
    """Returns the command that trains a config, as it works in the current folder."""
    record = config_record(config, model_class)
    script = _script(record, config.run.model)
    command = ["python", from_here(script), *config_option(record.folder, script.parent)]
    command += ["--expid", config.expid, "--gpu", str(gpu)]
    return shlex.join(command + _set_option(record))


def analyze_command(row: RunRecord, gpu: int | str = -1) -> str:
    """Returns the command that records a run of the results, as it works in the current folder."""
    model = str(row.model)
    command = ["python", from_here(ROOT / "analyze.py"), "--model", model]
    command += [*config_option(row.config_folder, ZOO / model), "--expid", row.expid]
    return shlex.join([*command, "--gpu", str(gpu), *_set_option(row.config)])


def config_option(folder: str | None, zoo: Path) -> list[str]:
    """Returns the --config of a config folder; nothing for the model's own, the default."""
    if folder is None or Path(folder) == zoo / "config":
        return []
    return ["--config", from_here(Path(folder))]


def from_here(path: Path) -> str:
    """Returns a path for a command in the current folder: relative if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def gpu_option(device: str | None) -> str:
    """Returns the --gpu of a row's device: an index, ``auto`` for several GPUs, -1 for the CPU."""
    found = re.match(r"(?P<several>\d+ x )?cuda(:(?P<index>\d+))?", device or "")
    if found is None:
        return "-1"
    return "auto" if found["several"] else found["index"] or "0"


def _script(record: ConfigRecord, model: str) -> Path:
    """Returns the run_expid.py of a config's model folder, or else that of the zoo's model."""
    own = Path(record.zoo) / "run_expid.py"
    return own if own.is_file() else ZOO / model / "run_expid.py"


def _set_option(record: ConfigRecord | None) -> list[str]:
    return ["--set", *record.overrides] if record is not None and record.overrides else []


def plain(value: Any) -> Any:
    """Returns a value as JSON holds it: NaN and infinities as texts, logins in URLs as ``***``."""
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
    """Returns the model folder that relative paths resolved against, else the model's own."""
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


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return NO_KEY
    text = json.dumps(values[name], ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]} ..."
