"""Metrics of click predictions: exact, in float64, on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from fuxictr.errors import ConfigError, DataError, did_you_mean

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
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, ordered.size))
    clicks = np.add.reduceat(labels[order].astype(np.float64), starts)
    rank_sum = float((clicks * (starts + (sizes + 1) / 2)).sum())
    return (rank_sum - num_clicks * (num_clicks + 1) / 2) / (num_clicks * num_others)


def logloss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Returns the mean binary cross-entropy, -mean(y log p + (1 - y) log(1 - p)), in nats."""
    labels = np.asarray(y_true, dtype=np.float64).reshape(-1)
    chance = np.clip(np.asarray(y_pred, dtype=np.float64).reshape(-1), _EPSILON, 1 - _EPSILON)
    return float(-np.mean(labels * np.log(chance) + (1 - labels) * np.log1p(-chance)))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"AUC": auc, "logloss": logloss}


def evaluate_metrics(
    y_true: np.ndarray, y_pred: np.ndarray, metrics: Iterable[str]
) -> dict[str, float]:
    """Returns metric name -> value, in the order asked.

    Raises:
        ConfigError: an unknown metric.
        DataError: predictions that are not finite, or labels of one class for AUC.
    """
    if not np.isfinite(y_pred).all():
        row = int(np.flatnonzero(~np.isfinite(np.asarray(y_pred).reshape(-1)))[0])
        raise DataError(f"the prediction of row {row + 1} is not finite")
    results = {}
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(
                f"metric '{name}': allowed: {', '.join(METRICS)}{did_you_mean(name, METRICS)}"
            )
        results[name] = METRICS[name](y_true, y_pred)
    return results


def format_metrics(results: Mapping[str, float]) -> str:
    """Returns ``AUC: 0.805664 - logloss: 0.445767``."""
    return " - ".join(f"{name}: {value:.6f}" for name, value in results.items())


class Monitor:
    """The figure that early stopping follows: a metric, or a weighted sum of metrics.

    Args:
        monitor: a metric's name, or {name: weight}, as {AUC: 1, logloss: -1}.
    """

    def __init__(self, monitor: str | Mapping[str, float]) -> None:
        self.weights = {monitor: 1.0} if isinstance(monitor, str) else dict(monitor)

    def get_metrics(self) -> list[str]:
        """Returns the names of the metrics that are needed."""
        return list(self.weights)

    def get_value(self, results: Mapping[str, float]) -> float:
        """Returns the weighted sum of the results.

        Raises:
            ConfigError: a monitored metric was not evaluated.
        """
        for name in self.weights:
            if name not in results:
                raise ConfigError(
                    f"key 'monitor': '{name}' is not among the metrics {list(results)}"
                    f"{did_you_mean(name, results)}"
                )
        return sum(weight * results[name] for name, weight in self.weights.items())
