"""Metrics of all rows together: AUC and logloss."""

from __future__ import annotations

import numpy as np

from fuxictr.errors import DataError

# log(0) is never taken: probabilities are kept this far from 0 and 1, as in FuxiCTR.
EPSILON = 1e-7


def auc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Returns the area under the ROC curve: P(y_pred of a click > y_pred of a non-click).

    By counting (Mann-Whitney): over all pairs of a click and a non-click, the share in which the
    click has the higher prediction; a tie counts 1/2. Whole numbers are summed, so it is exact.

    Args:
        y_true: labels in {0, 1}, (rows,).
        y_pred: scores, (rows,).

    Raises:
        DataError: all labels are equal, for which AUC is not defined.
    """
    labels = np.asarray(y_true).reshape(-1) > 0.5
    scores = np.asarray(y_pred).reshape(-1)
    if scores.dtype != np.float32:  # which is sorted faster, into the same order
        scores = scores.astype(np.float64)
    num_clicks = int(labels.sum())
    num_others = labels.size - num_clicks
    if num_clicks == 0 or num_others == 0:
        raise only_one_class(num_clicks, num_others)
    clicks, others = np.sort(scores[labels]), np.sort(scores[~labels])
    won = np.searchsorted(others, clicks, "left").sum(dtype=np.int64)
    won_or_tied = np.searchsorted(others, clicks, "right").sum(dtype=np.int64)
    return (int(won) + int(won_or_tied)) / (2 * num_clicks * num_others)


def logloss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Returns the mean binary cross-entropy, -mean(y log p + (1 - y) log(1 - p)), in nats."""
    labels = np.asarray(y_true, dtype=np.float64).reshape(-1)
    chance = np.clip(np.asarray(y_pred, dtype=np.float64).reshape(-1), EPSILON, 1 - EPSILON)
    return float(-np.mean(labels * np.log(chance) + (1 - labels) * np.log1p(-chance)))


def check_finite(y_pred: np.ndarray) -> None:
    """Checks the predictions.

    Raises:
        DataError: one is not finite; names the first such row.
    """
    is_finite = np.isfinite(y_pred).reshape(-1)
    if not is_finite.all():
        raise not_finite(int(np.flatnonzero(~is_finite)[0]))


def not_finite(row: int) -> DataError:
    """Returns the error of a prediction that is not finite, in row 0, 1, ..."""
    return DataError(f"the prediction of row {row + 1} is not finite")


def only_one_class(num_clicks: int, num_others: int) -> DataError:
    """Returns the error of an AUC where clicks or non-clicks are absent."""
    only = "0" if num_clicks == 0 else "1"
    return DataError(f"AUC needs labels 0 and 1; all {num_clicks + num_others} labels are {only}")


def starts_run(ordered: np.ndarray) -> np.ndarray:
    """Returns where a value differs from the one before it, (rows,) bool; the first one does."""
    return np.concatenate(([True], ordered[1:] != ordered[:-1]))
