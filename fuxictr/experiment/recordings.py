"""Recordings of trained runs: made from a checkpoint and a sample, kept while both stay the same.

The arrays of one run of an expid lie in ``figure/raw_data/<dataset_id>/<expid>/records.h5``. Of its
other seeds only the numbers are kept, ``seed<S>.json`` beside it: arrays are hundreds of megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuxictr.config import ExperimentConfig
from fuxictr.errors import CheckpointError, DataError, FuxiCTRError
from fuxictr.experiment.results import newest_runs
from fuxictr.experiment.zoo import ROOT, load_experiment
from fuxictr.files import file_sha256, write_atomically
from fuxictr.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from fuxictr.analysis.records import RecordMeta
    from fuxictr.analysis.summary import RunSummary
    from fuxictr.features import FeatureMap


@dataclass(frozen=True)
class Sample:
    """Which validation rows are recorded: ``num_rows`` of them, or all there are, shuffled."""

    num_rows: int = 50_000
    seed: int = 2019

    def __post_init__(self) -> None:
        if self.num_rows < 2:
            raise DataError(f"--rows {self.num_rows}: allowed: >= 2")


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that can be recorded.

    Attributes:
        backbone: the name that figures show.
        config: its config, whose seed and model_id are the run's.
        model_class: its model.
        checkpoint_sha256: of its checkpoint, empty where that was not read yet.
        num_valid_rows: rows of the validation split, null where that is not known.
        keeps_arrays: whether its arrays are kept, or only its numbers.
    """

    backbone: str
    config: ExperimentConfig
    model_class: type
    checkpoint_sha256: str = ""
    num_valid_rows: int | None = None
    keeps_arrays: bool = True

    @property
    def path(self) -> Path:
        """The file of its arrays, or of its numbers where only they are kept."""
        from fuxictr.analysis.records import records_path

        arrays = records_path(ROOT, self.config.dataset.dataset_id, self.config.expid)
        name = f"seed{self.config.train.seed}.json"
        return arrays if self.keeps_arrays else arrays.with_name(name)


