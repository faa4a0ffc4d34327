"""Keys of older FuxiCTR and of the paper's code: renamed, ignored or refused.

A key that is a parameter of the model stays as it is. One warning lists the renamed and ignored
keys, with their values, what counts instead, and where they are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, get_args

from fuxictr.config.coercion import WrongValue, coerce
from fuxictr.config.experiment import RawConfig
from fuxictr.config.generator import Activation, GeneratorConfig
from fuxictr.config.sections import IGNORED_KEYS, RENAMED_KEYS
from fuxictr.errors import ConfigError

logger = logging.getLogger(__name__)

COMMAND_LINE = "command line (--set)"
# Old name -> today's; renamed if the model has only today's.
RENAMED_MODEL_KEYS = {
    "hidden_activations": "dnn_activations",
    "cin_layer_units": "cin_hidden_units",
    "crossing_layers": "num_cross_layers",
    "dnn_activations": "hidden_activations",
    "use_field_gate": "use_feature_gating",
}
# Older names of models.
RENAMED_MODELS = {"FINAL": "FinalNet"}
# Keys that say how often to evaluate, in epochs; once per epoch is what happens anyway.
_EVERY_EPOCH = ("every_x_epochs", "eval_interval")
# Switches of the paper's code, of which only the names are known.
GENERATES = ("use_gen", "use_fs")
LINEAR = ("linear_gen", "linear_fs")
REFERENCE_KEYS = (*GENERATES, *LINEAR, "use_x0", "use_high_cardinality_predict")


@dataclass
class _Keys:
    """The keys during translation: ``notes`` holds the changes; ``own`` are the model's keys."""

    raw: RawConfig
    own: Collection[str]
    params: dict[str, Any]
    expid: str
    notes: dict[str, list[str]] = field(default_factory=dict)

    def origin(self, name: str) -> str:
        return self.raw.origins.get(name, "")

    def note(self, name: str, text: str) -> None:
        self.notes.setdefault(self.origin(name), []).append(text)

    def holds(self, name: str) -> bool:
        """Returns whether a key is given and not the model's own."""
        return name in self.params and name not in self.own

    def ignore(self, name: str, reason: str = "") -> None:
        """Drops a key, with a note unless it is null."""
        value = self.params.pop(name)
        if value is not None:
            self.note(name, f"{name}: {_shown(value)} (ignored{': ' if reason else ''}{reason})")

    def read_as(self, name: str, new: str, value: Any) -> None:
        """Replaces a switch by the key and value with the same meaning."""
        self.params.pop(name)
        self.params[new], self.raw.origins[new] = value, self.origin(name)
        self.note(name, f"{name}: true (read as {new}: {_shown(value)})")

    def rename(self, old: str, new: str) -> None:
        """Gives a key today's name, which counts if both are given.

        Raises ConfigError if the command line gives the old name another value.
        """
        value = self.params[old]
        if new in self.params and self.params[new] != value:
            if self.origin(old) == COMMAND_LINE != self.origin(new):
                raise ConfigError(
                    f"keys '{new}' and '{old}', its name in older configs: found "
                    f"{self.params[new]!r} ({self.origin(new)}) and {value!r} "
                    f"({self.origin(old)}); allowed: --set {new}=..."
                )
            self.ignore(old, f"{new}: {_shown(self.params[new])} counts")
            return
        if new not in self.params:
            self.params[new], self.raw.origins[new] = value, self.origin(old)
        del self.params[old]
        self.note(old, f"{old} (now {new})")

    def flag(self, name: str) -> bool | None:
        """Returns the value of a switch; None if it is missing, null or the model's own."""
        if not self.holds(name) or self.params[name] is None:
            return None
        try:
            return coerce(self.params[name], bool)
        except WrongValue as error:
            raise ConfigError(
                f"key '{name}': found {self.params[name]!r:.200}, {error} ({self.origin(name)})"
            ) from None


def translate_old_keys(raw: RawConfig, own: Collection[str], expid: str) -> dict[str, Any]:
    """Returns the merged keys under today's names; one warning lists the changes.

    Origins of renamed keys are added to ``raw``. ``own`` are the model's parameters; the name of
    ``expid`` decides between DIS and GEN if its keys contradict. Raises ConfigError for a key that
    would change the model and cannot be mapped.
    """
    keys = _Keys(raw, own, dict(raw.params), expid)
    is_reference = any(keys.flag(name) is not None for name in REFERENCE_KEYS)
    for old, new in RENAMED_KEYS.items():
        if keys.holds(old):
            keys.rename(old, new)
    for old, new in RENAMED_MODEL_KEYS.items():
        if keys.holds(old) and new in own:
            keys.rename(old, new)
    _check_every_epoch(keys)
    if keys.flag("use_regulation_module") is not None:
        is_off = not keys.flag("use_regulation_module")
        keys.ignore("use_regulation_module", "EDCN always has its gates" if is_off else "")
    for name in list(keys.params):
        if keys.holds(name) and (name in IGNORED_KEYS or str(name).startswith("cov_")):
            keys.ignore(name)
    _translate_encoder(keys)
    _translate_switches(keys)
    _translate_high_cardinality(keys)
    _ignore_unread(keys)
    _translate_block_size(keys)
    if keys.notes:
        texts = [f"{', '.join(notes)} in {origin}" for origin, notes in keys.notes.items()]
        if is_reference and "regularizer_scope" not in keys.params:
            texts.append(
                "to penalise the weights that the paper's code penalises, set "
                "regularizer_scope: reference"
            )
        logger.warning("Keys of older configs: %s", "; ".join(texts))
    return keys.params


