"""The config that a checkpoint was trained with, kept beside its weights in ``<checkpoint>.json``.

An activation, a gamma or a pooling changes no shape, so weights alone do not say what is computed
from them. Whatever loads a checkpoint takes the keys of its forward pass from this note, or refuses
if the config says otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fuxictr.config import ExperimentConfig, RawConfig, TrainConfig, apply_overrides, check_config
from fuxictr.errors import CheckpointError, ConfigError
from fuxictr.experiment.results.code_hash import model_hash
from fuxictr.experiment.results.config_record import default_values, plain
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.zoo.models import load_model_class, model_annotations
from fuxictr.pytorch.checkpoint.weights import note_path, read_note

logger = logging.getLogger(__name__)

# Keys of the training that a forward pass depends on as well.
_ALSO_IN_FORWARD = {"task", "amp", "matmul_precision"}
# Keys of a dataset that decide how a raw row is encoded; the others say where and how rows lie.
_ENCODING = {"feature_cols", "min_categr_count", "processor"}
_TUPLE = "!!python/tuple"
_SHOWN_CHARACTERS = 80  # of a value in a message


def make_note(
    config: ExperimentConfig, model_class: type, row: RunRecord, encoders_hash: str
) -> dict[str, Any]:
    """Returns the note to write beside a run's weights; ``row`` is the beginning of its row."""
    keys = ("expid", "seed", "config_hash", "data_hash", "code_hash")
    return {
        "encoders_hash": encoders_hash,
        **{name: getattr(row, name) for name in keys},
        "zoo": str(_model_folder(model_class).parent),
        "run_dir": str(config.run_dir),
        "data_dir": str(config.data_dir),
        "config": _mark_tuples(config.params()),
        "given": sorted({*config.origins} & {*config.params()}),
        "model_hash": model_hash(model_class),
    }


def load_trained(
    checkpoint: str | Path, overrides: Sequence[str] = ()
) -> tuple[ExperimentConfig, type]:
    """Returns the config that a checkpoint was trained with, and its model class; needs no YAML.

    ``overrides`` are ``key=value`` texts for keys that say where files are or how they are read.

    Raises:
        CheckpointError: there is no such file, or no note beside it has its config.
        ConfigError: the config, or an override, cannot be used.
    """
    path = Path(checkpoint).expanduser().resolve()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    note = read_note(path)
    if "config" not in note:
        raise CheckpointError(
            f"{note_path(path)}: does not say with which config {path.name} was trained; name the "
            "expid and its config folder instead"
        )
    with _reading(path):
        model, zoo = str(note["config"]["model"]), Path(note["zoo"])
    model_class = load_model_class(model, zoo)
    config = _checked(path, note, model_class, overrides)
    return as_trained(config, model_class, path), model_class


def as_trained(
    config: ExperimentConfig, model_class: type, checkpoint: Path | None = None
) -> ExperimentConfig:
    """Returns a config with all that decides a forward pass as the checkpoint was trained with.

    If the files of the config have other values by now, a warning names the keys and both values.
    If nothing is known of the weights, a warning says that the config is taken as it is.
    ``checkpoint`` = None means the weights that the config names.

    Raises:
        CheckpointError: the weights are of another model or encoding, or the command line sets
            another value than they were trained with.
    """
    path = checkpoint or config.checkpoint_path
    trained = _trained_config(path, model_class)
    if trained is None:
        if path.is_file():
            logger.warning(
                "%s: nothing beside it says with which config it was trained; it is taken to be "
                "that of expid '%s' as it is now",
                path,
                config.expid,
            )
        return config
    if read_note(path).get("model_hash") not in (None, model_hash(model_class)):
        logger.warning(
            "%s: was trained by other code of the model than %s has now, which is used",
            path,
            _model_folder(model_class),
        )
    changes = _forward_changes(trained, config, model_class)
    refused = [c for c in changes if c.is_asked or c.key in {"model", *_ENCODING}]
    if refused:
        raise CheckpointError(f"{path}: was trained with another config: {_join(refused)}")
    if changes:
        logger.warning(
            "%s: is used with the config that it was trained with, which the config of expid '%s' "
            "no longer is: %s",
            path,
            config.expid,
            _join(changes),
        )
    of_run, of_train = trained.run, trained.train
    return replace(
        config,
        run=replace(
            config.run, use_features=of_run.use_features, feature_specs=of_run.feature_specs
        ),
        train=replace(config.train, **{name: getattr(of_train, name) for name in _ALSO_IN_FORWARD}),
        generator=trained.generator,
        model_params=trained.model_params,
        origins={**trained.origins, **config.origins},
    )


