"""Reads a config folder: ``Base`` < the expid's block < the dataset's block < the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuxictr.config.coercion import WrongValue, coerce
from fuxictr.config.dataset import DatasetConfig
from fuxictr.config.experiment import ExperimentConfig, RawConfig
from fuxictr.config.generator import GeneratorConfig
from fuxictr.config.model_keys import check_model_value
from fuxictr.config.old_keys import COMMAND_LINE, translate_old_keys
from fuxictr.config.section import check_values, listed, unknown_key
from fuxictr.config.sections import RENAMED_KEYS, RunConfig, TrainConfig
from fuxictr.config.tasks import with_label_types
from fuxictr.config.yaml_file import parse_yaml, read_yaml_file
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.metrics import Monitor, find_metric

logger = logging.getLogger(__name__)

SECTIONS = (RunConfig, TrainConfig, DatasetConfig, GeneratorConfig)


def load_config(config_dir: str | Path, experiment_id: str) -> dict[str, Any]:
    """Returns the merged keys of one experiment, as FuxiCTR's function of this name does.

    The folder holds model_config.yaml and dataset_config.yaml, or folders of YAML files of these
    names. Keys with an older name have today's; a warning says so. Raises ConfigError if a file is
    missing or not YAML, or the expid or dataset is unknown.
    """
    params = load_raw_config(Path(config_dir), experiment_id).params
    old = [name for name in RENAMED_KEYS if name in params]
    for name in old:
        value, new = params.pop(name), RENAMED_KEYS[name]
        params.setdefault(new, value)
    if old:
        shown = ", ".join(f"{name} (now {RENAMED_KEYS[name]})" for name in old)
        logger.warning("Keys of older configs: %s in %s", shown, Path(config_dir).resolve())
    return params


def load_model_config(config_dir: str | Path, experiment_id: str) -> dict[str, Any]:
    """Returns the keys of one expid, over those of ``Base``; errors are those of load_config."""
    file, blocks = _find_block(
        _config_files(Path(config_dir).resolve(), "model_config"), experiment_id, "expid"
    )
    params = {**(blocks.get("Base") or {}), **(blocks[experiment_id] or {})}
    if not params.get("dataset_id"):
        raise ConfigError(f"{file} ({experiment_id}): key 'dataset_id' is missing")
    return {**params, "model_id": experiment_id}


def load_dataset_config(config_dir: str | Path, dataset_id: str) -> dict[str, Any]:
    """Returns the keys of one dataset, with its dataset_id; errors are those of load_config."""
    files = _config_files(Path(config_dir).resolve(), "dataset_config")
    _, blocks = _find_block(files, dataset_id, "dataset_id")
    return {**(blocks[dataset_id] or {}), "dataset_id": dataset_id}


def load_raw_config(
    config_dir: Path,
    expid: str,
    run_dir: Path | None = None,
    zoo_dir: Path | None = None,
    dataset_id: str | None = None,
) -> RawConfig:
    """Merges the blocks of one expid and records the origin of each key; raises as load_config.

    Paths resolve against ``run_dir`` (None = config_dir). ``zoo_dir`` is the folder of
    run_expid.py: if config_dir has no such dataset, dataset_config.yaml is read from the folder
    above it, and its paths resolve against zoo_dir. ``dataset_id`` None = that of the expid.
    """
    config_dir = Path(config_dir).resolve()
    run_dir = (run_dir or config_dir).resolve()
    params: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def merge(block: Mapping[str, Any] | None, origin: str) -> None:
        for name, value in (block or {}).items():
            params[name] = value
            origins[name] = origin

    file, blocks = _find_block(_config_files(config_dir, "model_config"), expid, "expid")
    merge(blocks.get("Base"), f"{file} (Base)")
    merge(blocks[expid], f"{file} ({expid})")
    params.setdefault("model_id", expid)
    dataset_id = dataset_id or params.get("dataset_id")
    if not isinstance(dataset_id, str) or not dataset_id:
        raise ConfigError(f"{file} ({expid}): key 'dataset_id' is missing")
    shared = (zoo_dir or run_dir).resolve().parent / "dataset_config.yaml"
    has_shared = zoo_dir is not None and shared.is_file()
    files = _config_files(config_dir, "dataset_config", required=not has_shared)
    dataset_file, datasets = _find_block(
        files, dataset_id, "dataset_id", shared if has_shared else None
    )
    merge(datasets[dataset_id], f"{dataset_file} ({dataset_id})")
    data_dir = zoo_dir.resolve() if zoo_dir and dataset_file == shared else run_dir
    return RawConfig(params, origins, run_dir, data_dir)


def list_expids(config_dir: Path) -> dict[str, dict[str, Any]]:
    """Returns expid -> its keys, Base included, in the order of the files of a config folder."""
    found: dict[str, dict[str, Any]] = {}
    files: dict[str, Path] = {}
    for file in _config_files(Path(config_dir), "model_config"):
        blocks = read_yaml(file)
        base = blocks.get("Base") or {}
        for name, block in blocks.items():
            if name in found:
                raise ConfigError(f"expid '{name}' is given twice, in {files[name]} and {file}")
            if name != "Base":
                found[name], files[name] = {**base, **(block or {})}, file
    return found


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Returns key -> value of ``key=value`` texts; ConfigError without ``=`` or for wrong YAML."""
    found = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name:
            raise ConfigError(f"--set {assignment}: allowed: key=value")
        found[name] = parse_yaml(text, f"--set {assignment:.200}", name)
    return found


def apply_overrides(raw: RawConfig, assignments: Iterable[str]) -> None:
    """Applies ``key=value`` of the command line, see ``parse_overrides``."""
    for name, value in parse_overrides(assignments).items():
        raw.params[name] = value
        raw.origins[name] = COMMAND_LINE


