"""One run: config -> data -> model -> training -> metrics -> a row of results."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import platform
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr.config import ExperimentConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.environment import code_version, device_record, environment_record
from fuxictr.experiment.memory import PeakMemory
from fuxictr.experiment.monitoring import collapse_points, make_callbacks
from fuxictr.experiment.recorded_config import config_record
from fuxictr.experiment.results import (
    append_line,
    append_result,
    check_appendable,
    find_finished,
    read_results,
)
from fuxictr.experiment.resuming import RunLife, state_files, what_is_trained
from fuxictr.experiment.zoo import ROOT
from fuxictr.features import FeatureMap
from fuxictr.files import file_lock, file_sha256, remove_leftovers
from fuxictr.metrics import format_metrics
from fuxictr.preprocess import EncodedDataset, check_current, prepare_dataset
from fuxictr.pytorch.dataloaders import EpochIterator, RankDataLoader
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import keep_freed_memory, seed_everything
from fuxictr.pytorch.trainer import FitResult, Trainer
from fuxictr.pytorch.training_state import TrainingState
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
    skip_finished: bool = False,
    run_id: str | None = None,
    jobs: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains and evaluates one expid, and records what came out.

    Two processes never train into the same files: the second one waits for the first.

    Args:
        config: the checked config.
        model_class: its model.
        device: where to train.
        csv_file: file of FuxiCTR's result lines, null = none.
        results_file: the results store, null = none.
        rebuild: encode the raw data anew in any case.
        skip_finished: return the row that the results store has of the same expid, seed, config,
            data and code, where it has one.
        run_id: name of the run in the results store; null = a random one.
        jobs: runs that share the device at a time, which its times are to be read with.
        resume: go on from the state that an interrupted run of the same config, data and code left,
            where there is one; where it was finished after all, return its row. With
            ``skip_finished`` a state that does not fit is passed over, else it is an error.

    Returns:
        The row that was appended to the results store, or found there.

    Raises:
        FuxiCTRError: a config, data or checkpoint that cannot be used.
    """
    start = time.perf_counter()
    row = identity(config, model_class)  # of the code as it was when it was imported
    set_logger({"debug_mode": config.run.debug_mode}, config.log_path)
    shown = {key: value for key, value in config.params().items() if key in config.origins}
    logger.info("Params: %s", print_to_json(shown))
    stem = config.output_stem

    def say() -> None:
        logger.info("Waiting for another process that trains %s", stem)

    for path in (results_file, csv_file):
        if path is not None:
            check_appendable(path)  # not after hours of training
    with file_lock(stem.with_name(f".{stem.name}.lock"), say):
        remove_leftovers(config.checkpoint_path)
        encoded = load_dataset(config, rebuild)
        row["data_hash"] = encoded.data_hash
        row["encoded"] = {name: str(path) for name, path in encoded.paths.items()}
        row["environment"]["device"] = device_record(device)
        files = state_files(config)
        found = _find_finished(config, row, results_file, skip_finished, resume)
        if found is not None:
            logger.info("Already in %s, run on %s", results_file, found["time"])
            files.remove()
            return found
        life = RunLife(what_is_trained(config, row), device_name(device), start, run_id)
        state = life.find_state(files, anew_otherwise=skip_finished) if resume else None
        row |= {"run_id": life.run_id, "jobs": jobs, "resumes": life.resumes}
        row |= _train(config, model_class, device, encoded, life, state)
        row["seconds"] = round(life.total_seconds(), 3)
        if results_file is not None:
            append_result(results_file, row)
        if csv_file is not None:
            append_line(csv_file, _csv_line(config, row))
        files.remove()
    return row


