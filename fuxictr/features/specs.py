"""The spec of a field: its keys, and the values that each may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fuxictr.features.encoders import allowed_encoders, is_encoder, parse_encoder

ID_TYPES = ("categorical", "sequence")
FIELD_TYPES = (*ID_TYPES, "numeric", "embedding")
MAX_ROWS = 2**31 - 1  # of all tables together, which are numbered with 32 bits
MAX_WIDTH = 1_000_000  # of an embedding or a pretrained vector, and positions of a sequence

_NULL = type(None)


class _Values(NamedTuple):
    """The allowed values of a key: their types, the largest int, the words."""

    kinds: tuple[type, ...]
    most: int | None = None
    among: tuple[str, ...] = ()

    def allow(self, value: Any) -> bool:
        """Returns whether a value is allowed; a bool is not an int."""
        if isinstance(value, bool):
            return bool in self.kinds
        if isinstance(value, int):
            return int in self.kinds and (self.most is None or 1 <= value <= self.most)
        if isinstance(value, str):
            return str in self.kinds and (not self.among or value in self.among)
        return value is None and _NULL in self.kinds

    def __str__(self) -> str:
        words = {_NULL: "null", str: "text", bool: "true, false", int: "int"}
        names = [", ".join(self.among) if k is str and self.among else words[k] for k in self.kinds]
        if self.most is not None:
            names[0] += f" from 1 to {self.most}"
        return ", ".join(names)


_TEXT, _WIDTH = _Values((str, _NULL)), _Values((int, _NULL), MAX_WIDTH)
_SPEC: dict[str, _Values | None] = {
    "type": _Values((str,), among=(*FIELD_TYPES, "meta")),
    "source": _TEXT,
    "vocab_size": _Values((int,), MAX_ROWS),
    "padding_idx": _Values((int, _NULL)),
    "oov_idx": _Values((int, _NULL)),
    "max_len": _Values((int,), MAX_WIDTH),
    "padding": _TEXT,
    "embedding_dim": _WIDTH,
    "emb_output_dim": _WIDTH,
    "feature_encoder": None,  # parse_encoder says which can be used
    "share_embedding": _TEXT,
    "pretrained_emb": _TEXT,
    "pretrain_dim": _WIDTH,
    "pretrain_usage": _Values((str, _NULL), among=("init", "sum", "concat")),
    "freeze_emb": _Values((bool, _NULL)),
}
SPEC_KEYS = tuple(_SPEC)
# These keys describe how the data were encoded.
_ENCODED = ("padding_idx", "oov_idx", "max_len", "padding", "pretrain_dim", "pretrained_emb")
_NEEDED = {
    "categorical": ("vocab_size",),
    "sequence": ("vocab_size", "max_len"),
    "embedding": ("pretrain_dim",),
}


def check_values(name: str, spec: Mapping[str, Any]) -> None:
    """Raises ValueError if a known key of a spec has a value that is not allowed."""
    for key, value in spec.items():
        allowed = _SPEC.get(key)
        if allowed is not None and not allowed.allow(value):
            raise ValueError(f"feature '{name}': {key} {value!r:.100}, allowed: {allowed}")


def check_spec(name: str, spec: Mapping[str, Any]) -> None:
    """Raises ValueError if a spec lacks a key that its type needs, or as ``check_values``."""
    if not isinstance(spec, Mapping):
        raise ValueError(f"feature '{name}': {spec!r:.100}, allowed: a mapping")
    check_values(name, spec)
    vectors = ("pretrain_dim",) if str(spec.get("pretrained_emb", "")).endswith(".npy") else ()
    for key in ("type", *_NEEDED.get(spec.get("type", ""), ()), *vectors):
        if spec.get(key) is None:
            raise ValueError(f"feature '{name}': key '{key}' is missing")


def check_change(name: str, before: Mapping[str, Any], change: Mapping[str, Any]) -> None:
    """Raises ValueError if a key of ``change`` describes encoded data or does nothing here."""
    after = {**before, **change}
    kind, sharing = after["type"], after.get("share_embedding")
    reasons = {
        key: f"the data were encoded with {before.get(key)!r:.100}; change the dataset's column"
        for key in _ENCODED
        if change.get(key, before.get(key)) != before.get(key)
    }
    if change.get("pretrained_emb") is None:
        reasons.pop("pretrained_emb", None)  # it may be dropped
    if sharing:
        where = f"its table is that of '{sharing}'; change it there"
        reasons |= dict.fromkeys(("pretrain_usage", "freeze_emb"), where)
    elif not after.get("pretrained_emb"):
        reasons |= dict.fromkeys(("pretrain_usage", "freeze_emb"), "it has no pretrained vectors")
    encoder = change.get("feature_encoder")
    if not is_encoder(encoder):
        reasons["feature_encoder"] = f"allowed: {allowed_encoders()}"
    elif kind == "meta":
        reasons["feature_encoder"] = "its type is meta"
    elif kind != "sequence" and any(s.pooling for s in parse_encoder(encoder, name)):
        reasons["feature_encoder"] = f"its type is {kind}, allowed: sequence"
    if kind not in ID_TYPES:
        reasons["share_embedding"] = f"its type is {kind}, allowed: {', '.join(ID_TYPES)}"
    if kind == "meta":
        reasons |= dict.fromkeys(("embedding_dim", "emb_output_dim"), "its type is meta")
    nothing = (None,) if sharing else (None, False)
    for key, reason in reasons.items():
        if change.get(key) not in nothing or (key in change and key in _ENCODED):
            raise ValueError(f"feature '{name}': key '{key}': found {change[key]!r:.100}, {reason}")


def width(spec: Mapping[str, Any]) -> int:
    """Returns the number of input columns of a feature."""
    widths = {"sequence": "max_len", "embedding": "pretrain_dim"}
    return spec[widths[spec["type"]]] if spec["type"] in widths else 1
