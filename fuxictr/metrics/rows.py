"""Metrics of all rows together, of arrays or tensors, on the device of these."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fuxictr.errors import DataError

if TYPE_CHECKING:
    import torch

# log(0) is never taken: probabilities are kept this far from 0 and 1, as in FuxiCTR.
EPSILON = 1e-7


class UndefinedMetricError(DataError):
    """A metric that is not defined for the labels or groups of the rows."""


def auc(y_true: np.ndarray | torch.Tensor, y_pred: np.ndarray | torch.Tensor) -> float:
    """Returns the area under the ROC curve: P(y_pred of a click > y_pred of a non-click).

    Counts the pairs of a click and a non-click (Mann-Whitney): the share in which the click has the
    higher prediction; a tie counts 1/2. It sums whole numbers, so it is exact. Labels in {0, 1} and
    scores are (rows,). Raises UndefinedMetricError if all labels are equal.
    """
    lib = _library(y_pred)
    labels = lib.asarray(y_true).reshape(-1) > 0.5
    scores = lib.asarray(y_pred).reshape(-1)
    if scores.dtype != lib.float32:  # float32 sorts faster, into the same order
        scores = lib.asarray(scores, dtype=lib.float64)
    num_clicks = int(labels.sum())
    num_others = len(labels) - num_clicks
    if num_clicks == 0 or num_others == 0:
        only, count = ("0", num_others) if num_clicks == 0 else ("1", num_clicks)
        text = f"all {count:,} labels are {only}" if count > 1 else f"the only label is {only}"
        raise UndefinedMetricError(f"AUC needs labels 0 and 1; {text}")
    clicks, others = _sort(scores[labels]), _sort(scores[~labels])
    won = lib.searchsorted(others, clicks, side="left").sum()
    won_or_tied = lib.searchsorted(others, clicks, side="right").sum()
    return (int(won) + int(won_or_tied)) / (2 * num_clicks * num_others)


def logloss(y_true: np.ndarray | torch.Tensor, y_pred: np.ndarray | torch.Tensor) -> float:
    """Returns the mean binary cross-entropy, -mean(y log p + (1 - y) log(1 - p)), in nats.

    Raises DataError, with the first such row, if a prediction is not a probability.
    """
    lib = _library(y_pred)
    labels = lib.asarray(y_true, dtype=lib.float64).reshape(-1)
    chance = lib.asarray(y_pred, dtype=lib.float64).reshape(-1)
    is_probability = (chance >= 0) & (chance <= 1)
    if not is_probability.all():
        row = _first_false(is_probability)
        raise DataError(
            f"logloss needs probabilities: the prediction of row {row + 1} is "
            f"{float(chance[row])}, expected 0 to 1"
        )
    chance = lib.clip(chance, EPSILON, 1 - EPSILON)
    return float(-lib.mean(labels * lib.log(chance) + (1 - labels) * lib.log1p(-chance)))


def mse(y_true: np.ndarray | torch.Tensor, y_pred: np.ndarray | torch.Tensor) -> float:
    """Returns the mean squared error, mean((y - y_pred)^2), in squared units of the label."""
    difference = _difference(y_true, y_pred)
    return float((difference * difference).mean())


def rmse(y_true: np.ndarray | torch.Tensor, y_pred: np.ndarray | torch.Tensor) -> float:
    """Returns the root mean squared error, sqrt(mse), in units of the label."""
    return math.sqrt(mse(y_true, y_pred))


def mae(y_true: np.ndarray | torch.Tensor, y_pred: np.ndarray | torch.Tensor) -> float:
    """Returns the mean absolute error, mean(abs(y - y_pred)), in units of the label."""
    return float(abs(_difference(y_true, y_pred)).mean())


def check_rows(
    y_true: np.ndarray | torch.Tensor,
    y_pred: np.ndarray | torch.Tensor,
    clicks_for: str | None = "",
) -> None:
    """Raises DataError, with the first row, for a wrong label, or a prediction not finite.

    ``clicks_for`` is the metric that needs labels 0 and 1, None where any finite label will do.
    """
    lib = _library(y_pred)
    labels = lib.asarray(y_true).reshape(-1)
    is_label = lib.isfinite(labels) if clicks_for is None else (labels == 0) | (labels == 1)
    if not is_label.all():
        row = _first_false(is_label)
        expected = "a finite number" if clicks_for is None else "0 or 1"
        why = f", which {clicks_for} needs" if clicks_for else ""
        raise DataError(
            f"the label of row {row + 1} is {float(labels[row]):.7}, expected {expected}{why}"
        )
    is_finite = lib.isfinite(lib.asarray(y_pred).reshape(-1))
    if not is_finite.all():
        row, num_bad = _first_false(is_finite), int((~is_finite).sum())
        raise DataError(
            f"the prediction of row {row + 1} is not finite; {num_bad:,} of {len(is_finite):,} "
            "predictions are NaN or infinite"
        )


def is_tensor(values: Any) -> bool:
    """Returns whether values are a tensor, without an import of torch, which takes seconds."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _library(values: Any) -> Any:
    """Returns torch for a tensor, else numpy; the metrics use what both have under one name."""
    return sys.modules["torch"] if is_tensor(values) else np


def _difference(y_true: Any, y_pred: Any) -> Any:
    lib = _library(y_pred)
    labels, scores = (lib.asarray(v, dtype=lib.float64).reshape(-1) for v in (y_true, y_pred))
    return labels - scores


def _sort(values: Any) -> Any:
    return values.sort().values if is_tensor(values) else np.sort(values)


def _first_false(mask: Any) -> int:
    return int((mask * 1).argmin())


def starts_run(ordered: np.ndarray) -> np.ndarray:
    """Returns where a value differs from the one before it, (rows,) bool; the first one does."""
    return np.concatenate(([True], ordered[1:] != ordered[:-1]))
