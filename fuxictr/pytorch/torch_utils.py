"""Seeds, devices, optimisers and activations by name."""

from __future__ import annotations

import ctypes
import functools
import os
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.config.tasks import loss_name
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.pytorch.activations import Dice
from fuxictr.pytorch.distributed.ranks import launched_ranks

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
    "leakyrelu": nn.LeakyReLU,
    "softmax": functools.partial(nn.Softmax, dim=-1),
    "linear": nn.Identity,
}

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
# glibc's M_MMAP_THRESHOLD (32 MB is the most that it takes) and M_TRIM_THRESHOLD.
_MALLOC_OPTIONS = ((-3, 32 << 20), (-1, 1 << 30))
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def seed_everything(seed: int = 1029) -> None:
    """Seeds python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for later; returns False for other C libraries.

    Each training step frees and allocates the same large tensors. By default glibc returns them to
    the system, which fills every page with zeros again: 5 to 20 % of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and all(mallopt(*option) for option in _MALLOC_OPTIONS)


def get_device(gpu: int | str = -1) -> torch.device:
    """Returns the device that ``--gpu`` names: -1 the CPU, an index that CUDA device.

    ``auto`` is the first CUDA device where there is one and the CPU otherwise. Processes that
    torchrun started may not give an index; with ``auto`` each takes the device of its own number on
    its machine. There is no silent fallback.

    Raises:
        ConfigError: this machine has no such CUDA device, or fewer devices than processes.
    """
    _, num_ranks, local_rank = launched_ranks()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu == "auto":
        num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if num_ranks > 1 else 1
        if 0 < count < num_local:
            raise ConfigError(
                f"--gpu auto: torchrun started {num_local} processes on this machine, which has "
                f"GPUs 0..{count - 1}; allowed: --nproc_per_node={count} or fewer, or --gpu -1 for "
                "the CPU"
            )
        return torch.device(f"cuda:{local_rank}" if count else "cpu")
    try:
        index = int(gpu)
    except ValueError:
        raise ConfigError(f"--gpu {gpu}: allowed: auto, -1 (CPU), a GPU index") from None
    if index == -1:
        return torch.device("cpu")
    if num_ranks > 1:
        raise ConfigError(
            f"--gpu {gpu}: torchrun started {num_ranks} processes, which cannot share a GPU; "
            "allowed: auto (each takes the GPU of its number; CUDA_VISIBLE_DEVICES says which they "
            "are) and -1 (CPU)"
        )
    if not 0 <= index < count:
        found = f"GPUs 0..{count - 1}" if count else "no CUDA GPU"
        raise ConfigError(
            f"--gpu {gpu}: this machine has {found}; use -1 for the CPU or auto to choose"
        )
    return torch.device(f"cuda:{index}")


def get_optimizer(
    optimizer: str, params: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    """Returns the optimiser of that name, fused where torch can; ConfigError for another."""
    name = optimizer.lower()
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"optimizer '{optimizer}': allowed: {', '.join(OPTIMIZERS)}"
            f"{did_you_mean(name, OPTIMIZERS)}"
        )
    kind = OPTIMIZERS[name]
    return kind(params, lr=lr, **({"fused": True} if kind in _FUSED else {}))


def get_loss(loss: str) -> Callable[..., torch.Tensor]:
    """Returns the loss of that name: f(y_pred, y_true, reduction="mean"), y_pred no logit.

    The names are those of key ``loss``; ConfigError for another one.
    """
    name = loss_name(loss)
    if name == "binary_crossentropy":
        return F.binary_cross_entropy
    found: Callable[..., torch.Tensor] = getattr(F, name)
    return found


def get_activation(activation: Any, hidden_units: Any = None) -> Any:
    """Returns the activation of that name, in any case, as a module; None: None.

    A module stays as it is, and of a list each is looked up, with its own of ``hidden_units``.
    PReLU has one weight per unit, which starts at 0.1, where the number of units is given; Dice
    needs it. Beside the names in ACTIVATIONS those of torch.nn are known, as torch spells them.

    Raises:
        ConfigError: an unknown name, or Dice without units.
    """
    if isinstance(activation, (list, tuple)):
        units = hidden_units if isinstance(hidden_units, (list, tuple)) else [hidden_units]
        units = list(units) * len(activation) if len(units) == 1 else list(units)
        return [get_activation(a, u) for a, u in zip(activation, units, strict=True)]
    if activation is None or isinstance(activation, nn.Module):
        return activation
    name = str(activation).lower()
    if name == "prelu" and hidden_units is not None:
        return nn.PReLU(hidden_units, init=0.1)
    if name == "dice":
        if hidden_units is None:
            raise ConfigError("activation 'dice': needs the number of units (hidden_units)")
        return Dice(hidden_units)
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]()
    found = getattr(nn, str(activation), None)
    if isinstance(found, type) and found.__module__ == "torch.nn.modules.activation":
        return found()
    raise ConfigError(
        f"activation '{activation}': allowed: {', '.join([*ACTIVATIONS, 'dice'])}, or one of "
        f"torch.nn{did_you_mean(name, ACTIVATIONS)}"
    )
