"""One run: config -> data -> model -> training -> metrics -> a row of results."""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr.config import ExperimentConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.results.checkpoint_config import make_note
from fuxictr.experiment.results.code_hash import model_hash
from fuxictr.experiment.results.environment import code_version, device_record, environment_record
from fuxictr.experiment.results.identity import run_key
from fuxictr.experiment.results.store import IDENTITY, append_line, append_result
from fuxictr.experiment.run.files import csv_line, find_row, own_files
from fuxictr.experiment.run.launch import check_same, describe_devices, first_says, silent_unless
from fuxictr.experiment.run.memory import PeakMemory
from fuxictr.experiment.run.monitors import collapse_points, make_callbacks
from fuxictr.experiment.run.resume import RunLife, state_files, what_is_trained
from fuxictr.experiment.zoo.models import ROOT
from fuxictr.features import FeatureMap
from fuxictr.files import file_sha256
from fuxictr.metrics import format_metrics
from fuxictr.preprocess import EncodedDataset, check_current, prepare_dataset
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.dataloaders import EpochIterator, RankDataLoader, Share
from fuxictr.pytorch.distributed.ranks import Ranks, current_ranks, was_restarted
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.models.penalty_groups import check_penalties
from fuxictr.pytorch.sharding.tables import may_shard
from fuxictr.pytorch.torch_utils import keep_freed_memory, seed_everything
from fuxictr.pytorch.training.trainer import FitResult, Trainer
from fuxictr.utils import set_rank_logger

logger = logging.getLogger(__name__)

RESULTS = ROOT / "results" / "results.jsonl"
_HEADLINES = {
    "valid": "****** Validation evaluation ******",
    "test": "******** Test evaluation ********",
}


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

    Two processes never train into the same files: the second one waits for the first. Those that
    torchrun started as one job are one run: each calls this, with ``ranks.joined``, and the first
    one logs and writes all files.

    Args:
        config: the checked config.
        model_class: its model.
        device: where this process trains.
        csv_file: file of FuxiCTR's result lines, null = none.
        results_file: the results store, null = none.
        rebuild: encode the raw data anew in any case.
        skip_finished: return the row that the results store has of the same expid, seed, config,
            data and code, where it has one.
        run_id: name of the run in the results store; null = a random one.
        jobs: runs that share the device at a time, which its times are to be read with.
        resume: go on from the state that an interrupted run of the same config, data and code left,
            where there is one; where it was finished after all, return its row. With
            ``skip_finished`` a state that does not fit is passed over, else it is an error. A
            process that torchrun started again does so unasked.

    Returns:
        The row that was appended to the results store, or found there; on all processes.

    Raises:
        FuxiCTRError: a config, data or checkpoint that cannot be used.
    """
    start = time.perf_counter()
    ranks = current_ranks()
    row = identity(config, model_class)  # of the code as it was when it was imported
    with contextlib.ExitStack() as held:
        with ranks.together():
            if ranks.is_first:
                held.enter_context(own_files(config, csv_file, results_file))
            else:
                set_rank_logger(ranks.rank)
        encoded = _prepare(ranks, config, rebuild)
        row["data_hash"] = encoded.data_hash
        row["encoded"] = {name: str(path) for name, path in encoded.paths.items()}
        row["environment"]["device"] = device_record(device)
        same = {"seed": row["seed"], **{name: row[name] for name in IDENTITY}}
        check_same(ranks, {**same, "torch": str(torch.__version__), "device": device.type})
        files = state_files(config)
        resume = resume or was_restarted()

        def find() -> dict[str, Any] | None:
            found = find_row(config, row, results_file, skip_finished, resume)
            if found is not None:
                logger.info("Already in %s, run on %s", results_file, found["time"])
                _say_metrics(found)
                files.remove()
            return found

        found = first_says(ranks, find)
        if found is not None:
            return found
        devices = describe_devices(ranks.gather_texts(device_name(device)))
        life = RunLife(what_is_trained(config, row), devices, start, run_id)
        state = life.find_state(files, skip_finished or was_restarted()) if resume else None
        row |= {"run_id": life.run_id, "jobs": jobs, "resumes": life.resumes}
        row |= {"processes": ranks.size, "device": devices}
        note = make_note(config, model_class, row, encoded.encoders_hash)
        note["model_hash"] = model_hash(model_class)
        row |= _train(config, model_class, device, encoded, note, life, state)
        row["seconds"] = round(life.total_seconds(), 3)

        def record() -> dict[str, Any]:
            row["checkpoint"] = str(config.checkpoint_path)
            row["checkpoint_sha256"] = file_sha256(config.checkpoint_path)
            if results_file is not None:
                append_result(results_file, row)
            if csv_file is not None:
                append_line(csv_file, csv_line(config, row))
            files.remove()
            return row

        return first_says(ranks, record)


def identity(config: ExperimentConfig, model_class: type) -> dict[str, Any]:
    """Returns how a row of results begins: what is run, without what comes of it."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": config.run.model,
        "variant": config.variant,
        "seed": config.train.seed,
        **run_key(config, model_class),
        "code_version": code_version(),
        "environment": environment_record(),
    }


