"""Number formats of a computation: bfloat16 by autocast, and how float32 products are formed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def autocast(amp: str | None, device: torch.device) -> torch.autocast:
    """Returns the context of a forward pass, as key ``amp`` asks for it.

    With ``bf16``, matrix products read and give bfloat16; weights, gradients and the optimiser stay
    float32. bfloat16 has the range of float32, so the loss needs no scaling.

    Args:
        amp: none or bf16; null is none.
        device: where the pass runs.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16")


def autocast_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Returns the dtype in which a matrix product of the tensor is formed here and now.

    It is autocast's where that is on, and the tensor's own otherwise. Operators that autocast does
    not know cast their inputs to it.
    """
    kind = tensor.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return tensor.dtype


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Returns bfloat16 and float16 as float32, and other floats as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Sets how float32 matrix products are formed, and restores what was set before.

    Args:
        precision: highest, high or medium; see torch.set_float32_matmul_precision.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