def identity(config: ExperimentConfig, model_class: type) -> dict[str, Any]:
    """Returns how a row of results begins: what is run, without what comes of it."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": config.run.model,
        "expid": config.expid,
        "variant": config.variant,
        "dataset_id": config.dataset.dataset_id,
        "seed": config.train.seed,
        "config_hash": config.config_hash(),
        "data_hash": None,
        "code_version": code_version(),
        "code_hash": code_hash(model_class),
        "config": config_record(config, model_class),
        "environment": environment_record(),
    }


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
            "no generator; see docs/add_a_backbone.md"
        )
    return model


def _find_finished(
    config: ExperimentConfig,
    row: dict[str, Any],
    results_file: Path | None,
    skip_finished: bool,
    resume: bool,
) -> dict[str, Any] | None:
    """Returns the row of the same run where the results store has it, and it is to stand for it.

    One that was to be gone on with stands for itself only if its weights are still there.
    """
    if results_file is None or not (skip_finished or resume):
        return None
    found = find_finished(read_results(results_file, missing_ok=True), row)
    if found is None or skip_finished:
        return found
    path = config.checkpoint_path
    is_there = path.is_file() and file_sha256(path) == found.get("checkpoint_sha256")
    return found if is_there else None


def _train(
    config: ExperimentConfig,
    model_class: type,
    device: torch.device,
    encoded: EncodedDataset,
    life: RunLife,
    state: TrainingState | None,
) -> dict[str, Any]:
    """Returns what the training gave: the row of results but for what was run."""
    peak = PeakMemory(device)
    keep_freed_memory()
    seed_everything(config.train.seed)
    feature_map = select_features(config, encoded)
    model = build_model(config, model_class, feature_map)
    logger.info("Total number of parameters: %d.", model.count_parameters())
    train, valid, test = _make_loader(config, encoded, feature_map, device).make_iterator()
    check_current(encoded, config.dataset, config.data_dir)
    callbacks = make_callbacks(config, model, valid, peak.paused)
    trainer = Trainer(
        model,
        config.train,
        device,
        config.checkpoint_path,
        config.run.verbose,
        encoded.encoders_hash,
        callbacks,
    )
    scores: dict[str, dict[str, float]] = {}
    with life.saving(trainer, config):
        fitted = trainer.fit(train, valid, state)
        if valid is not None:
            logger.info("****** Validation evaluation ******")
            scores["valid"] = _validate(trainer, fitted, valid)
        if test is not None:
            logger.info("******** Test evaluation ********")
            scores["test"] = trainer.evaluate(test, "Test", skip_undefined=True)
    splits = {"train": train, "valid": valid, "test": test}
    host_peak, gpu_peak = peak.read()
    return {
        **scores,
        "parameters": model.count_parameters(),
        "epochs": fitted.num_epochs,
        "rows": {name: split.num_rows for name, split in splits.items() if split is not None},
        "history": fitted.history,
        "collapse": collapse_points(callbacks),
        "train_rows_per_second": round(fitted.rows_per_second, 1),
        "train_seconds": round(fitted.train_seconds, 3),
        "peak_memory_bytes": host_peak,
        "peak_gpu_bytes": gpu_peak,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "checkpoint": str(config.checkpoint_path),
        "checkpoint_sha256": file_sha256(config.checkpoint_path),
    }


def _make_loader(
    config: ExperimentConfig, encoded: EncodedDataset, feature_map: FeatureMap, device: torch.device
) -> RankDataLoader:
    return RankDataLoader(
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


def _validate(trainer: Trainer, fitted: FitResult, valid: EpochIterator) -> dict[str, float]:
    """Returns the validation metrics of the final weights, measured again only where needed.

    The best weights were restored, and what they were chosen for was measured when they were.
    """
    if not trainer.config.save_best_only:
        return trainer.evaluate(valid, "Validate")
    logger.info("[Metrics] %s", format_metrics(fitted.valid))
    return fitted.valid


def _csv_line(config: ExperimentConfig, row: dict[str, Any]) -> str:
    parts = [
        f" {datetime.now().strftime('%Y%m%d-%H%M%S')}",
        f"[command] python {' '.join(sys.argv)}",
        f"[exp_id] {config.expid}",
        f"[dataset_id] {config.dataset.dataset_id}",
        "[train] N.A.",
        f"[val] {format_metrics(row.get('valid', {})) or 'N.A.'}",
        f"[test] {format_metrics(row.get('test', {})) or 'N.A.'}",
    ]
    return ",".join(parts)


def device_name(device: torch.device) -> str:
    """Returns what a row of results calls a device, as ``cuda:0 (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


@functools.cache
def code_hash(model_class: type) -> str:
    """Returns 12 hex digits over the sources that a run of the model is computed by.

    They are the package, without what draws, analyses and schedules, and the model's own folder, so
    that neither a new figure nor another backbone makes finished runs stale.
    """
    package = ROOT / "fuxictr"
    outside = [package / "analysis", package / "plotting", package / "experiment"]
    files = [f for f in package.rglob("*.py") if not any(o in f.parents for o in outside)]
    own = Path(inspect.getfile(model_class)).resolve().parent
    digest = hashlib.sha256()
    for folder, found in ((package, [*files, Path(__file__).resolve()]), (own, own.rglob("*.py"))):
        for file in sorted(found):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
