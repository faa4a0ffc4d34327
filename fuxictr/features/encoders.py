"""The texts of ``feature_encoder``: what a field's embedding goes through before a model sees it.

They are FuxiCTR's, such as ``layers.MaskedAveragePooling()`` or ``nn.Linear(64, 64, bias=False)``.
They are read by a parser with a list of allowed names; nothing in them is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from fuxictr.errors import ConfigError, did_you_mean

POOLINGS = {"average": "layers.MaskedAveragePooling()", "sum": "layers.MaskedSumPooling()"}
ACTIVATIONS = ("ReLU", "Sigmoid", "Tanh", "GELU", "SiLU", "ELU", "LeakyReLU", "PReLU", "Identity")
# Name -> its parameters; one with a default of its own may be left out.
_PARAMETERS: dict[str, dict[str, type[int] | bool]] = {
    "layers.MaskedAveragePooling": {},
    "layers.MaskedSumPooling": {},
    "layers.KMaxPooling": {"k": int, "dim": int},
    "nn.Linear": {"in_features": int, "out_features": int, "bias": True},
    **{f"nn.{name}": {} for name in ACTIVATIONS},
}
_CALL = re.compile(r"\s*(?:torch\.)?([A-Za-z_.]+)\s*\((.*)\)\s*", re.DOTALL)
_ARGUMENT = re.compile(r"\s*(?:([a-z_]+)\s*=)?\s*(-?[0-9]{1,9}|True|False)\s*")
_MAX_WIDTH = 1_000_000


class Encoder(NamedTuple):
    """One step of a feature_encoder: a layer's name, as ``nn.Linear``, and its arguments."""

    name: str
    arguments: dict[str, int]

    @property
    def pooling(self) -> str | None:
        """``average`` or ``sum`` for a masked pooling, None for another layer."""
        text = f"{self.name}()"
        return next((pooling for pooling, known in POOLINGS.items() if text == known), None)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns what it makes of one row's (W,) or (L, W); ValueError where it does not fit."""
        if self.pooling is not None:
            if len(shape) != 2:
                raise ValueError(f"{self.name} pools positions, and here are none")
            return shape[1:]
        if self.name == "nn.Linear":
            needed, width = self.arguments["in_features"], self.arguments["out_features"]
            if needed != shape[-1]:
                raise ValueError(f"{self.name} takes vectors of width {needed}, not {shape[-1]}")
            return (*shape[:-1], width)
        if self.name == "layers.KMaxPooling":
            return self._largest(shape)
        return shape

    def _largest(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        k, dim = self.arguments["k"], self.arguments["dim"]
        axes = {**dict(enumerate(shape, start=1)), **dict(enumerate(shape, start=-len(shape)))}
        if dim not in axes or not 1 <= k <= axes[dim]:
            sizes = ", ".join(map(str, shape))
            raise ValueError(f"{self.name} keeps {k} along dim {dim} of (B, {sizes})")
        position = dim - 1 if dim > 0 else dim + len(shape)
        return (*shape[:position], k, *shape[position + 1 :])


def allowed_encoders() -> str:
    """Returns the allowed texts, for messages."""
    called = [
        f"{name}({', '.join(parameters)})"
        for name, parameters in _PARAMETERS.items()
        if f"{name}()" not in POOLINGS.values()
    ]
    return ", ".join(["null", *POOLINGS, *POOLINGS.values(), *called, "or a list of these"])


def parse_encoder(value: Any, name: str) -> tuple[Encoder, ...]:
    """Returns the steps of a ``feature_encoder``, in order; none for null.

    ``average`` and ``sum`` are this project's words for the two masked poolings. A list is done
    from left to right. ConfigError for all other values, which names the column ``name``.
    """
    texts = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if isinstance(value, list | tuple) and not texts:
        raise _refused(value, name, "an empty list")
    return tuple(_parse_step(text, name) for text in texts)


def parse_pooling(value: Any, name: str) -> str | None:
    """Returns ``average``, ``sum`` or None if that is all a feature_encoder does; see pooling_of.

    ConfigError as ``parse_encoder``, and for an encoder of more than that.
    """
    steps = parse_encoder(value, name)
    pooling = pooling_of(steps)
    if pooling is None and steps:
        raise ConfigError(
            f"column '{name}': key 'feature_encoder': found {value!r:.100}, allowed: null, "
            f"{', '.join(POOLINGS)}, {', '.join(POOLINGS.values())}"
        )
    return pooling


def pooling_of(steps: tuple[Encoder, ...]) -> str | None:
    """Returns ``average`` or ``sum`` where a masked pooling is the only step, None otherwise."""
    return steps[0].pooling if len(steps) == 1 else None


def encoded_shape(
    steps: tuple[Encoder, ...], shape: tuple[int, ...], name: str, value: Any
) -> tuple[int, ...]:
    """Returns what the steps make of one row's (W,) or (L, W); ConfigError if one does not fit."""
    for step in steps:
        try:
            shape = step.output_shape(shape)
        except ValueError as error:
            raise ConfigError(
                f"column '{name}': key 'feature_encoder': found {value!r:.200}, but {error}"
            ) from None
    return shape


def fuxictr_pooling(value: Any) -> Any:
    """Returns a feature_encoder in FuxiCTR's words, the form of a spec; a list stays a list."""
    if isinstance(value, list | tuple):
        return [fuxictr_pooling(text) for text in value]
    return POOLINGS.get(value, value) if value else None


def is_encoder(value: Any) -> bool:
    """Returns whether ``parse_encoder`` takes a value."""
    try:
        parse_encoder(value, "")
    except ConfigError:
        return False
    return True


def _parse_step(text: Any, column: str) -> Encoder:
    if not isinstance(text, str):
        raise _refused(text, column, type(text).__name__)
    match = _CALL.fullmatch(_full_text(text))
    if match is None:
        raise _refused(text, column)
    name, given = match.groups()
    if name not in _PARAMETERS:
        raise _refused(text, column, hint=did_you_mean(name, _PARAMETERS))
    try:
        return Encoder(name, _arguments(given, _PARAMETERS[name]))
    except ValueError as error:
        raise _refused(text, column, str(error)) from None


def _full_text(text: str) -> str:
    """Returns ``layers.MaskedSumPooling()`` for ``sum`` and for shorter ways to write it."""
    for pooling, full in POOLINGS.items():
        bare = full.removesuffix("()")
        if text in (pooling, bare, bare.removeprefix("layers.")) or f"layers.{text}" == full:
            return full
    return text


def _arguments(given: str, parameters: Mapping[str, Any]) -> dict[str, int]:
    """Returns the values of a call's arguments; ValueError says which one is wrong."""
    free, found = list(parameters), {}
    for text in given.split(",") if given.strip() else []:
        match = _ARGUMENT.fullmatch(text)
        if match is None:
            raise ValueError(f"argument '{text.strip()[:40]}' is no whole number, True or False")
        key, value = match.groups()
        if key is None and not free:
            raise ValueError("it has too many arguments")
        key = free[0] if key is None else key
        if key not in free:
            raise ValueError(f"argument '{key}' is unknown, or given twice")
        free.remove(key)
        is_flag = isinstance(parameters[key], bool)
        if is_flag != (value in ("True", "False")):
            raise ValueError(f"{key} is '{value}', allowed: {'True, False' if is_flag else 'int'}")
        found[key] = value == "True" if is_flag else int(value)
        if not is_flag and key != "dim" and not 1 <= found[key] <= _MAX_WIDTH:
            raise ValueError(f"{key} is {value}, allowed: int from 1 to {_MAX_WIDTH}")
    missing = [key for key in free if not isinstance(parameters[key], bool)]
    if missing:
        raise ValueError(f"argument '{missing[0]}' is missing")
    return {**{key: parameters[key] for key in free}, **found}


def _refused(value: Any, column: str, reason: str = "", hint: str = "") -> ConfigError:
    why = f" ({reason})" if reason else ""
    return ConfigError(
        f"column '{column}': key 'feature_encoder': found {value!r:.100}{why}, "
        f"allowed: {allowed_encoders()}{hint}"
    )
