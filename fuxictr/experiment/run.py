"""One run: config -> data -> model -> training -> metrics -> a row of results."""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr import __version__
from fuxictr.config import ExperimentConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.results import append_line, append_result
from fuxictr.experiment.zoo import ROOT
from fuxictr.features import FeatureMap
from fuxictr.metrics import format_metrics
from fuxictr.preprocess import EncodedDataset, prepare_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.pytorch.trainer import FitResult, Trainer
from fuxictr.utils import print_to_json, set_logger

logger = logging.getLogger(__name__)

RESULTS = ROOT / "results" / "results.jsonl"


def run_experiment(
    config: ExperimentConfig,
    model_class: type,
    device: torch.device,
    csv_file: Path | None = None,
    results_file: Path | None = None,
    rebuild: bool = False,
) -> dict[str, Any]:
    """Trains and evaluates one expid, and records what came out.

    Args:
        config: the checked config.
        model_class: its model.
        device: where to train.
        csv_file: file of FuxiCTR's result lines, null = none.
        results_file: the results store, null = none.
        rebuild: encode the raw data anew in any case.

    Returns:
        The row that was appended to the results store.

    Raises:
        FuxiCTRError: a config, data or checkpoint that cannot be used.
    """
    start = time.perf_counter()
    set_logger({"debug_mode": config.run.debug_mode}, config.log_path)
    shown = {key: value for key, value in config.params().items() if key in config.origins}
    logger.info("Params: %s", print_to_json(shown))
    seed_everything(config.train.seed)
    encoded = load_dataset(config, rebuild)
    feature_map = select_features(config, encoded)
    model = build_model(config, model_class, feature_map)
    logger.info("Total number of parameters: %d.", model.count_parameters())
    loader = RankDataLoader(
        feature_map,
        train_data=encoded.paths["train"],
        valid_data=encoded.paths.get("valid"),
        test_data=encoded.paths.get("test"),
        batch_size=config.train.batch_size,
        shuffle=config.train.shuffle,
        seed=config.train.seed,
        device=device,
        streaming=config.train.streaming,
        shuffle_window=config.train.shuffle_window,
        num_workers=config.run.num_workers,
        group_id=config.train.group_id,
    )
    train, valid, test = loader.make_iterator()
    trainer = Trainer(
        model,
        config.train,
        device,
        config.checkpoint_path,
        config.run.verbose,
        encoded.encoders_hash,
    )
    fitted = trainer.fit(train, valid)
    scores: dict[str, dict[str, float]] = {}
    if valid is not None:
        logger.info("****** Validation evaluation ******")
        scores["valid"] = trainer.evaluate(valid, "Validate")
    if test is not None:
        logger.info("******** Test evaluation ********")
        scores["test"] = trainer.evaluate(test, "Test")
    row = _result_row(config, encoded, model, fitted, scores, device)
    row["seconds"] = round(time.perf_counter() - start, 3)
    if results_file is not None:
        append_result(results_file, row)
    if csv_file is not None:
        append_line(csv_file, _csv_line(config, scores))
    return row


def load_dataset(config: ExperimentConfig, rebuild: bool = False) -> EncodedDataset:
    """Builds the encoded dataset, or reuses it where config and sources are unchanged."""
    return prepare_dataset(config.dataset, config.data_dir, rebuild, config.run.verbose)


def select_features(config: ExperimentConfig, encoded: EncodedDataset) -> FeatureMap:
    """Returns the feature map with use_features and feature_specs applied."""
    return encoded.feature_map.select(config.run.use_features, config.run.feature_specs)


def build_model(config: ExperimentConfig, model_class: type, feature_map: FeatureMap) -> BaseModel:
    """Builds the model of a config.

    Raises:
        ConfigError: the config asks for GEN and the model has no generator.
    """
    model = model_class(feature_map, **config.params())
    has_generator = any(isinstance(module, GEN) for module in model.modules())
    if config.variant == "gen" and not has_generator:
        raise ConfigError(
            f"expid '{config.expid}': the config asks for GEN, but {model_class.__name__} builds "
            "no generator; see build_generators in CONTRIBUTING.md"
        )
    return model


def _result_row(
    config: ExperimentConfig,
    encoded: EncodedDataset,
    model: BaseModel,
    fitted: FitResult,
    scores: dict[str, dict[str, float]],
    device: torch.device,
) -> dict[str, Any]:
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": config.run.model,
        "expid": config.expid,
        "variant": config.variant,
        "dataset_id": config.dataset.dataset_id,
        "seed": config.train.seed,
        "config_hash": config.config_hash(),
        "data_hash": encoded.data_hash,
        "code_version": code_version(),
        "code_hash": code_hash(),
        **scores,
        "parameters": model.count_parameters(),
        "epochs": fitted.num_epochs,
        "train_rows_per_second": round(fitted.rows_per_second, 1),
        "train_seconds": round(fitted.train_seconds, 3),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "checkpoint": str(config.checkpoint_path),
    }


def _csv_line(config: ExperimentConfig, scores: dict[str, dict[str, float]]) -> str:
    parts = [
        f" {datetime.now().strftime('%Y%m%d-%H%M%S')}",
        f"[command] python {' '.join(sys.argv)}",
        f"[exp_id] {config.expid}",
        f"[dataset_id] {config.dataset.dataset_id}",
        "[train] N.A.",
        f"[val] {format_metrics(scores.get('valid', {})) or 'N.A.'}",
        f"[test] {format_metrics(scores.get('test', {})) or 'N.A.'}",
    ]
    return ",".join(parts)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


@functools.cache
def code_version() -> str:
    """Returns the package's version with the git commit, where there is one, and +dirty."""
    try:
        described = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}-{described.stdout.strip()}"


@functools.cache
def code_hash() -> str:
    """Returns 12 hex digits over the sources of the package and the model zoo."""
    digest = hashlib.sha256()
    for folder in ("fuxictr", "model_zoo"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
