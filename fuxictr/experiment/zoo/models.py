"""Finds the models of model_zoo/ and the expids of their configs."""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import fuxictr
from fuxictr.config import (
    ExperimentConfig,
    GeneratorConfig,
    apply_overrides,
    check_config,
    list_expids,
    load_raw_config,
    parse_overrides,
)
from fuxictr.config.coercion import signature_annotations
from fuxictr.config.idle_keys import warn_of_idle_keys
from fuxictr.config.old_keys import RENAMED_MODELS
from fuxictr.datasets import registry
from fuxictr.errors import ConfigError, did_you_mean

logger = logging.getLogger(__name__)

ROOT = Path(fuxictr.__file__).resolve().parents[1]
ZOO = ROOT / "model_zoo"


def zoo_models() -> list[str]:
    """Returns the names of the model folders of model_zoo/, sorted; none beside a package alone."""
    if not ZOO.is_dir():
        return []
    return sorted(folder.name for folder in ZOO.iterdir() if (folder / "src").is_dir())


def load_model_class(model: str, zoo_dir: Path | None = None) -> type:
    """Imports the class ``model`` from src/<model>.py of ``zoo_dir``, or of model_zoo/<model>/.

    Where there is no such file, the class may be one that src/__init__.py imports. A ConfigError
    names the paths tried.
    """
    folders = [folder for folder in (zoo_dir, ZOO / model) if folder is not None]
    for folder in folders:
        file = folder / "src" / f"{model}.py"
        if file.is_file():
            found = getattr(_import_source(file), model, None)
            if not isinstance(found, type):
                raise ConfigError(f"{file}: defines no class '{model}'")
            return found
        if (folder / "src" / "__init__.py").is_file():
            found = getattr(_import_package(folder / "src"), model, None)
            if isinstance(found, type):
                return found
    tried = ", ".join(dict.fromkeys(str(folder / "src" / f"{model}.py") for folder in folders))
    raise ConfigError(
        f"key 'model': no model '{model}'{did_you_mean(model, zoo_models())}; looked for {tried}"
    )


def load_experiment(
    expid: str,
    zoo_dir: Path,
    config_dir: str | Path | None = None,
    overrides: list[str] | None = None,
    seed: int | None = None,
) -> tuple[ExperimentConfig, type]:
    """Returns the checked config of an expid and its model class.

    Args:
        expid: the experiment.
        zoo_dir: folder of run_expid.py.
        config_dir: None = ``config/`` beside run_expid.py. A relative one is searched from the
            current folder, then beside run_expid.py. Relative paths in the config of a model's
            folder resolve against ``zoo_dir``, those of another config folder against that folder.
        overrides: ``key=value`` texts, which win over the files.
        seed: wins over the config's seed.

    Raises:
        ConfigError: anything in the config that cannot be used.
    """
    folder = find_config_dir(config_dir, zoo_dir)
    run_dir = zoo_dir if _is_of_a_model(folder, zoo_dir) else folder
    dataset_id = parse_overrides(overrides or []).get("dataset_id")
    raw = load_raw_config(folder, expid, run_dir, zoo_dir, dataset_id)
    apply_overrides(raw, overrides or [])
    if seed is not None:
        raw.params["seed"], raw.origins["seed"] = seed, "command line (--seed)"
    model = raw.params.get("model")
    if not isinstance(model, str) or not model:
        raise ConfigError(f"expid '{expid}' in {folder}: key 'model' is missing")
    if model in RENAMED_MODELS:
        logger.warning("key 'model': %s is now %s", model, RENAMED_MODELS[model])
        model = raw.params["model"] = RENAMED_MODELS[model]
    if not model.isidentifier():
        raise ConfigError(f"key 'model': found {model!r:.100}, allowed: the name of a class")
    model_class = load_model_class(model, zoo_dir)
    scope = getattr(model_class, "default_penalty_scope", "all")
    if scope != "all" and "regularizer_scope" not in raw.params:  # so that the run's record has it
        raw.params["regularizer_scope"] = scope
        raw.origins["regularizer_scope"] = f"default of {model}"
    config = check_config(raw, expid, model_annotations(model_class))
    idle_keys = getattr(model_class, "idle_keys", None)  # any class may be a model
    warn_of_idle_keys(config, idle_keys(config.params()) if idle_keys else {})
    return config, model_class


def model_annotations(model_class: type) -> dict[str, Any]:
    """Returns the keys that a config may give a model for its ``__init__``, with annotations."""
    inherited = getattr(model_class, "extra_config_keys", {})  # any class may be a model
    return {**inherited, **signature_annotations(model_class)}