def check_config(
    raw: RawConfig, expid: str, model_annotations: Mapping[str, Any]
) -> ExperimentConfig:
    """Checks every key and value of a merged config; a ConfigError lists all that do not fit.

    ``model_annotations`` are those of the parameters of the model's ``__init__``.
    """
    section_keys = {name for section in SECTIONS for name in section.keys()}
    own = {k: v for k, v in model_annotations.items() if k not in section_keys}
    params = translate_old_keys(raw, own, expid)
    problems = _unknown_keys(params, raw.origins, section_keys | set(own))
    found: list[str] = []
    checked = [check_values(section, params, found) for section in SECTIONS]
    model_params: dict[str, Any] = {}
    for name, annotation in own.items():
        if name in params:
            try:
                model_params[name] = check_model_value(name, coerce(params[name], annotation))
            except WrongValue as error:
                found.append(f"key '{name}': found {params[name]!r:.200}, {error}")
    sections = [] if found else _make_sections(checked, found)
    problems += [_with_origin(text, raw.origins) for text in found]
    if problems:
        raise ConfigError(f"expid '{expid}': {listed(problems)}")
    run, train, dataset, generator = sections
    typed = with_label_types(dataset.label_col, train.task)
    dataset = replace(dataset, label_col=typed)
    columns = None
    if dataset.feature_cols or not dataset.is_encoded:
        columns = {column.name: column.type for column in dataset.columns()}
        _check_monitor(train, dataset)
    _check_group_id(train, columns)
    dataset.check_splits()
    return ExperimentConfig(
        expid=expid,
        run=run,
        train=train,
        dataset=dataset,
        generator=generator,
        model_params=model_params,
        run_dir=raw.run_dir,
        data_dir=raw.data_dir,
        origins=raw.origins,
    )


def _make_sections(checked: list[dict[str, Any]], problems: list[str]) -> list[Any]:
    """Returns the sections of checked values; appends contradictions to ``problems``."""
    sections = []
    for section, values in zip(SECTIONS, checked, strict=True):
        try:
            sections.append(section(**values))
        except ConfigError as error:
            problems.append(str(error))
    return sections


def _check_monitor(train: TrainConfig, dataset: DatasetConfig) -> None:
    """Checks the labels, and that a monitored metric of one label is one of several labels."""
    labels = [label.name for label in dataset.labels()]
    monitor = Monitor(train.monitor, train.monitor_mode)
    monitor.check_labels(labels if len(labels) > 1 or isinstance(train.task, list) else [])


def _check_group_id(train: TrainConfig, columns: dict[str, str] | None) -> None:
    grouped = [name for name in train.metrics if find_metric(name).needs_groups]
    if train.group_id is None and grouped:
        raise ConfigError(f"key 'metrics': {grouped[0]} needs key 'group_id', found null")
    if train.group_id is not None and columns is not None and train.group_id not in columns:
        raise ConfigError(
            f"key 'group_id': found '{train.group_id}', allowed: a column of feature_cols (type "
            f"meta, if it is not to be embedded){did_you_mean(train.group_id, columns)}"
        )
    kind = columns[str(train.group_id)] if grouped and columns is not None else "meta"
    if kind == "numeric":
        logger.warning(
            "key 'group_id': '%s' is numeric: its values are float32, and scaled if it has a "
            "normalizer, so near ones become one group; a meta column keeps them apart",
            train.group_id,
        )
    elif kind != "meta":
        logger.warning(
            "key 'group_id': '%s' is no meta column: its values that training did not see are one "
            "group; a meta column keeps them apart",
            train.group_id,
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping of mappings; ConfigError (with the line) if the file is none."""
    content = read_yaml_file(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of blocks, found {type(content).__name__}")
    for name, block in content.items():
        if block is not None and not isinstance(block, dict):
            raise ConfigError(
                f"{path}: block '{name}': expected a mapping of keys, found {block!r:.200}"
            )
    return content


def _config_files(config_dir: Path, stem: str, required: bool = True) -> list[Path]:
    single = config_dir / f"{stem}.yaml"
    files = [single] if single.is_file() else []
    files += sorted((config_dir / stem).glob("*.yaml"))
    if not files and required:
        raise ConfigError(f"no {single} and no {config_dir / stem}/*.yaml")
    return files


def _find_block(
    files: list[Path], name: str, what: str, shared: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Returns the file that has a block, and its blocks; looks into ``shared`` last."""
    known: list[str] = []
    found: list[tuple[Path, dict[str, Any]]] = []
    places = [*files, shared] if shared else files
    for file in places:
        if found and file == shared:
            break
        blocks = read_yaml(file)
        if name in blocks and name != "Base":
            found.append((file, {**blocks, name: blocks[name] or {}}))
        known += [str(block) for block in blocks if block != "Base"]
    if len(found) == 1:
        return found[0]
    if found:
        where = " and ".join(str(file) for file, _ in found)
        raise ConfigError(f"{what} '{name}' is given twice, in {where}")
    looked = ", ".join(map(str, places))
    raise ConfigError(
        f"unknown {what} '{name}'{did_you_mean(name, known)}; looked in {looked}; "
        f"known: {', '.join(sorted(known)) or 'none'}"
    )


def _unknown_keys(
    params: Mapping[str, Any], origins: Mapping[str, str], known: set[str]
) -> list[str]:
    problems: list[str] = []
    for name in (name for name in params if name not in known):
        problems.append(f"{unknown_key(name, known, problems)} ({origins.get(name, '')})")
    return problems


def _with_origin(problem: str, origins: Mapping[str, str]) -> str:
    name = problem.partition("'")[2].partition("'")[0]
    return f"{problem} ({origins[name]})" if name in origins else problem