def load_dataset(
    config: ExperimentConfig, rebuild: bool = False, verbose: int | None = None
) -> EncodedDataset:
    """Builds the encoded dataset, or reuses it where config and sources are unchanged.

    Args:
        config: the config.
        rebuild: build it in any case.
        verbose: 0 shows no progress bars; null = as the config says.
    """
    shown = config.run.verbose if verbose is None else verbose
    return prepare_dataset(config.dataset, config.data_dir, rebuild, shown)


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


def _prepare(ranks: Ranks, config: ExperimentConfig, rebuild: bool) -> EncodedDataset:
    """Returns the encoded dataset, which one process of each machine builds where that is due."""
    encoded: EncodedDataset | None = None
    verbose = None if ranks.is_first else 0
    with ranks.together(), silent_unless(ranks.is_first):
        if ranks.local_rank == 0:
            encoded = load_dataset(config, rebuild, verbose)
    with ranks.together(), silent_unless(ranks.is_first):
        if encoded is None:
            encoded = load_dataset(config, verbose=verbose)
    assert encoded is not None
    return encoded


def _train(
    config: ExperimentConfig,
    model_class: type,
    device: torch.device,
    encoded: EncodedDataset,
    note: dict[str, Any],
    life: RunLife,
    state: TrainingState | None,
) -> dict[str, Any]:
    """Returns what the training gave: the row of results but for what was run."""
    ranks = current_ranks()
    peak = PeakMemory(device)
    keep_freed_memory()
    seed_everything(config.train.seed)
    with ranks.together():
        feature_map = select_features(config, encoded)
        feature_map.defer_tables = may_shard(config.train, ranks)
        model = build_model(config, model_class, feature_map)
        check_penalties(model, config.train)
        logger.info("Total number of parameters: %d.", model.count_parameters())
        train, valid, test = _make_loader(config, encoded, feature_map, device).make_iterator()
        check_current(encoded, config.dataset, config.data_dir)
    callbacks = make_callbacks(config, model, valid, peak.paused)
    with ranks.together():
        trainer = Trainer(
            model,
            config.train,
            device,
            config.checkpoint_path,
            config.run.verbose if ranks.is_first else 0,
            note,
            callbacks,
        )
    scores: dict[str, dict[str, float]] = {}
    with life.saving(trainer, config):
        fitted = trainer.fit(train, valid, state)
        if valid is not None:
            logger.info(_HEADLINES["valid"])
            scores["valid"] = _validate(trainer, fitted, valid)
        if test is not None:
            logger.info(_HEADLINES["test"])
            scores["test"] = trainer.evaluate(test, "Test", skip_undefined=True)
    splits = {"train": train, "valid": valid, "test": test}
    host_peak, gpu_peak = peak.read_largest(ranks)
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
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _make_loader(
    config: ExperimentConfig, encoded: EncodedDataset, feature_map: FeatureMap, device: torch.device
) -> RankDataLoader:
    ranks = current_ranks()
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
        share=Share(ranks.rank, ranks.size),
    )


def _say_metrics(row: dict[str, Any]) -> None:
    """Logs the metrics of a finished run as the run did."""
    for split, headline in _HEADLINES.items():
        if row.get(split):
            logger.info(headline)
            logger.info("[Metrics] %s", format_metrics(row[split]))


def _validate(trainer: Trainer, fitted: FitResult, valid: EpochIterator) -> dict[str, float]:
    """Returns the validation metrics of the final weights, measured again only where needed.

    The best weights were restored, and what they were chosen for was measured when they were.
    """
    if not trainer.config.save_best_only:
        return trainer.evaluate(valid, "Validate")
    logger.info("[Metrics] %s", format_metrics(fitted.valid))
    return fitted.valid


def device_name(device: torch.device) -> str:
    """Returns what a row of results calls a device, as ``cuda:0 (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
