"""Metrics of tensors, computed on their device: only the results come to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fuxictr.metrics.rows import (
    EPSILON,
    invalid_label,
    invalid_probability,
    not_finite,
    only_one_class,
)


def auc(y_true: torch.Tensor, y_pred: torch.Tensor) -> float:
    """Returns the AUC of labels and scores, (rows,) each: the bits of ``fuxictr.metrics.auc``."""
    labels = y_true.reshape(-1) > 0.5
    scores = y_pred.reshape(-1)
    if scores.dtype != torch.float32:  # float32 sorts faster, into the same order
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
    chance = y_pred.reshape(-1).double()
    is_probability = (chance >= 0) & (chance <= 1)
    if not is_probability.all():
        row = int((~is_probability).nonzero()[0])
        raise invalid_probability(row, chance[row].item())
    chance = chance.clamp(EPSILON, 1 - EPSILON)
    return -(labels * chance.log() + (1 - labels) * torch.log1p(-chance)).mean().item()


def check_rows(y_true: torch.Tensor, y_pred: torch.Tensor) -> None:
    """Checks labels and predictions, see ``fuxictr.metrics.rows.check_rows``."""
    labels = y_true.reshape(-1)
    is_label = (labels == 0) | (labels == 1)
    if not is_label.all():
        row = int((~is_label).nonzero()[0])
        raise invalid_label(row, labels[row].item())
    is_finite = y_pred.reshape(-1).isfinite()
    if not is_finite.all():
        rows = (~is_finite).nonzero()
        raise not_finite(int(rows[0]), len(rows), len(is_finite))


def like(values: np.ndarray | torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the values on the device of the other tensor."""
    return torch.as_tensor(values, device=other.device)


METRICS: dict[str, Callable[..., float]] = {"AUC": auc, "logloss": logloss}
