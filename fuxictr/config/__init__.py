"""YAML -> a typed, validated experiment config; building a model needs no PyYAML."""

from __future__ import annotations

import importlib
from typing import Any

from fuxictr.config.dataset import ColumnConfig, DatasetConfig
from fuxictr.config.generator import GeneratorConfig
from fuxictr.config.sections import RunConfig, TrainConfig

_LOADING = (
    "ExperimentConfig",
    "RawConfig",
    "apply_overrides",
    "check_config",
    "list_expids",
    "load_config",
    "load_dataset_config",
    "load_model_config",
    "load_raw_config",
    "parse_overrides",
)

__all__ = [
    "ColumnConfig",
    "DatasetConfig",
    "GeneratorConfig",
    "RunConfig",
    "TrainConfig",
    *_LOADING,
]


def __getattr__(name: str) -> Any:
    if name in _LOADING:
        return getattr(importlib.import_module("fuxictr.config.loading"), name)
    raise AttributeError(f"module 'fuxictr.config' has no attribute '{name}'")
