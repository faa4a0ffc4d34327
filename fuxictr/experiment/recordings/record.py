"""Recordings of trained runs, reused while checkpoint, sample and code stay the same.

The arrays of one run per expid are in ``figure/raw_data/<dataset_id>/<expid>/records.h5``. As
arrays are large, only the numbers of other seeds are kept, in ``seed<S>.json`` beside it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fuxictr import analysis
from fuxictr.analysis.records import RecordMeta, Records, load_records, save_records
from fuxictr.analysis.sample import Sample
from fuxictr.analysis.sampling import draw_sample, record_sample
from fuxictr.analysis.summary import RunSummary, analysis_summary
from fuxictr.config import ExperimentConfig
from fuxictr.errors import CheckpointError, DataError, FuxiCTRError
from fuxictr.experiment.recordings.trained import TrainedRun
from fuxictr.experiment.results.code_hash import code_hash
from fuxictr.experiment.results.config_record import config_folder, train_command
from fuxictr.experiment.run.run import build_model, load_dataset, select_features
from fuxictr.features import FeatureMap
from fuxictr.files import file_sha256, write_atomically
from fuxictr.preprocess import EncodedDataset, find_built
from fuxictr.preprocess.dataset.build import find_stale_reason
from fuxictr.preprocess.dataset.finished import check_unchanged
from fuxictr.progress import progress_bar
from fuxictr.pytorch.checkpoint.weights import load_weights
from fuxictr.pytorch.dataloaders import read_encoded
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_device

logger = logging.getLogger(__name__)

# With the sample, what a recording depends on.
_HASHES = ("checkpoint_sha256", "code_hash", "data_hash", "config_hash")


def make_recordings(
    runs: Sequence[TrainedRun], gpu: int | str, sample: Sample, again: bool = False
) -> dict[TrainedRun, str]:
    """Records the runs without an up-to-date recording, or all with ``again``.

    Returns run -> reason, for runs that cannot be recorded.
    """
    due = [run for run in runs if again or not is_recorded(run, sample)]
    current = len(runs) - len(due)
    hint = " (--rerecord makes them again)" if current else ""
    print(f"Recordings: {current} are up to date{hint}, {len(due)} to make.", flush=True)
    problems = {}
    with progress_bar(len(due), "Recording", unit="run") as advance:
        for run in due:
            try:
                record_run(run, gpu, sample)
            except FuxiCTRError as error:
                problems[run] = str(error)
            advance(1)
    return problems


def is_recorded(run: TrainedRun, sample: Sample) -> bool:
    """Returns whether the run has a recording of this sample by the present code."""
    if run.num_valid_rows is None:
        return False
    num_rows = min(sample.num_rows, run.num_valid_rows)
    wanted = (num_rows, sample.seed, run.checkpoint_sha256, *_hashes(run))
    return _read_origin(run.path) == wanted


def _hashes(run: TrainedRun) -> tuple[str | None, ...]:
    return recording_hash(run.model_class), run.data_hash, run.config.config_hash()


@functools.cache
def recording_hash(model_class: type) -> str:
    """Returns 12 hex digits over a recording's code: a run's, fuxictr/analysis and this file."""
    digest = hashlib.sha256(code_hash(model_class).encode())
    for file in (*sorted(Path(analysis.__file__).parent.glob("*.py")), Path(__file__)):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def record_run(run: TrainedRun, gpu: int | str, sample: Sample) -> Path:
    """Records a run; returns ``run.path``, the file of its arrays or only of its numbers."""
    if run.has_other_code:
        logger.warning(
            "%s: was trained by other code than the present one (code_hash %s); its recording is "
            "named %s",
            run.config.checkpoint_path,
            run.code_hash,
            run.name,
        )
    arrays, meta = record_arrays(run, gpu, sample)
    if run.keeps_arrays:
        save_records(run.path, arrays, meta)
    else:
        summary = analysis_summary([Records(arrays, meta)])[0]
        origin = {name: getattr(meta, name) for name in _HASHES}
        content = {**origin, "summary": asdict(summary)}
        write_atomically(run.path, json.dumps(content, indent=2) + "\n")
    return run.path


def load_numbers(run: TrainedRun) -> RunSummary:
    """Returns the numbers of a recorded run; CheckpointError where they are missing or damaged."""
    if run.keeps_arrays:
        return analysis_summary([load_records(run.path, run.backbone)])[0]
    try:
        content = json.loads(run.path.read_text(encoding="utf-8"))
        return RunSummary(**content["summary"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{run.path}: not the numbers of a recording ({error}); run: bash 3.analyze.sh --report"
        ) from error


@dataclass(frozen=True)
class OpenedRun:
    """The trained model of a run on its device, and the encoded data of its training."""

    model: BaseModel
    device: torch.device
    encoded: EncodedDataset
    feature_map: FeatureMap


def open_run(run: TrainedRun, gpu: int | str) -> OpenedRun:
    """Returns a run's model with its trained weights, and its data.

    Raises:
        CheckpointError: the expid is not trained yet, or its checkpoint does not fit.
        DataError: the dataset has changed since the training.
    """
    config = run.config
    if not config.checkpoint_path.is_file():
        raise CheckpointError(
            f"{config.checkpoint_path}: no such checkpoint; train first: "
            f"{train_command(config, run.model_class, gpu)}"
        )

    device = get_device(gpu)
    # The encoded rows of the training; they are never built anew.
    encoded = (
        load_dataset(config)
        if config.dataset.is_encoded
        else find_built(config.dataset, config.data_dir)[1]
    )
    if not config.dataset.is_encoded:
        check_unchanged(config.dataset, config.data_dir)
        _check_sources(config)
    if run.data_hash not in (None, encoded.data_hash):
        raise DataError(
            f"{config.checkpoint_path}: was trained on other rows than dataset "
            f"'{config.dataset.dataset_id}' has now (data_hash {run.data_hash}, now "
            f"{encoded.data_hash}); train again: {train_command(config, run.model_class, gpu)}"
        )
    feature_map = select_features(config, encoded)
    model = build_model(config, run.model_class, feature_map)
    load_weights(model, config.checkpoint_path, encoded.encoders_hash)
    return OpenedRun(model.to(device), device, encoded, feature_map)


def _check_sources(config: ExperimentConfig) -> None:
    """Warns if the raw files changed since they were encoded; DataError if others are named."""
    reason = find_stale_reason(config.dataset, config.data_dir)
    if reason is None:
        return
    text = f"dataset '{config.dataset.dataset_id}': {reason} since they were encoded"
    given = [
        k for k, v in config.origins.items() if k.endswith("_data") and v.startswith("command")
    ]
    if given:
        raise DataError(
            f"{text}, and no others are read: key '{given[0]}': found "
            f"{getattr(config.dataset, given[0])} ({config.origins[given[0]]}); leave it out"
        )
    logger.warning("%s; the rows encoded before are read", text)


def record_arrays(
    run: TrainedRun, gpu: int | str, sample: Sample
) -> tuple[dict[str, np.ndarray], RecordMeta]:
    """Returns what a trained model records on a sample of validation rows, in eval mode.

    Raises:
        CheckpointError: not trained yet, a checkpoint that does not fit, or nothing to record.
        DataError: there are no validation rows, or the dataset has changed since the training.
    """
    config, opened = run.config, open_run(run, gpu)
    encoded, feature_map = opened.encoded, opened.feature_map
    if "valid" not in encoded.paths:
        raise DataError(f"dataset '{config.dataset.dataset_id}' has no validation split to analyse")
    rows = read_encoded(encoded.paths["valid"], feature_map)
    batch = draw_sample(rows, sample.num_rows, sample.seed)
    arrays = record_sample(opened.model, batch, opened.device)
    fields, width = _recorded_fields(arrays, feature_map, config.expid)
    code_hash, _, config_hash = _hashes(run)
    meta = RecordMeta(
        model=run.backbone,
        expid=run.name,
        variant=config.variant,
        dataset_id=config.dataset.dataset_id,
        split="valid",
        num_rows=batch.num_rows,
        seed=sample.seed,
        fields=fields,
        embedding_dim=width,
        checkpoint_sha256=file_sha256(config.checkpoint_path),
        cardinalities=_cardinalities(feature_map, fields),
        train_seed=run.train_seed,
        code_hash=code_hash,
        data_hash=run.data_hash,
        config_hash=config_hash,
        folder=str(config_folder(config)),
    )
    return arrays, meta


def _recorded_fields(
    arrays: dict[str, Any], feature_map: FeatureMap, expid: str
) -> tuple[tuple[str, ...], int]:
    """Returns the fields and their width in the first record ``gen`` or ``feature_emb``.

    Fields of different widths are recorded as one long vector, which counts as one field.
    """
    fields = tuple(feature_map.fields)
    for key, array in arrays.items():
        if key.rpartition("/")[2] in ("gen", "feature_emb"):
            size = int(array[0].size)
            is_even = array.ndim == 2 or array.shape[1] == len(fields)
            return (fields, size // len(fields)) if is_even else (("all fields",), size)
    raise CheckpointError(
        f"expid '{expid}': its model records neither 'gen' nor 'feature_emb', but "
        f"{', '.join(arrays) or 'nothing'}; see the record contract in README.md"
    )


def _cardinalities(feature_map: FeatureMap, fields: Sequence[str]) -> tuple[int, ...]:
    """Returns the vocabulary size of each field, 0 for one that has no vocabulary."""
    specs = feature_map.fields
    return tuple(specs[name].get("vocab_size", 0) if name in specs else 0 for name in fields)


def _read_origin(path: Path) -> tuple[int | str | None, ...] | None:
    """Returns rows, sample seed and ``_HASHES`` of a recording; None if absent or not usable."""
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            made = RunSummary(**content["summary"])  # fails if another version wrote it
            return (made.num_rows, made.seed, *(content[name] for name in _HASHES))
        meta = load_records(path).meta
    except (CheckpointError, OSError, ValueError, LookupError, TypeError):
        return None
    return (meta.num_rows, meta.seed, *(getattr(meta, name) for name in _HASHES))
