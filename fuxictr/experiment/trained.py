"""Trained runs: which weights lie there, and which run of the results left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fuxictr.config import ExperimentConfig
from fuxictr.errors import CheckpointError
from fuxictr.experiment.recorded_config import train_command
from fuxictr.experiment.results import newest_runs
from fuxictr.experiment.zoo import ROOT, load_experiment
from fuxictr.files import file_sha256


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
        is_in_results: whether it is known which run left the weights; else their seed is not.
    """

    backbone: str
    config: ExperimentConfig
    model_class: type
    checkpoint_sha256: str = ""
    num_valid_rows: int | None = None
    keeps_arrays: bool = True
    is_in_results: bool = True

    @property
    def train_seed(self) -> int | None:
        """The seed that it was trained with, None where that is not known."""
        return self.config.train.seed if self.is_in_results else None

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
    if config.config_hash() != row.get("config_hash"):
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


def find_checkpoint(
    backbone: str, config: ExperimentConfig, model_class: type, rows: Sequence[dict[str, Any]]
) -> TrainedRun:
    """Returns the run whose weights are there.

    They are those that the config names, or where it was not trained with its own seed those of the
    first seed that the results have. Weights that no run of the results left are taken as they are.

    Args:
        backbone: the name that figures show.
        config: of the expid.
        model_class: its model.
        rows: the results store.

    Raises:
        CheckpointError: the weights were trained with another config.
    """
    of_config = [row for row in rows if row.get("config_hash") == config.config_hash()]
    newest = newest_runs(of_config, config.expid, config.dataset.dataset_id)
    places = [config, *(_of_run(config, row) for row in newest.values())]
    asked = config
    config = next((place for place in places if place.checkpoint_path.is_file()), config)
    path = config.checkpoint_path
    if not path.is_file():
        return TrainedRun(backbone, config, model_class)
    digest = file_sha256(path)
    left_by = [row for row in rows if row.get("checkpoint_sha256") == digest]
    same = [row for row in left_by if row.get("config_hash") == config.config_hash()]
    if same:
        config = replace(config, train=replace(config.train, seed=same[-1]["seed"]))
    elif left_by:
        raise CheckpointError(
            f"{path}: was trained with another config than expid '{config.expid}' has now; train "
            f"again: {train_command(asked, model_class)}"
        )
    else:
        print(f"{path}: no finished run of the results left it; its seed is not known.", flush=True)
    return TrainedRun(backbone, config, model_class, digest, is_in_results=bool(same))


def _of_run(config: ExperimentConfig, row: dict[str, Any]) -> ExperimentConfig:
    """Returns the config with the seed and the files of a row of results."""
    checkpoint = Path(row.get("checkpoint") or config.checkpoint_path)
    return replace(
        config,
        train=replace(config.train, seed=row["seed"]),
        run=replace(config.run, model_id=checkpoint.stem),
    )
