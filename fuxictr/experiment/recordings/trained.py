"""Trained runs: which weights exist, and which run of the results wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuxictr.config import ExperimentConfig, list_expids
from fuxictr.errors import CheckpointError
from fuxictr.experiment.results.checkpoint_config import check_as_trained
from fuxictr.experiment.results.config_record import changed_keys, config_folder, train_command
from fuxictr.experiment.results.identity import has_config, is_run, present_key, run_key, runs_of
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.zoo.models import ROOT, ZOO, load_experiment
from fuxictr.files import file_sha256
from fuxictr.pytorch.checkpoint.weights import read_note

# Keys of the command line that leave a run what it is.
_HARMLESS = {"verbose", "num_workers", "debug_mode"}


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run that can be recorded.

    Attributes:
        backbone: the name that figures show.
        config: its config, whose seed and model_id are the run's.
        checkpoint_sha256: of its checkpoint, empty where that was not read yet.
        num_valid_rows: rows of the validation split; None where unknown, like all that follow.
        keeps_arrays: whether its arrays are kept, or only its numbers.
    """

    backbone: str
    config: ExperimentConfig
    model_class: type
    checkpoint_sha256: str = ""
    num_valid_rows: int | None = None
    keeps_arrays: bool = True
    train_seed: int | None = None
    data_hash: str | None = None
    code_hash: str | None = None

    @property
    def name(self) -> str:
        """The name of its recording: the expid, if a run of the expid would be the same now.

        A run of other code, folder or command-line keys has another name, so that its recording is
        not taken for the expid's.
        """
        config, expid = self.config, self.config.expid
        given = {k for k, origin in config.origins.items() if origin.startswith("command line")}
        given -= _HARMLESS
        if not given and not self.has_other_code and not self._has_namesake():
            return expid
        what = [str(config_folder(config)), config.config_hash(), self.code_hash]
        what += [f"{name}={config.params()[name]}" for name in sorted(given)]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        return f"{expid}@{digest[:8]}"

    @property
    def has_other_code(self) -> bool:
        """Whether the code has changed since it was trained."""
        from fuxictr.experiment.results.code_hash import code_hash

        return self.code_hash not in (None, code_hash(self.model_class))

    @property
    def path(self) -> Path:
        """The file of its arrays, or of its numbers where only they are kept."""
        arrays = self._path_of(self.name)
        name = f"seed{self.config.train.seed}.json"
        return arrays if self.keeps_arrays else arrays.with_name(name)

    def _path_of(self, name: str) -> Path:
        from fuxictr.analysis.records import records_path

        return records_path(ROOT, self.config.dataset.dataset_id, name)

    def _has_namesake(self) -> bool:
        """Whether the expid's name belongs to another folder: the zoo's, or one recorded before."""
        folder, config = config_folder(self.config), self.config
        own = ZOO / config.run.model / "config"
        if folder is None or folder == own:
            return False
        if own.is_dir():
            known = list_expids(own).get(config.expid)
            if known is not None and known.get("dataset_id") == config.dataset.dataset_id:
                return True
        return recorded_folder(self._path_of(config.expid)) not in (None, str(folder))


def recorded_folder(path: Path) -> str | None:
    """Returns the config folder of the run whose arrays lie at a path, None if it is not known."""
    from fuxictr.analysis.records import load_records

    try:
        return load_records(path).meta.folder
    except CheckpointError:
        return None


def find_trained(
    backbone: str, expid: str, folder: Path, row: RunRecord, keeps_arrays: bool = True
) -> TrainedRun:
    """Returns the run of a row of results, with its checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing or another run's, or the config has changed.
    """
    config, model_class = load_experiment(expid, folder)
    config, seed = _of_run(config, row), row.seed
    path = config.checkpoint_path
    if not has_config(row, run_key(config, model_class, row.data_hash)):
        raise CheckpointError(
            f"expid '{expid}': its config has changed since it was trained with seed {seed}"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    digest = file_sha256(path)
    if row.checkpoint_sha256 not in (None, digest):  # None in rows of older versions
        raise CheckpointError(
            f"{path}: is not what the run of seed {seed} left; it was overwritten"
        )
    check_as_trained(config, model_class, train_command(config, model_class))
    return TrainedRun(
        backbone,
        config,
        model_class,
        digest,
        (row.rows or {}).get("valid"),
        keeps_arrays,
        seed,
        row.data_hash,
        row.code_hash,
    )


def find_checkpoint(
    backbone: str, config: ExperimentConfig, model_class: type, rows: Sequence[RunRecord]
) -> TrainedRun:
    """Returns the run whose weights exist: those that the config names.

    Where the expid was not trained with its own seed they are those of the first seed in the
    results. Weights of no run in the results, and without a note beside them, are taken as they
    are.

    Raises:
        CheckpointError: the weights were trained with another config.
    """
    asked, key = config, present_key(config, model_class)
    is_seed_asked = config.origins.get("seed", "").startswith("command line")
    runs = runs_of(rows, key)
    if is_seed_asked:
        runs = {seed: row for seed, row in runs.items() if seed == config.train.seed}
    places = [config, *(_of_run(config, row) for row in runs.values())]
    if is_seed_asked:
        places.reverse()
    config = next((place for place in places if place.checkpoint_path.is_file()), config)
    path = config.checkpoint_path
    if not path.is_file():
        return TrainedRun(backbone, config, model_class)
    digest = file_sha256(path)
    left_by = [row for row in rows if row.checkpoint_sha256 == digest]
    same = [row for row in left_by if row.config_hash == config.config_hash()]
    check_as_trained(config, model_class, train_command(asked, model_class))
    if left_by and not same:
        changed = changed_keys(left_by[-1], config, model_class).items()
        found = "; ".join(f"key '{name}': was {was}, is {now}" for name, (was, now) in changed)
        raise CheckpointError(
            f"{path}: was trained with another config than expid '{config.expid}' has now"
            f"{': ' if found else ''}{found}; train again: {train_command(asked, model_class)}"
        )
    present = [row for row in same if is_run(row, key)]
    known = vars([*same, *present][-1]) if same else read_note(path)
    seed = known.get("seed")
    if is_seed_asked and seed not in (None, asked.train.seed):
        raise CheckpointError(
            f"{path}: was trained with another config: key 'seed': was {seed}, is "
            f"{asked.train.seed} ({asked.origins['seed']})"
        )
    if seed is None:
        print(f"{path}: no finished run of the results left it; its seed is not known.", flush=True)
    else:
        config = replace(config, train=replace(config.train, seed=seed))
    return TrainedRun(
        backbone,
        config,
        model_class,
        digest,
        train_seed=seed,
        data_hash=known.get("data_hash"),
        code_hash=known.get("code_hash"),
    )


def _of_run(config: ExperimentConfig, row: RunRecord) -> ExperimentConfig:
    """Returns the config with the seed and the files of a row of results."""
    checkpoint = Path(row.checkpoint or config.checkpoint_path)
    return replace(
        config,
        train=replace(config.train, seed=row.seed),
        run=replace(config.run, model_id=checkpoint.stem),
    )
