"""Metrics of tensors, computed where the tensors are: only the numbers come to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fuxictr.metrics.rows import EPSILON, no_label, no_probability, not_finite, only_one_class


def auc(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
    """Returns the area under the ROC curve, as ``fuxictr.metrics.auc`` defines it, to the bit.

    Args:
        y_true: labels in {0, 1}, (rows,).
        y_pred: scores, (rows,).

    Raises:
        UndefinedMetricError: all labels are equal.
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
    """Returns the mean binary cross-entropy in nats, see ``fuxictr.metrics.logloss``.

    Raises:
        DataError: a prediction is no probability; names the first such row.
    """
    labels = y_true.reshape(-1).double()
    chance = y_pred.reshape(-1).double()
    is_probability = (chance >= 0) & (chance <= 1)
    if not is_probability.all():
        row = int((~is_probability).nonzero()[0])
        raise no_probability(row, chance[row].item())
    chance = chance.clamp(EPSILON, 1 - EPSILON)
    return -(labels * chance.log() + (1 - labels) * torch.log1p(-chance)).mean().item()


def check_rows(y_true: torch.Tensor, y_pred: torch.Tensor) -> None:
    """Checks labels and predictions, see ``fuxictr.metrics.rows.check_rows``.

    Raises:
        DataError: a label is not 0 or 1, or a prediction is not finite; names the first such row.
    """
    labels = y_true.reshape(-1)
    is_label = (labels == 0) | (labels == 1)
    if not is_label.all():
        row = int((~is_label).nonzero()[0])
        raise no_label(row, labels[row].item())
    is_finite = y_pred.reshape(-1).isfinite()
    if not is_finite.all():
        rows = (~is_finite).nonzero()
        raise not_finite(int(rows[0]), len(rows), len(is_finite))


def like(values: np.ndarray | torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the values on the device of the other tensor."""
    return torch.as_tensor(values, device=other.device)


METRICS: dict[str, Callable[..., float]] = {"AUC": auc, "logloss": logloss}