def _is_of_a_model(config_dir: Path, zoo_dir: Path) -> bool:
    """Returns whether a config folder lies in the folder of run_expid.py or of a zoo's model."""
    folders = (zoo_dir.resolve(), *(ZOO / model for model in zoo_models()))
    return any(config_dir.is_relative_to(folder) for folder in folders)


def find_config_dir(config_dir: str | Path | None, zoo_dir: Path) -> Path:
    """Returns the absolute config folder; ConfigError if it is missing, with the paths tried."""
    bases = (zoo_dir,) if config_dir is None else (Path.cwd(), zoo_dir)
    config_dir = "./config/" if config_dir is None else Path(config_dir).expanduser()
    tried = [(base / config_dir).resolve() for base in bases]
    for folder in tried:
        if folder.is_dir():
            return folder
    paths = ", ".join(dict.fromkeys(map(str, tried)))
    raise ConfigError(f"--config {config_dir}: no such folder; tried {paths}")


@dataclass(frozen=True)
class Choice:
    """One expid of a backbone, with its model folder and variant."""

    folder: Path
    backbone: str
    variant: str
    expid: str


def backbones(dataset: str) -> list[str]:
    """Returns the backbones with an expid ``<Backbone>_<dataset>``, in the order of the zoo.

    A backbone is a model folder, or the first word of a folder's expids, as CrossNet's in
    model_zoo/DCNv2.
    """
    suffix = f"_{registry.alias_of(dataset)}"
    return [
        expid.removesuffix(suffix)
        for model in zoo_models()
        for expid in list_expids(ZOO / model / "config")
        if expid.endswith(suffix)
    ]


def select_expids(backbone: str, dataset: str, variants: list[str]) -> list[Choice]:
    """Returns the expids of a backbone on a dataset, in the order of the variants.

    The pair ``<Backbone>_<dataset>`` and ``<Backbone>_<dataset>_gen`` is taken where it exists,
    otherwise the only expid of the dataset that has the variant (dis or gen).

    Raises:
        ConfigError: unknown backbone or dataset, or no (or no single) expid for a variant.
    """
    folder = find_folder(backbone)
    alias, dataset_id = registry.alias_of(dataset), registry.dataset_id_of(dataset)
    experiments = list_expids(folder / "config")
    on_dataset = {e: p for e, p in experiments.items() if p.get("dataset_id") == dataset_id}
    if not on_dataset:
        known = sorted({str(p.get("dataset_id")) for p in experiments.values()})
        raise ConfigError(
            f"--dataset {dataset}: no expid of {backbone} has dataset_id '{dataset_id}'; "
            f"known: {', '.join(known)}{did_you_mean(dataset_id, known)}"
        )
    choices = []
    for variant in variants:
        usual = f"{backbone}_{alias}" + ("_gen" if variant == "gen" else "")
        matching = [
            e for e, p in on_dataset.items() if GeneratorConfig.from_params(p).variant == variant
        ]
        if usual in matching:
            matching = [usual]
        if len(matching) != 1:
            found = ", ".join(matching) or "none"
            raise ConfigError(
                f"{folder / 'config'}: expected the expid '{usual}', or one {variant} expid with "
                f"dataset_id '{dataset_id}'; found {found}"
            )
        choices.append(Choice(folder, backbone, variant, matching[0]))
    return choices


def find_folder(backbone: str) -> Path:
    """Returns the model folder that holds a backbone's expids; ConfigError if there is none."""
    if (ZOO / backbone / "config").is_dir():
        return ZOO / backbone
    names = set(zoo_models())
    for model in zoo_models():
        prefixes = {expid.split("_")[0] for expid in list_expids(ZOO / model / "config")}
        if backbone in prefixes:
            return ZOO / model
        names |= prefixes
    known = sorted(names)
    raise ConfigError(
        f"--model {backbone}: allowed: all, {', '.join(known)}{did_you_mean(backbone, known)}"
    )


def _import_package(source: Path) -> ModuleType:
    """Imports the folder src/ with its __init__.py, which says which classes it has."""
    package = f"{_package_name(source)}_all"
    if package not in sys.modules:
        file = source / "__init__.py"
        spec = spec_from_file_location(package, file, submodule_search_locations=[str(source)])
        assert spec is not None and spec.loader is not None
        module = sys.modules[package] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[package]
            raise
    return sys.modules[package]


def _package_name(source: Path) -> str:
    digest = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    return f"model_zoo_{source.parent.name}_{digest}"


def _import_source(file: Path) -> ModuleType:
    """Imports src/<Model>.py in a package of its own, so that relative imports work."""
    package = _package_name(file.parent)
    if package not in sys.modules:
        module = ModuleType(package)
        module.__path__ = [str(file.parent)]
        sys.modules[package] = module
    return importlib.import_module(f"{package}.{file.stem}")