def find_trained(
    backbone: str, expid: str, folder: Path, row: dict[str, Any], keeps_arrays: bool = True
) -> TrainedRun:
    """Returns the run of a row of results, with the checkpoint that it left.

    Args:
        backbone: the name that figures show.
        expid: the experiment.
        folder: its model folder.
        row: of the results store.
        keeps_arrays: see TrainedRun.

    Raises:
        CheckpointError: the checkpoint is gone or is another run's, or the config changed since.
    """
    config, model_class = load_experiment(expid, folder)
    config, seed = _of_run(config, row), row["seed"]
    path = config.checkpoint_path
    if config.config_hash() != row["config_hash"]:
        raise CheckpointError(
            f"expid '{expid}': its config has changed since it was trained with seed {seed}"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    digest = file_sha256(path)
    # Rows of older versions do not say which weights they left.
    if digest != row.get("checkpoint_sha256", digest):
        raise CheckpointError(
            f"{path}: is not what the run of seed {seed} left; it was overwritten"
        )
    num_rows = (row.get("rows") or {}).get("valid")
    return TrainedRun(backbone, config, model_class, digest, num_rows, keeps_arrays)


def find_checkpoint(config: ExperimentConfig, rows: Sequence[dict[str, Any]]) -> ExperimentConfig:
    """Returns the config with the seed and the files of the run whose weights are there.

    They are those that the config names, or where it was not trained with its own seed those of the
    first seed that the results have of the same config; the config as it is where there are none.
    """
    if config.checkpoint_path.is_file():
        digest = file_sha256(config.checkpoint_path)
        seeds = [row["seed"] for row in rows if row.get("checkpoint_sha256") == digest]
        return replace(config, train=replace(config.train, seed=seeds[-1])) if seeds else config
    for row in newest_runs(rows, config.expid, config.dataset.dataset_id).values():
        other = _of_run(config, row)
        if other.checkpoint_path.is_file() and other.config_hash() == row["config_hash"]:
            return other
    return config


def make_recordings(
    runs: Sequence[TrainedRun], gpu: int | str, sample: Sample, again: bool = False
) -> dict[TrainedRun, str]:
    """Records the runs whose recording is absent or of another checkpoint or sample.

    Args:
        runs: what is wanted.
        gpu: where to run, as --gpu.
        sample: which rows.
        again: record all of them.

    Returns:
        Run -> reason, for the runs that cannot be recorded.
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
    """Returns whether a recording of this checkpoint and this sample is there."""
    path = run.path
    found = _read_origin(path) if path.is_file() else None
    if found is None or run.num_valid_rows is None:
        return False
    num_rows = min(sample.num_rows, run.num_valid_rows)
    return found == (num_rows, sample.seed, run.checkpoint_sha256)


def record_run(run: TrainedRun, gpu: int | str, sample: Sample) -> Path:
    """Records a run; returns the file of its arrays, or of its numbers where only they are kept.

    Raises:
        FuxiCTRError: as ``record_arrays``.
    """
    from fuxictr.analysis.records import Records, save_records
    from fuxictr.analysis.summary import analysis_summary

    arrays, meta = record_arrays(run, gpu, sample)
    if run.keeps_arrays:
        save_records(run.path, arrays, meta)
    else:
        summary = analysis_summary([Records(arrays, meta)])[0]
        content = {"checkpoint_sha256": meta.checkpoint_sha256, "summary": asdict(summary)}
        write_atomically(run.path, json.dumps(content, indent=2) + "\n")
    return run.path


def load_numbers(run: TrainedRun) -> RunSummary:
    """Returns the numbers of a run that was recorded.

    Raises:
        CheckpointError: it was not, or its recording is damaged.
    """
    from fuxictr.analysis.records import load_records
    from fuxictr.analysis.summary import RunSummary, analysis_summary

    if run.keeps_arrays:
        return analysis_summary([load_records(run.path, run.backbone)])[0]
    try:
        content = json.loads(run.path.read_text(encoding="utf-8"))
        return RunSummary(**content["summary"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{run.path}: not the numbers of a recording ({error}); run: bash 3.analyze.sh --report"
        ) from error


def record_arrays(
    run: TrainedRun, gpu: int | str, sample: Sample
) -> tuple[dict[str, np.ndarray], RecordMeta]:
    """Returns what a trained model records of one shuffled sample of validation rows, in eval mode.

    Raises:
        CheckpointError: the expid is not trained yet, its checkpoint does not fit, or its model
            records nothing.
        DataError: there are no validation rows, or they are not those that it was trained with.
    """
    config = run.config
    if not config.checkpoint_path.is_file():
        raise CheckpointError(
            f"{config.checkpoint_path}: no such checkpoint; train first: python "
            f"model_zoo/{config.run.model}/run_expid.py --expid {config.expid} --gpu {gpu}"
        )

    from fuxictr.analysis.records import RecordMeta
    from fuxictr.analysis.sampling import draw_sample, record_sample
    from fuxictr.experiment.run import build_model, load_dataset, select_features
    from fuxictr.preprocess import find_built
    from fuxictr.pytorch.checkpoint import load_weights
    from fuxictr.pytorch.dataloaders import read_encoded
    from fuxictr.pytorch.torch_utils import get_device

    device = get_device(gpu)
    # The rows that it was trained on, never built anew.
    encoded = (
        load_dataset(config)
        if config.dataset.is_encoded
        else find_built(config.dataset, config.data_dir)[1]
    )
    if "valid" not in encoded.paths:
        raise DataError(f"dataset '{config.dataset.dataset_id}' has no validation split to analyse")
    feature_map = select_features(config, encoded)
    model = build_model(config, run.model_class, feature_map)
    load_weights(model, config.checkpoint_path, encoded.encoders_hash)
    rows = read_encoded(encoded.paths["valid"], feature_map)
    batch = draw_sample(rows, sample.num_rows, sample.seed)
    arrays = record_sample(model.to(device), batch, device)
    fields, width = _recorded_fields(arrays, feature_map, config.expid)
    meta = RecordMeta(
        model=run.backbone,
        expid=config.expid,
        variant=config.variant,
        dataset_id=config.dataset.dataset_id,
        split="valid",
        num_rows=batch.num_rows,
        seed=sample.seed,
        fields=fields,
        embedding_dim=width,
        checkpoint_sha256=file_sha256(config.checkpoint_path),
        cardinalities=_cardinalities(feature_map, fields),
        train_seed=config.train.seed,
    )
    return arrays, meta


def _of_run(config: ExperimentConfig, row: dict[str, Any]) -> ExperimentConfig:
    """Returns the config with the seed and the files of a row of results."""
    return replace(
        config,
        train=replace(config.train, seed=row["seed"]),
        run=replace(config.run, model_id=Path(row["checkpoint"]).stem),
    )


def _recorded_fields(
    arrays: dict[str, Any], feature_map: FeatureMap, expid: str
) -> tuple[tuple[str, ...], int]:
    """Returns the fields and the width of each, as the first record gen or feature_emb has them.

    Fields of different widths were recorded as one long vector: one field of that width.
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


def _read_origin(path: Path) -> tuple[int, int, str] | None:
    """Returns rows, sample seed and checkpoint hash of a recording, None where it is no use."""
    from fuxictr.analysis.records import load_records

    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            summary = content["summary"]
            return summary["num_rows"], summary["seed"], content["checkpoint_sha256"]
        meta = load_records(path).meta
    except (CheckpointError, OSError, ValueError, LookupError, TypeError):
        return None
    if len(meta.cardinalities) != len(meta.fields):
        return None  # written by an earlier version
    return meta.num_rows, meta.seed, meta.checkpoint_sha256
