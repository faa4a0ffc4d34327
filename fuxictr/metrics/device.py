"""Metrics of tensors, computed where the tensors are: only the numbers come to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fuxictr.metrics.rows import EPSILON, not_finite, only_one_class


def auc(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
    """Returns the area under the ROC curve, as ``fuxictr.metrics.auc`` defines it, to the bit.

    Args:
        y_true: labels in {0, 1}, (rows,).
        y_pred: scores, (rows,).

    Raises:
        DataError: all labels are equal, for which AUC is not defined.
    """
    labels = y_true.reshape(-1) > 0.5
    scores = y_pred.reshape(-1)
    if scores.dtype != torch.float32:  # which is sorted faster, into the same order
        scores = scores.double()
    clicks, others = scores[labels].sort().values, scores[~labels].sort().values
    num_clicks, num_others = len(clicks), len(others)
    if num_clicks == 0 or num_others == 0:
        raise only_one_class(num_clicks, num_others)
    won = torch.searchsorted(others, clicks).sum()
    won_or_tied = torch.searchsorted(others, clicks, right=True).sum()
    return int(won + won_or_tied) / (2 * num_clicks * num_others)


def logloss(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
    """Returns the mean binary cross-entropy in nats, see ``fuxictr.metrics.logloss``."""
    labels = y_true.reshape(-1).double()
    chance = y_pred.reshape(-1).double().clamp(EPSILON, 1 - EPSILON)
    return -(labels * chance.log() + (1 - labels) * torch.log1p(-chance)).mean().item()


def check_finite(y_pred: torch.Tensor) -> None:
    """Checks the predictions.

    Raises:
        DataError: one is not finite; names the first such row.
    """
    is_finite = y_pred.reshape(-1).isfinite()
    if not is_finite.all():
        raise not_finite(int((~is_finite).nonzero()[0]))


def like(values: np.ndarray | torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the values on the device of the other tensor."""
    return torch.as_tensor(values, device=other.device)


METRICS: dict[str, Callable[..., float]] = {"AUC": auc, "logloss": logloss}
