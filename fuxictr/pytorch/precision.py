"""Number formats: bfloat16 by autocast, and how float32 matrix products are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def autocast(amp: str | None, device: torch.device) -> torch.autocast:
    """Returns the context of a forward pass for key ``amp``: none (or None) or bf16.

    With ``bf16``, matrix products read and give bfloat16. Weights, gradients and the optimiser stay
    float32. bfloat16 has the range of float32, so the loss needs no scaling.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16")


def autocast_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Returns the dtype of a matrix product of the tensor now: autocast's if on, else its own.

    Operators that autocast does not know cast their inputs to it.
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
    """Context with torch.set_float32_matmul_precision(precision): highest, high or medium."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
