"""Which rows of results are of one run: the rule of sweeps, tables, reports, figures and show.

A run is its expid, the folder and the keys of its config, its data and its code. What a run would
be now, or was, is told by how its row of results begins, as ``run_key`` returns it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr.config import ExperimentConfig
from fuxictr.errors import FuxiCTRError
from fuxictr.experiment.results.config_record import config_record, recorded_values
from fuxictr.experiment.results.store import is_finished

# Keys that no hash of a config covers, as data may be moved, and that name the data of a run.
_PATHS = ("data_root", "train_data", "valid_data", "test_data")
_HASHES = ("data_hash", "code_hash")


class PresentData:
    """The encoded data as they are now; those of one dataset are looked at once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str | None, str | None]] = {}

    def data_hash(self, config: ExperimentConfig) -> str | None:
        """Returns the hash of a config's encoded data, None where they would be encoded first."""
        return self._look(config)[0]

    def stale_reason(self, config: ExperimentConfig) -> str | None:
        """Returns why the encoded data are not those of the raw files.

        None where they are, and where nothing is encoded.
        """
        return self._look(config)[1]

    def _look(self, config: ExperimentConfig) -> tuple[str | None, str | None]:
        key = f"{config.data_dir} {config.dataset}"
        if key not in self._found:
            try:
                self._found[key] = self._find(config)
            except FuxiCTRError:  # a run itself will say it
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
) -> dict[str, Any]:
    """Returns ``run_key`` with the data as they are now.

    Where the raw files changed since they were encoded, ``stale_data`` says why the data of any
    row are others.
    """
    data = data or PresentData()
    key = run_key(config, model_class, data.data_hash(config))
    return {**key, "stale_data": data.stale_reason(config)}


def run_key(
    config: ExperimentConfig, model_class: type, data_hash: str | None = None
) -> dict[str, Any]:
    """Returns what a run of a config is by now, as its row of results has it.

    Args:
        config: the config.
        model_class: its model.
        data_hash: of its encoded data; None = not known.
    """
    from fuxictr.experiment.results.code_hash import code_hash

    return {
        "expid": config.expid,
        "dataset_id": config.dataset.dataset_id,
        "config_hash": config.config_hash(),
        "data_hash": data_hash,
        "code_hash": code_hash(model_class),
        "config": config_record(config, model_class),
    }


def has_config(row: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Returns whether a row is of a run's expid, with its config, from its folder, on its paths.

    Rows of older versions do not say folder and paths; the hashes alone decide then.

    Args:
        row: of the results store.
        key: what ``run_key`` returned, or how a row begins.
    """
    names = ("expid", "dataset_id", "config_hash")
    if any(row.get(name) != key[name] for name in names):
        return False
    return _is_of_folder(row, key) and _is_on_paths(row, key)


def is_run(row: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Returns whether a row is of a run: of its config, its data and its code.

    Args:
        row: of the results store.
        key: as ``has_config``; a hash of data or code that is None is any.
    """
    same = all(key[name] is None or row.get(name) == key[name] for name in _HASHES)
    return same and has_config(row, key)


def find_finished(
    rows: Iterable[dict[str, Any]], key: Mapping[str, Any], seed: int
) -> dict[str, Any] | None:
    """Returns the newest finished row of a run with a seed, or None."""
    found = [r for r in rows if is_finished(r) and r.get("seed") == seed and is_run(r, key)]
    return found[-1] if found else None


def runs_of(
    rows: Iterable[dict[str, Any]],
    key: Mapping[str, Any],
    seeds: Collection[int] | None = None,
) -> dict[int, dict[str, Any]]:
    """Returns seed -> newest finished row of a run, all of the same data and code.

    Where no row is of the run's data and code, they are those of the newest row of its config, and
    ``outdated`` says so.

    Args:
        rows: the results store.
        key: as ``is_run``.
        seeds: only these; None = all.
    """
    of_config = [
        row
        for row in rows
        if is_finished(row) and (seeds is None or row["seed"] in seeds) and has_config(row, key)
    ]
    found = [row for row in of_config if is_run(row, key)] or of_config
    same = [row for row in found if all(row.get(k) == found[-1].get(k) for k in _HASHES)]
    return {row["seed"]: row for row in sorted(same, key=lambda row: row["seed"])}


def newest_present(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Returns the newest of an expid's finished rows that is a run of it by now, if one is.

    With it, what it has otherwise than a run would have now, as ``outdated`` says it.

    Those of the expid in the zoo come before those of a folder of the same expids. Where none is of
    the present config, data and code, it is the newest of all.

    Args:
        rows: finished rows of one expid, at least one.
    """
    from fuxictr.experiment.zoo.models import ZOO

    data, keys = PresentData(), dict[str, dict[str, Any] | None]()
    of_zoo: list[dict[str, Any]] = []
    of_others: list[dict[str, Any]] = []
    for row in reversed(rows):
        folder, name = str((row.get("config") or {}).get("folder")), _name_of(row)
        if name not in keys:
            keys[name] = _key_of(row, data)
        key = keys[name]
        if key is not None and is_run(row, key):
            (of_zoo if Path(folder).is_relative_to(ZOO) else of_others).append(row)
    row = [*of_zoo, *of_others, rows[-1]][0]
    key = keys[_name_of(row)]
    if key is None:
        return row, []
    changed = [] if has_config(row, key) else ["config than its folder has now"]
    return row, changed + outdated(row, key)


def outdated(row: Mapping[str, Any], key: Mapping[str, Any]) -> list[str]:
    """Returns ``data (data_hash a, now b)`` and the like, of what a row of a run has otherwise."""
    stale = key.get("stale_data")
    of_data = [f"data than the raw files hold by now ({stale}; not encoded yet)"] if stale else []
    return of_data + [
        f"{name.removesuffix('_hash')} ({name} {row.get(name)}, now {key[name]})"
        for name in _HASHES
        if key[name] is not None and row.get(name) != key[name]
    ]


def _name_of(row: Mapping[str, Any]) -> str:
    folder = (row.get("config") or {}).get("folder")
    return f"{folder} {row.get('model')} {row.get('dataset_id')}"


def _key_of(row: Mapping[str, Any], data: PresentData) -> dict[str, Any] | None:
    """Returns what a run of a row's expid and folder would be now, None where there is none."""
    from fuxictr.experiment.results.config_record import load_recorded

    record = row.get("config")
    without_overrides = {**record, "overrides": []} if record else record
    try:
        config, model_class = load_recorded({**row, "config": without_overrides})
    except FuxiCTRError:
        return None
    return present_key(config, model_class, data)


def _is_of_folder(row: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Returns whether the config folders are one, or the row's is that of a project moved since."""
    known, own = (record.get("config") or {} for record in (row, key))
    folder, now = known.get("folder"), own.get("folder")
    if folder is None or now is None or folder == now:
        return True
    is_gone = not Path(str(folder)).exists()
    return is_gone and _place(known) == _place(own)


def _place(record: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the model folder's name, and where the config folder lies as seen from it."""
    zoo, folder = Path(str(record.get("zoo"))), Path(str(record["folder"]))
    is_inside = folder.is_relative_to(zoo)
    return zoo.name, str(folder.relative_to(zoo)) if is_inside else str(folder)


def _is_on_paths(row: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    known, own = (recorded_values(record.get("config") or {}) for record in (row, key))
    same = all(known.get(name) == own.get(name) for name in _PATHS if name in known and name in own)
    is_same_data = key["data_hash"] is not None and row.get("data_hash") == key["data_hash"]
    return same or is_same_data
