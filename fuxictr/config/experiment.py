"""A checked experiment config: its sections, the paths of its files, its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fuxictr.config.dataset import DatasetConfig
from fuxictr.config.generator import GeneratorConfig
from fuxictr.config.sections import RunConfig, TrainConfig

# Keys that do not change what is computed, and the seed.
_NOT_HASHED = {
    *("seed", "model_id", "model_root", "num_workers", "verbose", "debug_mode"),
    *("analyze_every", "tensorboard", "save_state", "save_steps", "save_minutes"),
    *("data_root", "train_data", "valid_data", "test_data", "rebuild_dataset"),
    "embedding_sharding",
}


_ALWAYS_GIVEN = (
    *("model_id", "dataset_id", "model_root", "verbose"),
    *("task", "optimizer", "loss", "metrics"),
)


@dataclass
class RawConfig:
    """Merged, unchecked keys, the origin of each, and the folders that paths resolve against."""

    params: dict[str, Any]
    origins: dict[str, str]
    run_dir: Path
    data_dir: Path


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A checked experiment.

    ``model_params`` are the keys of the model's own ``__init__``; ``origins`` says where each value
    comes from. model_root resolves against ``run_dir``, the dataset's paths against ``data_dir``.
    """

    expid: str
    run: RunConfig
    train: TrainConfig
    dataset: DatasetConfig
    generator: GeneratorConfig
    model_params: dict[str, Any]
    run_dir: Path
    data_dir: Path
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """``dis`` or ``gen``."""
        return self.generator.variant

    @property
    def output_stem(self) -> Path:
        """Path of the run's files without their suffix: <model_root>/<dataset_id>/<model_id>."""
        root = (self.run_dir / Path(self.run.model_root).expanduser()).resolve()
        return root / self.dataset.dataset_id / self.run.model_id

    @property
    def checkpoint_path(self) -> Path:
        """The best weights."""
        return self.output_stem.with_name(self.output_stem.name + ".model")

    @property
    def log_path(self) -> Path:
        """The run's log."""
        return self.output_stem.with_name(self.output_stem.name + ".log")

    def params(self) -> dict[str, Any]:
        """Returns all keys in one mapping, as ``Model(feature_map, **params)`` takes them."""
        flat: dict[str, Any] = {}
        for section in (self.run, self.train, self.dataset, self.generator):
            flat.update(asdict(section))
        return {**flat, **self.model_params}

    def given_params(self) -> dict[str, Any]:
        """Returns the keys that ``Model(feature_map, **params)`` gets: those that are set.

        A default here must not take the place of a model's own. The keys that each class written
        for FuxiCTR reads are always among them.
        """
        given = {*self.origins, *self.model_params, *_ALWAYS_GIVEN}
        return {name: value for name, value in self.params().items() if name in given}

    def hashed_params(self) -> dict[str, Any]:
        """Returns the keys that change what is computed, without the seed."""
        return {k: v for k, v in self.params().items() if k not in _NOT_HASHED}

    def config_hash(self) -> str:
        """Returns 12 hex digits over ``hashed_params``."""
        text = json.dumps(self.hashed_params(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