def check_as_trained(config: ExperimentConfig, model_class: type, command: str) -> None:
    """Checks that a config is, in all that decides a forward pass, that of its checkpoint.

    A CheckpointError names the keys that differ, both values, and the ``command`` to retrain.
    """
    trained = _trained_config(config.checkpoint_path, model_class)
    changes = [] if trained is None else _forward_changes(trained, config, model_class)
    if changes:
        raise CheckpointError(
            f"{config.checkpoint_path}: was trained with another config than expid "
            f"'{config.expid}' has now: {_join(changes)}; set back what differs, or train again: "
            f"{command}"
        )


def short(value: Any) -> str:
    """Returns a value for a message, cut off if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."


def _trained_config(checkpoint: Path, model_class: type) -> ExperimentConfig | None:
    """Returns the config that a checkpoint was trained with, None if that is not known."""
    note = read_note(checkpoint)
    return _checked(checkpoint, note, model_class) if "config" in note else None


@dataclass(frozen=True)
class _Change:
    """A key, or part of one, with its value at training and ``now``, as ``origin`` sets it."""

    name: str
    was: Any
    now: Any
    origin: str

    @property
    def key(self) -> str:
        return self.name.partition(":")[0]

    @property
    def is_asked(self) -> bool:
        return self.origin.startswith("command line")

    def __str__(self) -> str:
        where = f" ({self.origin})" if self.origin else ""
        return f"key '{self.name}': was {short(self.was)}, is {short(self.now)}{where}"


def _join(changes: Iterable[_Change]) -> str:
    return "; ".join(map(str, changes))


def _forward_changes(
    trained: ExperimentConfig, config: ExperimentConfig, model_class: type
) -> list[_Change]:
    """Returns the keys of the forward pass that differ; a missing key has the model's default."""
    defaults = default_values(model_class)
    before, now = _forward_params(trained), _forward_params(config)
    found = []
    for name in sorted({*before, *now}):
        was, is_now = (values.get(name, plain(defaults.get(name))) for values in (before, now))
        origin = config.origins.get(name, "")
        if was == is_now:
            continue
        if name == "feature_cols":
            found += _column_changes(was, is_now, origin)
        else:
            found.append(_Change(name, was, is_now, origin))
    return found


def _column_changes(was: Any, now: Any, origin: str) -> list[_Change]:
    """Returns a change for each key of a column that differs, or one for the order of all."""
    before, after = ({c["name"]: c for c in columns or []} for columns in (was, now))
    found = []
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            values = ("absent" if old is None else "there", "absent" if new is None else "there")
            found.append(_Change(f"feature_cols: {name}", *values, origin))
            continue
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                part = f"feature_cols: {name}: {key}"
                found.append(_Change(part, old.get(key), new.get(key), origin))
    return found or [_Change("feature_cols", list(before), list(after), origin)]


def _forward_params(config: ExperimentConfig) -> dict[str, Any]:
    """Returns all hashed keys except those of the training and of where rows lie."""
    of_training = {field.name for field in dataclasses.fields(TrainConfig)} - _ALSO_IN_FORWARD
    of_rows = {field.name for field in dataclasses.fields(config.dataset)} - _ENCODING
    hashed = {k: v for k, v in config.hashed_params().items() if k not in of_training | of_rows}
    if config.dataset.feature_cols:  # however the entries are written
        hashed["feature_cols"] = [dataclasses.asdict(c) for c in config.dataset.columns()]
    return {name: plain(value) for name, value in hashed.items()}


def _checked(
    path: Path, note: Mapping[str, Any], model_class: type, overrides: Iterable[str] = ()
) -> ExperimentConfig:
    file = note_path(path)
    with _reading(path):
        params, expid = dict(_unmark_tuples(note["config"])), str(note["expid"])
        folders = Path(note["run_dir"]), Path(note["data_dir"])
        given = [str(name) for name in note.get("given", params)]  # older notes do not say
    raw = RawConfig(params, dict.fromkeys(given, str(file)), *folders)
    apply_overrides(raw, overrides)
    try:
        return check_config(raw, expid, model_annotations(model_class))
    except ConfigError as error:
        if overrides:
            raise
        raise CheckpointError(
            f"{file}: the config that {path.name} was trained with does not fit this version, or "
            f"the model as it is now: {error}"
        ) from error


def _mark_tuples(value: Any) -> Any:
    """Returns a value as JSON holds it; a tuple, which a model may tell from a list, is marked."""
    if isinstance(value, Mapping):
        return {key: _mark_tuples(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_mark_tuples(item) for item in value]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    return value


def _unmark_tuples(value: Any) -> Any:
    """Returns what ``_mark_tuples`` was given."""
    if isinstance(value, Mapping):
        if value.keys() == {_TUPLE}:
            return tuple(map(_unmark_tuples, value[_TUPLE]))
        return {key: _unmark_tuples(item) for key, item in value.items()}
    return [_unmark_tuples(item) for item in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Context in which a missing or malformed entry of a note is an error that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{note_path(path)}: not readable ({error!r:.200})") from error


def _model_folder(model_class: type) -> Path:
    return Path(inspect.getfile(model_class)).resolve().parent
