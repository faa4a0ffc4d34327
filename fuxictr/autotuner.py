"""FuxiCTR's grid search: its tuner files, names of experiments, and functions.

A tuner file names a base experiment and, under ``tuner_space``, lists of values. Each combination
becomes an expid of a new config folder, and the expids run as one sweep that can be resumed.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fuxictr.config import list_expids, load_dataset_config, load_model_config
from fuxictr.config.loading import read_yaml
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.experiment.sweep.plan import PlannedRun
from fuxictr.experiment.sweep.runner import Sweep, encode_datasets
from fuxictr.experiment.zoo.models import ZOO, find_config_dir, load_experiment
from fuxictr.files import write_atomically
from fuxictr.utils import print_to_json

_TUNER_KEYS = ("base_config", "base_expid", "dataset_id", "tuner_space")
_INLINE_KEYS = ("model_config", "dataset_config")


def enumerate_params(config_file: str | Path, exclude_expid: Iterable[str] = ()) -> str:
    """Writes the config folder of a tuner file, beside it and of its name; returns the folder.

    Expids are ``<base>_<number>_<hash>``, in the order of the keys of the base experiment, the last
    key fastest; datasets vary within models. An excluded expid keeps its number.

    Raises:
        ConfigError: the file has an unknown key, or no base experiment or dataset that is there.
        RuntimeError: ``tuner_space`` has keys that neither the model nor the dataset has.
    """
    path = Path(config_file)
    model, dataset, base_name, dataset_id = _read(path)
    space = {name: _options(value) for name, value in _tuner(path)["tuner_space"].items()}
    unknown = {name: value for name, value in space.items() if name not in {**model, **dataset}}
    if unknown:
        hints = "".join(did_you_mean(name, {**model, **dataset}) for name in unknown)
        raise RuntimeError(f"Invalid params in tuner config: {unknown}{hints}")
    datasets = {_dataset_name(params, dataset_id): params for params in _product(dataset, space)}
    combinations = itertools.product(_product(model, space), datasets)
    expids, excluded = {}, set(exclude_expid)
    for number, (params, name) in enumerate(combinations, start=1):
        run = {**params, "dataset_id": name}
        expid = f"{base_name}_{number:03d}_{_digest(run)}"
        if expid not in excluded:
            expids[expid] = run
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    blocks = {
        name: {k: v for k, v in params.items() if k != "dataset_id"}
        for name, params in datasets.items()
    }
    write_atomically(folder / "dataset_config.yaml", _dump(blocks))
    write_atomically(folder / "model_config.yaml", _dump(expids))
    print("Enumerate all tuner configurations done.", flush=True)
    return str(folder)


def load_experiment_ids(config_dir: str | Path) -> list[str]:
    """Returns the expids of a config folder, sorted."""
    return sorted(list_expids(Path(config_dir)))


def finished_expids(results_csv: str | Path) -> list[str]:
    """Returns the expids of a csv of results, whose third column is ``[exp_id] <expid>``.

    Raises:
        ConfigError: the file cannot be read, or a line has no such column.
    """
    try:
        with Path(results_csv).open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise ConfigError(f"{results_csv}: not readable ({error.strerror})") from None
    cells = [line[2] if len(line) > 2 else "" for line in lines]
    wrong = next((n for n, cell in enumerate(cells, 1) if not cell.startswith("[exp_id] ")), None)
    if wrong is not None:
        raise ConfigError(f"{results_csv}, line {wrong}: expected '[exp_id] <expid>' in column 3")
    return [cell.removeprefix("[exp_id] ") for cell in cells]


def grid_search(
    config_dir: str | Path,
    gpu_list: Sequence[int | str],
    expid_tag: str | None = None,
    script: str | Path = "run_expid.py",
    results_file: Path | None = None,
) -> int:
    """Runs the expids of a config folder, one at a time for each entry of ``gpu_list``.

    A run that has finished before, with the same config, data and code, is skipped, so a search
    that was killed continues. A run that fails does not end the search.

    Args:
        config_dir: folder of model_config.yaml and dataset_config.yaml.
        gpu_list: as ``[0, 1]``, or ``[-1, -1]`` for two at a time on the CPU.
        expid_tag: runs only expids that contain it.
        script: run_expid.py of a folder with ``src/``; where it is missing, the model's own folder
            in model_zoo/ is used.
        results_file: the results store; None: the project's.

    Returns:
        The number of runs that failed.

    Raises:
        ConfigError: no expid is left, or one of them cannot be used.
    """
    from fuxictr.experiment.run.run import RESULTS

    folder = Path(config_dir).resolve()
    expids = [e for e in load_experiment_ids(folder) if expid_tag is None or expid_tag in e]
    if not expids:
        tag = "" if expid_tag is None else f" that contains '{expid_tag}'"
        raise ConfigError(f"{folder}: no expid{tag}; allowed: {load_experiment_ids(folder)}")
    runs = [_planned(expid, folder, Path(script).resolve()) for expid in expids]
    encode_datasets(runs)
    sweep = Sweep(runs, [str(gpu) for gpu in gpu_list], results_file or RESULTS)
    sweep.run()
    for run, reason in sweep.failures:
        print(f"{run.expid} failed: {reason}", file=sys.stderr, flush=True)
    print(
        f"Grid search: {len(runs)} expids, {sweep.num_skipped} finished before, "
        f"{len(sweep.failures)} failed.",
        flush=True,
    )
    return len(sweep.failures)


def _planned(expid: str, folder: Path, script: Path) -> PlannedRun:
    if script.is_file():
        zoo_dir = script.parent
    else:
        model = str(load_model_config(folder, expid).get("model"))
        zoo_dir = ZOO / model
        if not (zoo_dir / "run_expid.py").is_file():
            raise ConfigError(
                f"expid '{expid}': model '{model}' is no folder of model_zoo/, and there is no "
                f"{script}; allowed: to start where run_expid.py and src/ of the model are"
            )
    config, model_class = load_experiment(expid, zoo_dir, find_config_dir(folder, zoo_dir))
    return PlannedRun(
        dataset=config.dataset.dataset_id,
        backbone=model_class.__name__,
        expid=expid,
        seed=config.train.seed,
        folder=zoo_dir,
        config=config,
        model_class=model_class,
        config_dir=folder,
    )


def _tuner(path: Path) -> dict[str, Any]:
    """Returns the keys of a tuner file, checked."""
    content = _read_tuner(path)
    if "base_expid" not in content:
        raise ConfigError(f"{path}: key 'base_expid' is missing")
    if not isinstance(content.get("tuner_space"), Mapping):
        raise ConfigError(f"{path}: key 'tuner_space': expected a mapping of key to values")
    known = {*_TUNER_KEYS, *_INLINE_KEYS, content.get("dataset_id")}
    unknown = [name for name in content if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], _TUNER_KEYS)
        raise ConfigError(f"{path}: unknown key '{unknown[0]}'{hint}")
    return content


def _read_tuner(path: Path) -> dict[str, Any]:
    from fuxictr.config.yaml_file import read_yaml_file

    content = read_yaml_file(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    return content


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any], str, str]:
    """Returns the base's keys of model and dataset, the name of new expids, and the dataset."""
    tuner = _tuner(path)
    base_expid = str(tuner["base_expid"])
    folder = _base_folder(tuner.get("base_config"), path)
    if "model_config" in tuner:
        model = _inline(tuner, "model_config", base_expid, path)
    else:
        model = load_model_config(folder, base_expid)
        base = read_yaml(folder / "model_config.yaml") if _is_one_file(folder) else {}
        order = {**(base.get("Base") or {}), **model}
        model = {name: model[name] for name in order}
        del model["model_id"]
    dataset_id = str(tuner.get("dataset_id", model.get("dataset_id")))
    name = base_expid
    if model.get("dataset_id") == "TBD":
        name = f"{model.get('model')}_{dataset_id}"
    if "dataset_config" in tuner:
        dataset = _inline(tuner, "dataset_config", dataset_id, path)
    else:
        dataset = load_dataset_config(folder, dataset_id)
    return (
        {**model, "dataset_id": dataset_id},
        {**dataset, "dataset_id": dataset_id},
        name,
        (dataset_id),
    )


