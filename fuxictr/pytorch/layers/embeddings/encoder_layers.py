"""The layers of a feature_encoder and of an embedding_initializer, made from their texts."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.features import Encoder
from fuxictr.pytorch.layers.pooling import KMaxPooling, MaskedAveragePooling, MaskedSumPooling

Initializer = Callable[[torch.Tensor], Any]
DEFAULT_INITIALIZER = "partial(nn.init.normal_, std=1e-4)"
_LAYERS: dict[str, type[nn.Module]] = {
    "layers.MaskedAveragePooling": MaskedAveragePooling,
    "layers.MaskedSumPooling": MaskedSumPooling,
    "layers.KMaxPooling": KMaxPooling,
    "nn.Linear": nn.Linear,
    "nn.ReLU": nn.ReLU,
    "nn.Sigmoid": nn.Sigmoid,
    "nn.Tanh": nn.Tanh,
    "nn.GELU": nn.GELU,
    "nn.SiLU": nn.SiLU,
    "nn.ELU": nn.ELU,
    "nn.LeakyReLU": nn.LeakyReLU,
    "nn.PReLU": nn.PReLU,
    "nn.Identity": nn.Identity,
}
# Function of torch.nn.init -> the numbers that it may be given.
_INITIALIZERS = {
    "normal_": ("mean", "std"),
    "trunc_normal_": ("mean", "std", "a", "b"),
    "uniform_": ("a", "b"),
    "constant_": ("val",),
    "zeros_": (),
    "ones_": (),
    "xavier_normal_": ("gain",),
    "xavier_uniform_": ("gain",),
}
_NUMBER = r"-?[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?"
_PARTIAL = re.compile(rf"partial\(nn\.init\.(\w+)((?:\s*,\s*\w+\s*=\s*{_NUMBER})*)\s*\)")


def make_encoder(steps: tuple[Encoder, ...]) -> nn.Sequential:
    """Returns the layers of a feature_encoder, in order."""
    return nn.Sequential(*[_LAYERS[step.name](**step.arguments) for step in steps])


def parse_initializer(given: str | Initializer) -> Initializer:
    """Returns what fills a table (rows, D): a callable as it is, or what a text names.

    A text is ``nn.init.NAME`` or ``partial(nn.init.NAME, key=number)``; ConfigError for others.
    """
    if callable(given):
        return given
    text = str(given).strip()
    match = _PARTIAL.fullmatch(text if text.startswith("partial") else f"partial({text})")
    name, numbers = match.groups() if match else ("", "")
    values = dict(re.findall(rf"(\w+)\s*=\s*({_NUMBER})", numbers))
    if match is None or name not in _INITIALIZERS or values.keys() - set(_INITIALIZERS[name]):
        raise ConfigError(
            f"embedding_initializer: found {given!r:.100}, allowed: a callable, or "
            f"partial(nn.init.NAME, key=number) with NAME one of {', '.join(_INITIALIZERS)}"
            f"{did_you_mean(name, _INITIALIZERS) if name not in _INITIALIZERS else ''}"
        )
    return partial(getattr(nn.init, name), **{key: float(value) for key, value in values.items()})
