"""Which rows of results are of one run: the rule of sweeps, tables, reports, figures and show.

A run is its expid, the folder and the keys of its config, its data and its code: its ``RunKey``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuxictr.config import ExperimentConfig
from fuxictr.errors import FuxiCTRError
from fuxictr.experiment.results.config_record import config_record, load_recorded
from fuxictr.experiment.results.record import ConfigRecord, RunKey, RunRecord
from fuxictr.experiment.zoo.models import ZOO

# Keys that no hash of a config covers, as data may be moved, and that name the data of a run.
_PATHS = ("data_root", "train_data", "valid_data", "test_data")
_HASHES = ("data_hash", "code_hash")


@dataclass(frozen=True, kw_only=True)
class PresentKey(RunKey):
    """The key of a run as it would be now; ``stale_data`` says why its data are stale (or None)."""

    stale_data: str | None = None


class PresentData:
    """The encoded data as they are now; each dataset is read once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str | None, str | None]] = {}

    def data_hash(self, config: ExperimentConfig) -> str | None:
        """Returns the hash of a config's encoded data, None where they would be encoded first."""
        return self._look(config)[0]

    def stale_reason(self, config: ExperimentConfig) -> str | None:
        """Returns why the encoded data are not the raw files'; None if they are, or none exist."""
        return self._look(config)[1]

    def _look(self, config: ExperimentConfig) -> tuple[str | None, str | None]:
        key = f"{config.data_dir} {config.dataset}"
        if key not in self._found:
            try:
                self._found[key] = self._find(config)
            except FuxiCTRError:  # the run itself will report it
                self._found[key] = None, None
        return self._found[key]

    def _find(self, config: ExperimentConfig) -> tuple[str | None, str | None]:
        from fuxictr.preprocess import find_current
        from fuxictr.preprocess.dataset.build import find_stale_reason
        from fuxictr.preprocess.dataset.cache import read_key
        from fuxictr.preprocess.dataset.finished import dataset_folder

        encoded = find_current(config.dataset, config.data_dir)
        if encoded is not None:
            return encoded.data_hash, None
        is_there = read_key(dataset_folder(config.dataset, config.data_dir)) is not None
        return None, find_stale_reason(config.dataset, config.data_dir) if is_there else None


def present_key(
    config: ExperimentConfig, model_class: type, data: PresentData | None = None
) -> PresentKey:
    """Returns the key of a run of a config, with the encoded data as they are now."""
    data = data or PresentData()
    key = run_key(config, model_class, data.data_hash(config))
    return PresentKey(**vars(key), stale_data=data.stale_reason(config))


def run_key(config: ExperimentConfig, model_class: type, data_hash: str | None = None) -> RunKey:
    """Returns the key of a run of a config; a ``data_hash`` of None is not known."""
    from fuxictr.experiment.results.code_hash import code_hash

    return RunKey(
        expid=config.expid,
        dataset_id=config.dataset.dataset_id,
        config_hash=config.config_hash(),
        data_hash=data_hash,
        code_hash=code_hash(model_class),
        config=config_record(config, model_class),
    )


def has_config(row: RunRecord, key: RunKey) -> bool:
    """Returns whether a row is of a run's expid, with its config, from its folder, on its paths.

    Rows of older versions do not name folder and paths; then the hashes alone decide.
    """
    names = ("expid", "dataset_id", "config_hash")
    if any(getattr(row, name) != getattr(key, name) for name in names):
        return False
    return _is_of_folder(row.config, key.config) and _is_on_paths(row, key)


def is_run(row: RunRecord, key: RunKey) -> bool:
    """Returns whether a row is of a run: its config, data and code; None in the key matches any."""
    hashes = [(getattr(row, name), getattr(key, name)) for name in _HASHES]
    return all(now in (None, found) for found, now in hashes) and has_config(row, key)


