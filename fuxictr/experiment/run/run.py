"""One run: config -> data -> model -> training -> metrics -> a row of results."""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr.config import ExperimentConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.results.checkpoint_config import make_note
from fuxictr.experiment.results.environment import (
    code_version,
    device_record,
    environment_record,
    threads_record,
)
from fuxictr.experiment.results.identity import run_key
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import IDENTITY, append_line, append_result
from fuxictr.experiment.run.files import RunOptions, csv_line, find_row, own_files
from fuxictr.experiment.run.launch import check_same, describe_devices, mute_warnings_unless
from fuxictr.experiment.run.memory import PeakMemory
from fuxictr.experiment.run.monitors import collapse_points, make_callbacks
from fuxictr.experiment.run.resume import RunSession, resume_identity, state_files
from fuxictr.experiment.zoo.models import ROOT, ZOO
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
from fuxictr.pytorch.sharding.tables import defers_tables
from fuxictr.pytorch.torch_utils import keep_freed_memory, seed_everything
from fuxictr.pytorch.training.trainer import FitResult, Trainer
from fuxictr.pytorch.training.work import adapt_threads
from fuxictr.utils import set_rank_logger

logger = logging.getLogger(__name__)

# Beside an installed package there is no repository.
RESULTS = (ROOT if ZOO.is_dir() else Path.cwd()) / "results" / "results.jsonl"
_HEADLINES = {
    "valid": "****** Validation evaluation ******",
    "test": "******** Test evaluation ********",
}
_DEFAULTS = RunOptions()


def run_experiment(
    config: ExperimentConfig,
    model_class: type,
    device: torch.device,
    options: RunOptions = _DEFAULTS,
) -> RunRecord:
    """Trains and evaluates one expid; returns its row of results, new or found, on all processes.

    A second process that would train into the same files waits for the first. The processes of a
    torchrun job are one run: each calls this inside ``ranks.joined``, and rank 0 logs and writes
    all files.

    Raises:
        FuxiCTRError: a config, data or checkpoint that cannot be used.
    """
    start = time.perf_counter()
    ranks = current_ranks()
    options = replace(options, resume=options.resume or was_restarted())
    row = identity(config, model_class)  # of the code as it was when it was imported
    with contextlib.ExitStack() as held:
        with ranks.raise_on_any_rank():
            if ranks.is_first:
                held.enter_context(own_files(config, options))
            else:
                set_rank_logger(ranks.rank)
        encoded = _prepare(ranks, config, options.rebuild)
        row = replace(
            row,
            data_hash=encoded.data_hash,
            encoded={name: str(path) for name, path in encoded.paths.items()},
            environment={**(row.environment or {}), "device": device_record(device)},
        )
        same = {name: getattr(row, name) for name in ("seed", *IDENTITY)}
        check_same(ranks, {**same, "torch": str(torch.__version__), "device": device.type})

        finished = ranks.from_rank_zero(lambda: _find_finished(config, row, options))
        if finished is not None:
            return RunRecord.from_json(finished)
        peak = PeakMemory(device)
        model, feature_map = _make_model(ranks, config, model_class, device, encoded)
        row = replace(row, environment={**(row.environment or {}), "threads": threads_record()})
        devices = describe_devices(ranks.gather_texts(device_name(device)))
        session = RunSession(resume_identity(config, row), devices, start, options.run_id)
        state = None
        if options.resume:
            restart_on_error = options.skip_finished or was_restarted()
            state = session.find_state(state_files(config), restart_on_error)
        row = replace(row, run_id=session.run_id, jobs=options.jobs, resumes=session.resumes)
        row = replace(row, processes=ranks.size, device=devices)
        note = make_note(config, model_class, row, encoded.encoders_hash)
        with ranks.raise_on_any_rank():
            splits = _make_loader(config, encoded, feature_map, device).make_iterator()
            check_current(encoded, config.dataset, config.data_dir)
        trained = _train(config, model, device, splits, peak, note, session, state)
        row = replace(row, **trained, seconds=round(session.total_seconds(), 3))
        return RunRecord.from_json(ranks.from_rank_zero(lambda: _record(config, row, options)))


def identity(config: ExperimentConfig, model_class: type) -> RunRecord:
    """Returns the beginning of a row of results: what is run, without its outcome."""
    return RunRecord(
        **vars(run_key(config, model_class)),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=config.run.model,
        variant=config.variant,
        seed=config.train.seed,
        code_version=code_version(),
        environment=environment_record(),
    )


def load_dataset(
    config: ExperimentConfig, rebuild: bool = False, verbose: int | None = None
) -> EncodedDataset:
    """Builds the encoded dataset, or reuses it if config and sources are unchanged.

    ``rebuild`` builds it in any case. ``verbose`` = 0 shows no progress bars; None = as the config.
    """
    shown = config.run.verbose if verbose is None else verbose
    return prepare_dataset(config.dataset, config.data_dir, rebuild, shown)


def select_features(config: ExperimentConfig, encoded: EncodedDataset) -> FeatureMap:
    """Returns the feature map with use_features and feature_specs applied."""
    chosen = encoded.feature_map.select(config.run.use_features, config.run.feature_specs)
    chosen.default_emb_dim = config.model_params.get("embedding_dim")
    chosen.group_id = config.train.group_id
    chosen.set_tasks(config.train.task)
    return chosen


