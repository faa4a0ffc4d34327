"""Metrics of all rows together: AUC and logloss."""

from __future__ import annotations

import numpy as np

from fuxictr.errors import DataError

# log(0) is never taken: probabilities are kept this far from 0 and 1, as in FuxiCTR.
_EPSILON = 1e-7


def auc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Returns the area under the ROC curve: P(y_pred of a click > y_pred of a non-click).

    From ranks (Mann-Whitney): (R - P (P + 1) / 2) / (P N), with R the rank sum of the P clicks and
    N the number of non-clicks; tied predictions share their mean rank.

    Args:
        y_true: labels in {0, 1}, (rows,).
        y_pred: scores, (rows,).

    Raises:
        DataError: all labels are equal, for which AUC is not defined.
    """
    labels = np.asarray(y_true).reshape(-1) > 0.5
    scores = np.asarray(y_pred, dtype=np.float64).reshape(-1)
    num_clicks = int(labels.sum())
    num_others = labels.size - num_clicks
    if num_clicks == 0 or num_others == 0:
        only = "0" if num_clicks == 0 else "1"
        raise DataError(f"AUC needs labels 0 and 1; all {labels.size} labels are {only}")
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(starts_run(scores[order]))
    sizes = np.diff(np.append(starts, labels.size))
    clicks = np.add.reduceat(labels[order].astype(np.float64), starts)
    rank_sum = float((clicks * (starts + (sizes + 1) / 2)).sum())
    return (rank_sum - num_clicks * (num_clicks + 1) / 2) / (num_clicks * num_others)


def logloss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Returns the mean binary cross-entropy, -mean(y log p + (1 - y) log(1 - p)), in nats."""
    labels = np.asarray(y_true, dtype=np.float64).reshape(-1)
    chance = np.clip(np.asarray(y_pred, dtype=np.float64).reshape(-1), _EPSILON, 1 - _EPSILON)
    return float(-np.mean(labels * np.log(chance) + (1 - labels) * np.log1p(-chance)))


def starts_run(ordered: np.ndarray) -> np.ndarray:
    """Returns where a value differs from the one before it, (rows,) bool; the first one does."""
    return np.concatenate(([True], ordered[1:] != ordered[:-1]))
