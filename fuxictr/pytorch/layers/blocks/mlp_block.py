"""The deep part of a CTR model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn

from fuxictr.errors import ConfigError
from fuxictr.pytorch.torch_utils import get_activation

DEFAULT_HIDDEN_UNITS = (64, 64, 64)

Activation: TypeAlias = str | nn.Module | None
BatchNorm = bool | Literal["no_bias"]
_ALLOWED_NORM = "true, false, no_bias"


class MLP_Block(nn.Module):
    """A multi-layer perceptron: [Linear, BatchNorm, activation, Dropout] per hidden layer.

    Activations and dropout rates are one for all layers, or a list with one per layer. The input is
    (B, input_dim), the output (B, output_dim); without batch_norm any leading sizes will do.

    Args:
        hidden_units: widths of the hidden layers, () for none; None: 64, 64, 64.
        hidden_activations: a name, a module, or None for no activation; see get_activation.
        output_dim: width of a last Linear; None: there is none, and the attribute ``output_dim`` is
            the last hidden width.
        output_activation: a name, a module, or None.
        batch_norm: normalise before the activation; no_bias: without the bias in front, which the
            norm cancels, so that its gradient is only rounding.
        bn_only_once: with batch_norm, normalise the input alone, and no hidden layer.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_units: Sequence[int] | None = (),
        hidden_activations: Activation | list[Activation] = "ReLU",
        output_dim: int | None = None,
        output_activation: Activation = None,
        dropout_rates: float | list[float] = 0.0,
        batch_norm: BatchNorm = False,
        bn_only_once: bool = False,
        use_bias: bool = True,
    ) -> None:
        super().__init__()
        if batch_norm not in (True, False, "no_bias"):
            raise ConfigError(f"key 'batch_norm': found {batch_norm!r}, allowed: {_ALLOWED_NORM}")
        has_bias = use_bias and batch_norm != "no_bias"
        units = list(DEFAULT_HIDDEN_UNITS if hidden_units is None else hidden_units)
        activations = _one_per_layer(hidden_activations, len(units), "hidden_activations")
        rates = _one_per_layer(dropout_rates, len(units), "dropout_rates")
        layers: list[nn.Module] = []
        if batch_norm and bn_only_once:
            layers.append(nn.BatchNorm1d(input_dim))
        width = input_dim
        for unit, activation, rate in zip(units, activations, rates, strict=True):
            layers.append(nn.Linear(width, unit, bias=has_bias))
            if batch_norm and not bn_only_once:
                layers.append(nn.BatchNorm1d(unit))
            _append_activation(layers, activation, unit)
            if rate > 0:
                layers.append(nn.Dropout(p=rate))
            width = unit
        if output_dim is not None:
            layers.append(nn.Linear(width, output_dim, bias=use_bias))
        if output_activation is not None:
            layers.append(cast(nn.Module, get_activation(output_activation, output_dim)))
        self.output_dim = width if output_dim is None else output_dim
        self.mlp = nn.Sequential(*layers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the output of the last layer."""
        return self.mlp(inputs)


def _append_activation(layers: list[nn.Module], activation: Activation, unit: int) -> None:
    """Appends an activation of a hidden layer, if there is one."""
    found = get_activation(activation, unit)
    if found is None:
        return
    if isinstance(found, nn.ReLU) and found is not activation:
        found.inplace = True  # what it overwrites is not needed again
    layers.append(found)


def idle_without_layers(units: str, params: Mapping[str, Any], *keys: str) -> dict[str, str]:
    """Returns the ``keys`` of hidden layers -> why they do nothing, if key ``units`` has none."""
    return dict.fromkeys(keys, f"{units} is empty") if params.get(units) == [] else {}


def _one_per_layer(value: Any, num_layers: int, name: str) -> list[Any]:
    values = list(value) if isinstance(value, (list, tuple)) else [value] * num_layers
    if len(values) != num_layers:
        raise ConfigError(f"key '{name}': {len(values)} values for {num_layers} hidden layers")
    return values
