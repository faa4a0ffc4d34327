"""Saturated scores: near 0 or 1, or all the same, where the model no longer learns."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from fuxictr.metrics import logloss
from fuxictr.pytorch.debug.not_finite import LARGE, advise, large_columns
from fuxictr.pytorch.models import BaseModel

_EDGE = 1e-6  # a score so near to 0 or 1 has almost no gradient: its logit is beyond +-13.8
_LEAST_LOSS = 0.01  # of a logloss; below it scores are right, also with labels of one class
_FAR_OFF = 1.0  # of a logloss; scores of 1/2, as at the start of a training, have 0.69
_MIN_ROWS = 100  # below, a poor logloss may be chance
_SUSPECT = 10.0  # a column that reaches this is worth scaling where scores are 0 or 1


def explain_saturation(
    y_true: torch.Tensor,
    y_pred: torch.Tensor,
    loss: float | None,
    model: BaseModel,
    batch: Mapping[str, torch.Tensor],
    learning_rate: float,
) -> str | None:
    """Returns what is wrong with the scores of a split and what to do, None where nothing is.

    The scores are saturated in one of two cases:

    - Their logloss is far worse than with the click rate as the score of all rows. And most scores
      are 0 or 1 to six digits, or a column of the batch has values that should be scaled.
    - All scores are the same, though such a column varies.

    Correct scores near 0 and 1 are sound. ``loss`` is the logloss, None where it is unknown.
    """
    num_rows = y_pred.numel()
    if num_rows < 2:
        return None
    is_edge = (y_pred < _EDGE) | (y_pred > 1 - _EDGE)
    facts = (is_edge.double().mean(), y_true.double().mean(), y_pred.min(), y_pred.max())
    share, rate, low, high = torch.stack([fact.double() for fact in facts]).tolist()
    if loss is None:
        loss = logloss(y_true, y_pred)
    constant = _entropy(rate)
    found = None
    is_saturated = share > 0.5 and loss > max(1.5 * constant, _LEAST_LOSS)
    if is_saturated:
        found = f"{share:.0%} of the scores are 0 or 1 to six digits"
    elif low == high and loss > _LEAST_LOSS and _some_vary(model, batch):
        found = f"all scores are {low:.6g}"
    elif num_rows >= _MIN_ROWS and loss > max(2 * constant, _FAR_OFF) and constant > 0:
        found = "the scores are far off" if large_columns(model, batch) else None
    if found is None:
        return None
    return (
        f"{found}: their logloss is {loss:.4g}, that of one score for all rows {constant:.4g}; "
        f"{advise(model, batch, learning_rate, _SUSPECT if is_saturated else LARGE)}"
    )


def _entropy(rate: float) -> float:
    """Returns the logloss of rows that all have this click rate as their score."""
    return -sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)


def _some_vary(model: BaseModel, batch: Mapping[str, torch.Tensor]) -> bool:
    columns = (batch[name] for name, _ in large_columns(model, batch))
    return any(bool(column.min() != column.max()) for column in columns)