def find_finished(rows: Iterable[RunRecord], key: RunKey, seed: int) -> RunRecord | None:
    """Returns the newest finished row of a run with a seed, or None."""
    found = [row for row in rows if row.is_finished and row.seed == seed and is_run(row, key)]
    return found[-1] if found else None


def runs_of(
    rows: Iterable[RunRecord], key: RunKey, seeds: Collection[int] | None = None
) -> dict[int, RunRecord]:
    """Returns seed -> newest finished row of a run, all of the same data and code.

    Where no row is of the run's data and code, they are those of the newest row of its config, and
    ``outdated`` names the difference. ``seeds`` = None takes all.
    """
    of_config = [
        row
        for row in rows
        if row.is_finished and (seeds is None or row.seed in seeds) and has_config(row, key)
    ]
    found = [row for row in of_config if is_run(row, key)] or of_config
    same = [row for row in found if all(getattr(row, k) == getattr(found[-1], k) for k in _HASHES)]
    return {row.seed: row for row in sorted(same, key=lambda row: row.seed)}


def newest_present(rows: Sequence[RunRecord]) -> tuple[RunRecord, list[str]]:
    """Returns an expid's newest row of its present config, data and code, else the newest of all.

    Rows of the expid in the zoo come before those of another folder. The second value says how the
    row differs from a run now, in the words of ``outdated``.
    """
    data, keys = PresentData(), dict[tuple, PresentKey | None]()
    of_zoo: list[RunRecord] = []
    of_others: list[RunRecord] = []
    for row in reversed(rows):
        name = _source(row)
        if name not in keys:
            keys[name] = _key_of(row, data)
        key = keys[name]
        if key is not None and is_run(row, key):
            is_of_zoo = Path(str(row.config_folder)).is_relative_to(ZOO)
            (of_zoo if is_of_zoo else of_others).append(row)
    row = [*of_zoo, *of_others, rows[-1]][0]
    key = keys[_source(row)]
    if key is None:
        return row, []
    changed = [] if has_config(row, key) else ["config than its folder has now"]
    return row, changed + outdated(row, key)


def outdated(row: RunRecord, key: PresentKey) -> list[str]:
    """Returns ``data (data_hash a, now b)`` and the like: how a row differs from a run now."""
    found = []
    if key.stale_data:
        found.append(f"data than the raw files hold now ({key.stale_data}; not encoded yet)")
    for name in _HASHES:
        before, now = getattr(row, name), getattr(key, name)
        if now not in (None, before):
            found.append(f"{name.removesuffix('_hash')} ({name} {before}, now {now})")
    return found


def _source(row: RunRecord) -> tuple[str | None, ...]:
    """Returns what decides which config a row's expid is loaded from."""
    return row.config_folder, row.model, row.dataset_id


def _key_of(row: RunRecord, data: PresentData) -> PresentKey | None:
    """Returns the key of a run of a row's expid and folder now, None where there is none."""
    config = None if row.config is None else replace(row.config, overrides=[])
    try:
        return present_key(*load_recorded(replace(row, config=config)), data)
    except FuxiCTRError:
        return None


def _is_of_folder(known: ConfigRecord | None, own: ConfigRecord | None) -> bool:
    """Returns whether the config folders are one, or the row's is that of a project moved since."""
    if known is None or own is None or None in (known.folder, own.folder):
        return True
    if known.folder == own.folder:
        return True
    return not Path(str(known.folder)).exists() and _place(known) == _place(own)


def _place(record: ConfigRecord) -> tuple[str, str]:
    """Returns the model folder's name, and where the config folder lies relative to it."""
    zoo, folder = Path(record.zoo), Path(str(record.folder))
    return zoo.name, str(folder.relative_to(zoo) if folder.is_relative_to(zoo) else folder)


def _is_on_paths(row: RunRecord, key: RunKey) -> bool:
    known, own = row.config_values, key.config_values
    same = all(known.get(name) == own.get(name) for name in _PATHS if name in known and name in own)
    return same or (key.data_hash is not None and row.data_hash == key.data_hash)
