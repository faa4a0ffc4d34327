"""The training loss: cross-entropy, its mean over steps, and the gradients of penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.errors import DataError
from fuxictr.pytorch.distributed.ranks import ALONE, Ranks
from fuxictr.pytorch.precision import at_least_float32


def cross_entropy(
    outputs: Mapping[str, torch.Tensor], y_true: torch.Tensor, num_rows: int | None = None
) -> torch.Tensor:
    """Returns the mean binary cross-entropy of B rows, from the logit where the model gives one.

    The labels are (B, 1). For a part of a batch, ``num_rows`` is the number of rows of the whole
    batch, by which the sum is divided; None: B.
    """
    reduction = "mean" if num_rows is None else "sum"
    if "logit" in outputs:
        logit = at_least_float32(outputs["logit"])
        loss = F.binary_cross_entropy_with_logits(logit, y_true, reduction=reduction)
    else:
        y_pred = at_least_float32(outputs["y_pred"])
        is_nan = y_pred.isnan()  # torch's own error would only say: not in [0, 1]
        y_pred = y_pred.masked_fill(is_nan, 0.5)
        loss = F.binary_cross_entropy(y_pred, y_true, reduction=reduction)
        loss = loss.masked_fill(is_nan.any(), math.nan)
    return loss if num_rows is None else loss / num_rows


def task_loss(
    loss_fn: Callable[..., torch.Tensor],
    outputs: Mapping[str, torch.Tensor],
    y_true: torch.Tensor,
    num_rows: int | None = None,
) -> torch.Tensor:
    """Returns the mean of a loss over B rows: of ``cross_entropy``, or of y_pred (B, 1).

    ``num_rows`` is as for ``cross_entropy``. DataError where the shapes differ, which torch would
    broadcast to (B, B).
    """
    if loss_fn is F.binary_cross_entropy:
        return cross_entropy(outputs, y_true, num_rows)
    y_pred = at_least_float32(outputs["y_pred"])
    if y_pred.shape != y_true.shape:
        raise DataError(
            f"the loss: found y_pred of shape {tuple(y_pred.shape)}, labels of shape "
            f"{tuple(y_true.shape)}; allowed: the same shape"
        )
    if num_rows is None:
        return loss_fn(y_pred, y_true, reduction="mean")
    return loss_fn(y_pred, y_true, reduction="sum") / num_rows


class LossMean:
    """The mean of the losses of steps, none of which may be NaN or infinite.

    On a CPU it checks each loss at once. From another device it fetches a hundred at a time, so no
    step waits for one. Each of several processes adds its summand of a loss.
    """

    def __init__(self, device: torch.device, ranks: Ranks = ALONE) -> None:
        num_kept = 1 if device.type == "cpu" else 100
        self._ranks = ranks
        self._kept = torch.zeros(num_kept, dtype=torch.float64, device=device)
        self._num_kept = 0
        self._sum = 0.0
        self._num_steps = 0

    @property
    def num_kept(self) -> int:
        """Number of losses that are still on the device."""
        return self._num_kept

    def mean(self) -> float:
        """Returns the mean of what was collected."""
        total = self._ranks.sum(torch.tensor([self._sum], dtype=torch.float64)).item()
        return total / max(self._num_steps, 1)

    def add(self, loss: torch.Tensor) -> int | None:
        """Takes in the loss of a step; returns what ``collect`` does where it collects."""
        self._kept[self._num_kept] = loss
        self._num_kept += 1
        return self.collect() if self._num_kept == len(self._kept) else None

    def collect(self) -> int | None:
        """Adds up what is on the device; returns how many steps ago a loss first was not finite.

        0 is the last step, None: all are finite.
        """
        losses = self._kept[: self._num_kept].tolist()
        for loss in losses:
            self._sum += loss
        self._num_steps += len(losses)
        self._num_kept = 0
        bad = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
        return len(losses) - 1 - bad[0] if bad else None

    def reset(self) -> None:
        """Forgets all losses."""
        self._sum, self._num_steps, self._num_kept = 0.0, 0, 0

    def state(self) -> dict[str, Any]:
        """Returns what all processes have added since the last ``reset``, in plain values."""
        kept = self._kept[: self._num_kept].tolist()
        values = torch.tensor([self._sum, *kept], dtype=torch.float64)
        total, *kept = self._ranks.sum(values).tolist()
        return {"sum": total, "num_steps": self._num_steps, "kept": kept}

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what ``state`` returned, also on another device or on other processes."""
        share = 1.0 if self._ranks.is_first else 0.0  # the first one starts from the whole sum
        self._sum, self._num_steps = share * state["sum"], state["num_steps"]
        self._num_kept = 0
        for loss in state["kept"]:
            self.add(torch.tensor(share * loss, dtype=torch.float64))


@torch.no_grad()
def add_penalty_gradients(penalties: list[tuple[nn.Parameter, int, float]]) -> None:
    """Adds the gradient of (lambda / p) ||w||_p^p to each weight's gradient.

    It is lambda * w for p = 2 and lambda * sign(w) for p = 1, as autograd would give it. But no
    step reads whole tables for the value of the loss.
    """
    for weight, p, factor in penalties:
        if weight.grad is not None:
            weight.grad.add_(weight if p == 2 else weight.sign(), alpha=factor)