def build_model(config: ExperimentConfig, model_class: type, feature_map: FeatureMap) -> BaseModel:
    """Builds the model of a config; ConfigError where it asks for GEN and has no generator."""
    model = model_class(feature_map, **config.given_params())
    has_generator = any(isinstance(module, GEN) for module in model.modules())
    if config.variant == "gen" and not has_generator:
        raise ConfigError(
            f"expid '{config.expid}': the config asks for GEN, but {model_class.__name__} builds "
            "no generator; see docs/add_a_backbone.md"
        )
    return model


def _prepare(ranks: Ranks, config: ExperimentConfig, rebuild: bool) -> EncodedDataset:
    """Returns the encoded dataset, which one process of each machine builds if that is needed."""
    encoded: EncodedDataset | None = None
    verbose = None if ranks.is_first else 0
    with ranks.raise_on_any_rank(), mute_warnings_unless(ranks.is_first):
        if ranks.local_rank == 0:
            encoded = load_dataset(config, rebuild, verbose)
    with ranks.raise_on_any_rank(), mute_warnings_unless(ranks.is_first):
        return encoded or load_dataset(config, verbose=verbose)


def _find_finished(
    config: ExperimentConfig, row: RunRecord, options: RunOptions
) -> dict[str, Any] | None:
    """Returns the row to use in the place of this run; logs its metrics as the run did."""
    found = find_row(config, row, options)
    if found is None:
        return None
    logger.info("Already in %s, run on %s", options.results_file, found.time)
    for split, headline in _HEADLINES.items():
        metrics = getattr(found, split)
        if metrics:
            logger.info(headline)
            logger.info("[Metrics] %s", format_metrics(metrics))
    state_files(config).remove()
    return found.to_json()


def _record(config: ExperimentConfig, row: RunRecord, options: RunOptions) -> dict[str, Any]:
    """Writes the row of a finished run, and returns it as JSON."""
    path = config.checkpoint_path
    row = replace(row, checkpoint=str(path), checkpoint_sha256=file_sha256(path))
    if options.results_file is not None:
        append_result(options.results_file, row)
    if options.csv_file is not None:
        append_line(options.csv_file, csv_line(config, row))
    state_files(config).remove()
    return row.to_json()


def _make_model(
    ranks: Ranks,
    config: ExperimentConfig,
    model_class: type,
    device: torch.device,
    encoded: EncodedDataset,
) -> tuple[BaseModel, FeatureMap]:
    """Builds the model, from the run's seed on, and sets the number of threads for it."""
    keep_freed_memory()
    seed_everything(config.train.seed)
    with ranks.raise_on_any_rank():
        feature_map = select_features(config, encoded)
        width = int(config.params().get("embedding_dim") or 1)
        feature_map.defer_tables = defers_tables(feature_map, width, config.train, ranks)
        model = build_model(config, model_class, feature_map)
        check_penalties(model, config.train)
        adapt_threads(model, config.train.batch_size, device)
        logger.info("Total number of parameters: %d.", model.count_parameters())
    return model, feature_map


def _train(
    config: ExperimentConfig,
    model: BaseModel,
    device: torch.device,
    splits: Sequence[EpochIterator | None],
    peak: PeakMemory,
    note: dict[str, Any],
    session: RunSession,
    state: TrainingState | None,
) -> dict[str, Any]:
    """Returns the outcome of the training for the row of results."""
    ranks = current_ranks()
    train, valid, test = splits
    assert train is not None
    callbacks = make_callbacks(config, model, valid, peak.paused)
    verbose = config.run.verbose if ranks.is_first else 0
    with ranks.raise_on_any_rank():
        path = config.checkpoint_path
        trainer = Trainer(model, config.train, device, path, verbose, note, callbacks)
    with session.saving(trainer, config):
        fitted = trainer.fit(train, valid, state)
        scores = _evaluate(trainer, fitted, valid, test)
    host_peak, gpu_peak = peak.read_largest(ranks)
    return {
        **scores,
        "parameters": model.count_parameters(),
        "epochs": fitted.num_epochs,
        "rows": {
            name: split.num_rows
            for name, split in zip(("train", "valid", "test"), splits, strict=True)
            if split is not None
        },
        "history": fitted.history,
        "collapse": collapse_points(callbacks),
        "train_rows_per_second": round(fitted.rows_per_second, 1),
        "train_seconds": round(fitted.train_seconds, 3),
        "peak_memory_bytes": host_peak,
        "peak_gpu_bytes": gpu_peak,
        "threads": torch.get_num_threads(),
        **({"hooks": trainer.hooks} if trainer.hooks else {}),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _evaluate(
    trainer: Trainer, fitted: FitResult, valid: EpochIterator | None, test: EpochIterator | None
) -> dict[str, dict[str, float]]:
    scores = {}
    if valid is not None:
        logger.info(_HEADLINES["valid"])
        if trainer.config.save_best_only:  # measured when the restored weights were chosen
            scores["valid"] = fitted.valid
            logger.info("[Metrics] %s", format_metrics(fitted.valid))
        else:
            scores["valid"] = trainer.evaluate(valid, "Validate")
    if test is not None:
        logger.info(_HEADLINES["test"])
        scores["test"] = trainer.evaluate(test, "Test", skip_undefined=True)
    return scores


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


def device_name(device: torch.device) -> str:
    """Returns what a row of results calls a device, as ``cuda:0 (NVIDIA H200)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