def _is_one_file(folder: Path) -> bool:
    return (folder / "model_config.yaml").is_file()


def _base_folder(base_config: str | None, path: Path) -> Path:
    """Returns the folder of the base experiment; a relative one from here, or from the file."""
    if base_config is None:
        return path.resolve().parent
    tried = [(start / base_config).resolve() for start in (Path.cwd(), path.resolve().parent)]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"{path}: key 'base_config': {base_config}: no such folder; tried "
        f"{', '.join(map(str, dict.fromkeys(tried)))}"
    )


def _inline(tuner: Mapping[str, Any], key: str, name: str, path: Path) -> dict[str, Any]:
    """Returns a block that stands in the tuner file itself, without its model_id."""
    block = tuner[key].get(name) if isinstance(tuner[key], Mapping) else None
    if not isinstance(block, Mapping):
        raise ConfigError(f"{path}: key '{key}': expected a block '{name}'")
    return {k: v for k, v in block.items() if k != "model_id"}


def _options(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _product(params: Mapping[str, Any], space: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yields the combinations of the tuned keys, in the order of the keys."""
    options = [space.get(name, [value]) for name, value in params.items()]
    for values in itertools.product(*options):
        yield dict(zip(params, values, strict=True))


def _dataset_name(params: Mapping[str, Any], dataset_id: str) -> str:
    data_format, rebuilds = params.get("data_format"), params.get("rebuild_dataset", True)
    if data_format == "npz" or (data_format == "parquet" and rebuilds is False):
        return dataset_id
    return f"{dataset_id}_{_digest(params)}"


def _digest(params: Mapping[str, Any]) -> str:
    """Returns FuxiCTR's hash of a config: of the sorted characters of its JSON."""
    text = "".join(sorted(print_to_json(params)))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8]


class _Dumper(yaml.SafeDumper):
    """Writes tuples as configs of FuxiCTR have them, and nothing as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    tuple,
    lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:python/tuple", value),
)


def _dump(blocks: Mapping[str, Any]) -> str:
    return yaml.dump(
        dict(blocks), Dumper=_Dumper, default_flow_style=None, sort_keys=False, allow_unicode=True
    )
