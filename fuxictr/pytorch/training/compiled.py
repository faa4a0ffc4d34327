"""Key ``compile``: a model's forward pass and loss through torch.compile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from fuxictr.errors import ConfigError
from fuxictr.pytorch.batch import Batch

logger = logging.getLogger(__name__)

Loss = Callable[[Batch], torch.Tensor]


def compile_loss(
    loss: Loss,
    model: nn.Module,
    setting: bool | Literal["auto"],
    device: torch.device,
    num_rows: int,
) -> Loss:
    """Returns the loss as key ``compile`` asks for it, compiled for batches of ``num_rows`` rows.

    ``true`` compiles it in torch's default mode. ``auto`` compiles it on CUDA in mode
    reduce-overhead, which replays CUDA graphs. Elsewhere, and with a log message where torch cannot
    compile, the loss stays as it is. A batch of another size, as the last one of an epoch, runs
    uncompiled, since torch would compile again. So do modules with ``compiles = False``.

    Raises:
        ConfigError: ``true``, and torch cannot compile here.
    """
    has_graphs = setting == "auto"
    if not setting or (has_graphs and device.type != "cuda"):
        return loss
    problem = _why_no_compiler(device)
    if problem is not None:
        if not has_graphs:
            raise ConfigError(f"key 'compile': found true, but {problem}, or set false")
        logger.warning("compile: auto compiles nothing: %s", problem)
        return loss
    for module in model.modules():
        if not getattr(module, "compiles", True):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    mode = "reduce-overhead" if has_graphs else None
    compiled: Loss = torch.compile(loss, dynamic=False, mode=mode)

    def compiled_loss(batch: Batch) -> torch.Tensor:
        if batch.num_rows != num_rows:
            return loss(batch)
        if not has_graphs:
            return compiled(batch)
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(batch).clone()  # the next replay writes over what a graph returns

    return compiled_loss


def _why_no_compiler(device: torch.device) -> str | None:
    """Compiles one addition; returns why torch cannot and what it needs, None where it can."""
    try:
        torch.compile(torch.add)(torch.ones(8, device=device), 1)
    except Exception as error:  # each backend raises its own errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        needed = "triton" if device.type == "cuda" else "a C++ compiler (g++, or CXX)"
        return f"torch.compile does not work here ({reason}); it needs {needed}; install that"
    return None
