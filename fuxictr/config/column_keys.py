"""Which keys of a column have an effect; one without is an error, like a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_EMBEDDED = ("categorical", "sequence", "numeric", "embedding")
_OF_IDS = ("categorical", "sequence")
# Keys of columns -> the types for which they have an effect.
KEYS_OF_TYPES = {
    "share_embedding": _OF_IDS,
    "pretrained_emb": _OF_IDS,
    "pretrain_dim": _OF_IDS,
    "pretrain_usage": _OF_IDS,
    "freeze_emb": _OF_IDS,
    "min_categr_count": _OF_IDS,
    "vocab_size": _OF_IDS,
    "remap": (*_OF_IDS, "meta"),
    "category_processor": ("categorical",),
    "num_buckets": ("categorical",),
    "splitter": ("sequence", "embedding"),
    "max_len": ("sequence",),
    "padding": ("sequence",),
    "feature_encoder": ("sequence",),
    "normalizer": ("numeric",),
    "fill_na": (*_OF_IDS, "numeric", "meta"),
    "embedding_dim": _EMBEDDED,
    "emb_output_dim": _EMBEDDED,
}
# Values without an effect for any type, since they are what happens anyway.
_NO_EFFECT: dict[str, tuple[Any, ...]] = {
    "remap": (True,),
    "freeze_emb": (False,),
    "max_len": (0,),
    "padding": ("post",),
    "fill_na": ("", 0),
    "min_categr_count": (1,),
}
_OF_VECTORS = ("pretrain_dim", "pretrain_usage", "freeze_emb")
_BESIDE_BUCKETS = ("min_categr_count", "remap", "vocab_size", "pretrained_emb", "share_embedding")


def idle_column_keys(column: Mapping[str, Any], is_encoded: bool) -> list[str]:
    """Returns the problems of a column's keys without an effect; encoded rows are already ids."""
    kind = column.get("type", "categorical")
    given = {name for name in column if _has_effect(name, column[name])}
    found = {
        name: f"its type is {kind}, allowed: {', '.join(types)}"
        for name, types in KEYS_OF_TYPES.items()
        if name in given and kind not in types
    }

    def add(names: Iterable[str], reason: str) -> None:
        found.update({name: reason for name in names if name in given and name not in found})

    if not column.get("pretrained_emb") and not column.get("share_embedding"):
        add(_OF_VECTORS, "there are no vectors; it needs key 'pretrained_emb'")
    if not column.get("category_processor"):
        add(("num_buckets",), "there are no buckets; it needs key 'category_processor'")
    else:
        add(_BESIDE_BUCKETS, "buckets have no tokens and no ids of their own")
    if column.get("remap", True) and not is_encoded:
        add(("vocab_size",), "ids are made from the rows; it needs remap: false")
    return [f"key '{name}': {reason}" for name, reason in found.items()]


def idle_label_keys(column: Mapping[str, Any]) -> list[str]:
    """Returns the problems of a label column's keys without an effect."""
    idle = [name for name in KEYS_OF_TYPES if name in column and _has_effect(name, column[name])]
    return [f"key '{name}': a label is kept as it is, no feature" for name in idle]


def _has_effect(name: str, value: Any) -> bool:
    if value is None:
        return False
    nothing = _NO_EFFECT.get(name, ())
    return not any(type(value) is type(known) and value == known for known in nothing)
