"""The training loss: cross-entropy, and the gradients of penalties."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.pytorch.precision import at_least_float32


def cross_entropy(outputs: dict[str, torch.Tensor], y_true: torch.Tensor) -> torch.Tensor:
    """Returns the mean binary cross-entropy, from the logit where the model gives one."""
    if "logit" in outputs:
        return F.binary_cross_entropy_with_logits(at_least_float32(outputs["logit"]), y_true)
    return F.binary_cross_entropy(at_least_float32(outputs["y_pred"]), y_true)


@torch.no_grad()
def add_penalty_gradients(penalties: list[tuple[nn.Parameter, int, float]]) -> None:
    """Adds the gradient of (lambda / p) ||w||_p^p to each weight's gradient.

    It is lambda * w for p = 2 and lambda * sign(w) for p = 1, which is what autograd would give,
    without a pass over whole tables for a loss value in every step.
    """
    for weight, p, factor in penalties:
        if weight.grad is not None:
            weight.grad.add_(weight if p == 2 else weight.sign(), alpha=factor)
