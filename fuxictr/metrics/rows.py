"""Metrics of all rows together: AUC and logloss."""

from __future__ import annotations

import numpy as np

from fuxictr.errors import DataError


class UndefinedMetricError(DataError):
    """A metric that is not defined for the labels or groups of the rows."""


# log(0) is never taken: probabilities are kept this far from 0 and 1, as in FuxiCTR.
EPSILON = 1e-7


def auc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Returns the area under the ROC curve: P(y_pred of a click > y_pred of a non-click).

    Counts the pairs of a click and a non-click (Mann-Whitney): the share in which the click has the
    higher prediction; a tie counts 1/2. It sums whole numbers, so it is exact.

    Args:
        y_true: labels in {0, 1}, (rows,).
        y_pred: scores, (rows,).

    Raises:
        UndefinedMetricError: all labels are equal.
    """
    labels = np.asarray(y_true).reshape(-1) > 0.5
    scores = np.asarray(y_pred).reshape(-1)
    if scores.dtype != np.float32:  # float32 sorts faster, into the same order
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
    """Returns the mean binary cross-entropy, -mean(y log p + (1 - y) log(1 - p)), in nats.

    Raises:
        DataError: a prediction is not a probability; names the first such row.
    """
    labels = np.asarray(y_true, dtype=np.float64).reshape(-1)
    chance = np.asarray(y_pred, dtype=np.float64).reshape(-1)
    if not (chance.min() >= 0 and chance.max() <= 1):
        row = int(np.flatnonzero(~((chance >= 0) & (chance <= 1)))[0])
        raise invalid_probability(row, chance[row])
    chance = np.clip(chance, EPSILON, 1 - EPSILON)
    return float(-np.mean(labels * np.log(chance) + (1 - labels) * np.log1p(-chance)))


def check_rows(y_true: np.ndarray, y_pred: np.ndarray) -> None:
    """Checks labels and predictions.

    Raises:
        DataError: a label is not 0 or 1, or a prediction is not finite; names the first such row.
    """
    labels = np.asarray(y_true).reshape(-1)
    is_label = (labels == 0) | (labels == 1)
    if not is_label.all():
        row = int(np.flatnonzero(~is_label)[0])
        raise invalid_label(row, labels[row])
    is_finite = np.isfinite(y_pred).reshape(-1)
    if not is_finite.all():
        rows = np.flatnonzero(~is_finite)
        raise not_finite(int(rows[0]), rows.size, is_finite.size)


def invalid_label(row: int, found: object) -> DataError:
    """Returns the error of a label that is not 0 or 1; rows count from 0."""
    return DataError(f"the label of row {row + 1} is {found}, expected 0 or 1")


def not_finite(row: int, num_bad: int, num_rows: int) -> DataError:
    """Returns the error of predictions that are not finite; ``row`` is the first, from 0."""
    count = f"; {num_bad:,} of {num_rows:,} predictions are NaN or infinite"
    return DataError(f"the prediction of row {row + 1} is not finite{count}")


def invalid_probability(row: int, found: object) -> DataError:
    """Returns the error of a prediction outside 0..1; rows count from 0."""
    return DataError(
        f"logloss needs probabilities: the prediction of row {row + 1} is {found}, expected 0 to 1"
    )


def only_one_class(num_clicks: int, num_others: int) -> UndefinedMetricError:
    """Returns the error of an AUC without clicks, or without non-clicks."""
    only, count = ("0", num_others) if num_clicks == 0 else ("1", num_clicks)
    text = f"all {count:,} labels are {only}" if count > 1 else f"the only label is {only}"
    return UndefinedMetricError(f"AUC needs labels 0 and 1; {text}")


def starts_run(ordered: np.ndarray) -> np.ndarray:
    """Returns where a value differs from the one before it, (rows,) bool; the first one does."""
    return np.concatenate(([True], ordered[1:] != ordered[:-1]))
