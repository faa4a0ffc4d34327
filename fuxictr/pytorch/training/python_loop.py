"""``model.fit``, ``evaluate`` and ``predict``, for Python loops as FuxiCTR's users write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.pytorch.checkpoint.weights import load_weights as read_weights
from fuxictr.pytorch.checkpoint.weights import save_weights as write_weights
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_device
from fuxictr.pytorch.training.evaluator import Evaluator
from fuxictr.pytorch.training.fit_result import FitResult
from fuxictr.pytorch.training.trainer import Trainer


def fit(
    model: BaseModel,
    train: EpochIterator,
    valid: EpochIterator | None,
    params: Mapping[str, Any],
    is_within: tuple[str, ...] = (),
) -> FitResult:
    """Trains a model with the keys that it was built with; ``params`` win over them.

    The best weights go to <model_root>/<dataset_id>/<model_id>.model, or stay in memory if no
    ``model_root`` was given.
    """
    check_batches(train)
    if valid is not None:
        check_batches(valid)
    config = _train_config(model, {**params, "batch_size": train.batch_size})
    verbose = {**model._params, **params}.get("verbose", 1)
    trainer = Trainer(
        model, config, _device(model), _checkpoint(model, params), verbose, is_within=is_within
    )
    return trainer.fit(train, valid)


def evaluate(
    model: BaseModel, batches: EpochIterator, metrics: Sequence[str] | None
) -> dict[str, float]:
    """Returns metrics of all rows, without any override of ``evaluate``."""
    check_batches(batches)
    return _engine(model).plain_evaluate(batches, metrics)


def predict(model: BaseModel, batches: EpochIterator) -> np.ndarray:
    """Returns the scores (rows,) of all rows in order, without any override of ``predict``."""
    check_batches(batches)
    return _engine(model).plain_predict(batches)


def save_weights(model: BaseModel, path: str | Path) -> None:
    """Writes the weights to a file, which appears completely or not at all."""
    write_weights(model.state_dict(), path)


def load_weights(model: BaseModel, path: str | Path) -> None:
    """Reads the weights of a file; CheckpointError where names or shapes differ."""
    read_weights(model, path)


def check_batches(batches: object) -> None:
    """Raises ConfigError for batches that are not those of RankDataLoader."""
    if not isinstance(batches, EpochIterator):
        raise ConfigError(
            f"batches: found {type(batches).__name__}, allowed: what RankDataLoader gives; other "
            "loaders cannot be trained from yet"
        )


def _engine(model: BaseModel) -> Evaluator:
    """Returns what trains or evaluates the model at present, or a new Evaluator."""
    engine = model.engine()
    if isinstance(engine, Evaluator):
        return engine
    device = _device(model)
    names = ("evaluate", "predict")  # an override may be what asks
    return Evaluator(model.to(device), _train_config(model, {}), device, is_within=names)


def _device(model: BaseModel) -> torch.device:
    """Returns the device that key ``gpu`` names; without it that of the weights."""
    gpu = model._params.get("gpu")
    return model.device if gpu is None else get_device(gpu)


def _train_config(model: BaseModel, params: Mapping[str, Any]) -> TrainConfig:
    """Returns the keys of the training that the model was built with, or ``params``."""
    given = {**model.training_keys(), **params}
    known = {k: v for k, v in given.items() if k in TrainConfig.keys()}
    return TrainConfig.from_params(known, where=f"{type(model).__name__}.fit")


def _checkpoint(model: BaseModel, params: Mapping[str, Any]) -> Path | None:
    root = {**model._params, **params}.get("model_root")
    if root is None:
        return None
    folder = Path(root).expanduser() / model.feature_map.dataset_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{model.model_id}.model"