def _check_every_epoch(keys: _Keys) -> None:
    """Drops keys that ask for an evaluation in each epoch; ConfigError for another interval."""
    for name in _EVERY_EPOCH:
        if not keys.holds(name):
            continue
        if keys.params[name] is not None and keys.params[name] != 1:
            raise ConfigError(
                f"key '{name}': found {keys.params[name]!r:.100} ({keys.origin(name)}), allowed: "
                "1, or key 'eval_steps', which counts steps between evaluations"
            )
        keys.ignore(name)


def _translate_encoder(keys: _Keys) -> None:
    """Accepts an activation in capitals or null; drops exp_group_idx, which DIS does not use."""
    if "emb_activation" in keys.params:
        word = keys.params["emb_activation"]
        word = "linear" if word is None else word
        is_known = isinstance(word, str) and word.lower() in get_args(Activation)
        keys.params["emb_activation"] = word.lower() if is_known else word
    is_dis = keys.params.get("concat_emb") is False
    if is_dis and _is_grouped(keys.params) and keys.origin("exp_group_idx") != COMMAND_LINE:
        keys.ignore("exp_group_idx", "concat_emb: false counts")


def _translate_switches(keys: _Keys) -> None:
    """Translates use_gen, or its older name use_fs, or drops it if the encoder's keys agree.

    A contradiction is refused unless the expid's name, with or without _gen or _fs, confirms the
    encoder's keys.
    """
    given = [name for name in GENERATES if keys.flag(name) is not None]
    if not given:
        return
    name, flag = given[0], keys.flag(given[0])
    for older in given[1:]:
        keys.ignore(older, f"{name}: {_shown(flag)} counts" if keys.flag(older) != flag else "")
    if flag and not _has_encoder(keys.params):
        keys.read_as(name, "concat_emb", True)
        return
    generator = _generator(keys.params)
    variant = generator.variant if generator else None
    if variant is None or flag == (variant == "gen"):
        is_bare = flag and generator is not None and generator.source is None
        keys.ignore(
            name,
            "concat_emb: false counts, there is no encoder but emb_activation and gamma"
            if is_bare
            else "the keys of the encoder say it",
        )
        return
    named = "gen" if re.search(r"_(gen|fs)(_|$)", keys.expid) else "dis"
    if named != variant or keys.origin(name) == COMMAND_LINE:
        raise ConfigError(
            f"key '{name}': found {_shown(flag)} ({keys.origin(name)}), but the keys of the "
            f"encoder (concat_emb, emb_activation, gamma, ...) make {variant.upper()}; allowed: "
            f"{name}: {_shown(not flag)}, or concat_emb: {_shown(flag)} with what belongs to it"
        )
    keys.ignore(name, f"the keys of the encoder make {variant.upper()}, as the expid's name says")


def _translate_high_cardinality(keys: _Keys) -> None:
    name = "use_high_cardinality_predict"
    flag = keys.flag(name)
    if flag is None:
        return
    deciding = next((k for k in ("source", "exp_group_idx") if keys.params.get(k) is not None), "")
    if not flag:
        keys.ignore(name)
    elif deciding:
        keys.ignore(name, f"{deciding}: {_shown(keys.params[deciding])} counts")
    elif keys.params.get("concat_emb") is not True:
        keys.ignore(name, "nothing is generated from all fields without concat_emb: true")
    else:
        keys.read_as(name, "source", "high")


def _ignore_unread(keys: _Keys) -> None:
    """Drops switches that no model here uses; the note of one that is on says what counts."""
    activation = keys.params.get("emb_activation", "linear")
    reasons = {
        **dict.fromkeys(LINEAR, f"emb_activation: {_shown(activation)} counts"),
        "use_x0": "use_gen_rst counts",
    }
    for name, reason in reasons.items():
        if keys.flag(name) is not None:
            keys.ignore(name, reason if keys.flag(name) else "")
    if keys.flag("use_gen_rst") is False:  # of a model that has no cross layers
        keys.ignore("use_gen_rst")
    for name in REFERENCE_KEYS:
        if keys.holds(name):
            keys.ignore(name)  # it is null


def _translate_block_size(keys: _Keys) -> None:
    """Translates data_block_size: -1, which means one file per split in older configs."""
    size = keys.params.get("data_block_size")
    try:
        is_whole = size is not None and coerce(size, int) < 0
    except WrongValue:  # reported with all wrong values
        return
    if is_whole:
        keys.params["data_block_size"] = 0
        keys.note("data_block_size", f"data_block_size: {size} (now 0)")


def _has_encoder(params: dict[str, Any]) -> bool:
    """Whether a key decides about the encoder, also that there is none."""
    is_given = params.get("concat_emb") is not None or params.get("source") is not None
    return is_given or bool(params.get("small_transformation")) or _is_grouped(params)


def _is_grouped(params: dict[str, Any]) -> bool:
    return type(params.get("exp_group_idx")) is int and params["exp_group_idx"] in (0, 1)


def _generator(params: dict[str, Any]) -> GeneratorConfig | None:
    """Returns the generator's section, None if its keys are wrong."""
    try:
        return GeneratorConfig.from_params(params)
    except ConfigError:  # reported with all wrong values
        return None


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!s:.100}"
