"""Metrics by name, of a split, or of its labels alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fuxictr.errors import ConfigError, DataError, as_names, nearest
from fuxictr.metrics.groups import GroupRanking, avg_auc, gauc, mrr, ndcg
from fuxictr.metrics.rows import (
    UndefinedMetricError,
    auc,
    check_rows,
    is_tensor,
    logloss,
    mae,
    mse,
    rmse,
)

if TYPE_CHECKING:
    import torch

METRICS: dict[str, Callable[..., float]] = {
    "AUC": auc,
    "logloss": logloss,
    "RMSE": rmse,
    "MSE": mse,
    "MAE": mae,
}
GROUP_METRICS: dict[str, Callable[[GroupRanking], float]] = {
    "gAUC": gauc,
    "avgAUC": avg_auc,
    "MRR": mrr,
}
ERRORS = {"RMSE", "MSE", "MAE"}  # of any numbers
LOSSES = {"logloss", *ERRORS}  # lower is better
_NDCG = re.compile(r"NDCG\s*\(\s*k\s*=\s*0*([1-9][0-9]{0,17})\s*\)")


class Metric(NamedTuple):
    """A metric: ``compute`` takes (y_true, y_pred), or a GroupRanking where ``needs_groups``."""

    name: str
    compute: Callable[..., float]
    needs_groups: bool

    @property
    def mode(self) -> str:
        """``max`` or ``min``: the direction in which it is better."""
        return "min" if self.name in LOSSES else "max"

    @property
    def needs_clicks(self) -> bool:
        """Whether labels must be 0 and 1."""
        return self.name not in ERRORS

    @property
    def needs_probabilities(self) -> bool:
        """Whether scores must be between 0 and 1."""
        return self.name == "logloss"


def find_metric(name: str) -> Metric:
    """Returns the metric of a name: a key of METRICS or GROUP_METRICS, or NDCG(k=N) with spaces.

    Raises ConfigError for an unknown metric, or an N that is not 1, 2, ...
    """
    if name in METRICS:
        return Metric(name, METRICS[name], False)
    if name in GROUP_METRICS:
        return Metric(name, GROUP_METRICS[name], True)
    if match := _NDCG.fullmatch(name):
        return Metric(f"NDCG(k={match[1]})", partial(ndcg, k=int(match[1])), True)
    if name.lower().startswith("ndcg"):
        raise ConfigError(f"metric '{name}': allowed: NDCG(k=N) with N = 1, 2, ...")
    clicks = [known for known in METRICS if known not in ERRORS]
    others = (*GROUP_METRICS, "NDCG(k=N)", *METRICS)
    allowed = {known.lower(): known for known in (*clicks, *others)}
    match_lower = nearest(name.lower(), allowed)
    hint = f"; did you mean '{allowed[match_lower]}'?" if match_lower else ""
    raise ConfigError(f"metric '{name}': allowed: {', '.join(allowed.values())}{hint}")


def split_label(name: str) -> tuple[str, str]:
    """Returns the label and the metric of a name like ``<label>_AUC``; no label: an empty one.

    Raises ConfigError as ``find_metric``.
    """
    try:
        return "", find_metric(name).name
    except ConfigError:
        label, sign, metric = name.rpartition("_")
        if not (sign and label):
            raise
        try:
            return label, find_metric(metric).name
        except ConfigError:
            pass
        raise


def check_groups(metrics: Iterable[str], group_ids: np.ndarray | None) -> None:
    """Raises ConfigError if a metric needs group ids that are not given, or is unknown."""
    for metric in map(find_metric, as_names(metrics, "metrics")):
        if metric.needs_groups and group_ids is None:
            raise ConfigError(
                f"key 'group_id': metric '{metric.name}' needs the name of a column whose equal "
                "values make a group; found no group ids"
            )


def evaluate_metrics(
    y_true: np.ndarray | torch.Tensor,
    y_pred: np.ndarray | torch.Tensor,
    metrics: Iterable[str],
    group_ids: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns metric name -> value, in the order asked, named as ``find_metric`` spells them.

    Tensors on a GPU are evaluated there, and their rows come to the host for group metrics only.
    All arrays are (rows,): labels, scores, and, for group metrics, ids (numbers or strings) that
    are equal for rows of a group. Labels are in {0, 1}, but for RMSE, MSE and MAE alone.

    Raises:
        ConfigError: an unknown metric, or a group metric without ``group_ids``.
        DataError: labels other than 0 and 1, or predictions that are not finite.
        UndefinedMetricError: a metric is not defined, as AUC for labels of one class.
    """
    results, undefined = evaluate_defined(y_true, y_pred, metrics, group_ids)
    for reason in undefined.values():
        raise UndefinedMetricError(reason)
    return results


def evaluate_defined(
    y_true: np.ndarray | torch.Tensor,
    y_pred: np.ndarray | torch.Tensor,
    metrics: Iterable[str],
    group_ids: np.ndarray | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics that are defined, and for each other one the reason, by name.

    Arguments and other errors are those of ``evaluate_metrics``.
    """
    names = as_names(metrics, "metrics")
    check_groups(names, group_ids)
    found = [find_metric(name) for name in names]
    if _is_on_gpu(y_pred):
        y_true = sys.modules["torch"].as_tensor(y_true, device=y_pred.device)
    else:
        y_true, y_pred = _on_host(y_true), _on_host(y_pred)
    num_labels, num_rows = (int(np.prod(values.shape)) for values in (y_true, y_pred))
    if num_labels != num_rows or not num_rows:
        raise DataError(f"found {num_labels} labels and {num_rows} predictions")
    clicks_for = next((metric.name for metric in found if metric.needs_clicks), None)
    is_mixed = any(not metric.needs_clicks for metric in found)
    check_rows(y_true, y_pred, clicks_for if is_mixed or clicks_for is None else "")
    ranking = None
    if group_ids is not None and any(metric.needs_groups for metric in found):
        ranking = GroupRanking(_on_host(y_true), _on_host(y_pred), group_ids)
    results, undefined = {}, {}
    for metric in found:
        try:
            rows = (ranking,) if metric.needs_groups else (y_true, y_pred)
            results[metric.name] = metric.compute(*rows)
        except UndefinedMetricError as error:
            undefined[metric.name] = str(error)
    return results, undefined


def find_undefined(
    metrics: Iterable[str],
    labels: Iterable[np.ndarray | torch.Tensor],
    group_ids: np.ndarray | None = None,
) -> dict[str, str]:
    """Returns metric -> reason for the metrics that are not defined for the labels of a split.

    ``labels`` come part after part. Only as many parts are read as it takes, mostly one: a metric
    that is defined for some of the rows is defined for all. Raises ConfigError and DataError as
    ``evaluate_metrics``.
    """
    names = as_names(metrics, "metrics")
    parts: list[np.ndarray] = []
    num_rows = num_seen = 0

    def find() -> dict[str, str]:
        known = np.concatenate(parts or [np.empty(0)])
        groups = None if group_ids is None else group_ids[: known.size]
        return evaluate_defined(known, np.zeros(known.size), names, groups)[1]

    for part in labels:
        parts.append(_on_host(part).reshape(-1))
        num_rows += parts[-1].size
        if num_rows and num_rows >= 2 * num_seen:  # all attempts together take no longer
            num_seen = num_rows
            if not find():
                return {}
    return find()


def check_defined(
    metrics: Iterable[str],
    labels: Iterable[np.ndarray | torch.Tensor],
    group_ids: np.ndarray | None,
    where: str,
) -> None:
    """Raises UndefinedMetricError, which names ``where``, if labels leave a metric undefined."""
    undefined = find_undefined(metrics, labels, group_ids)
    if undefined:
        name, reason = next(iter(undefined.items()))
        raise UndefinedMetricError(
            f"{where}: {reason}; give it other rows, or leave '{name}' out of the keys 'metrics' "
            "and 'monitor' (metrics: [logloss], monitor: logloss, monitor_mode: min always work)"
        )


def _is_on_gpu(values: Any) -> bool:
    return is_tensor(values) and values.device.type != "cpu"


def _on_host(values: Any) -> np.ndarray:
    if not is_tensor(values):
        return np.asarray(values)
    # numpy has no bfloat16; float32 holds the same numbers.
    is_unknown = values.dtype.is_floating_point and values.element_size() == 2
    return (values.float() if is_unknown else values).detach().cpu().numpy()


def format_metrics(results: Mapping[str, float]) -> str:
    """Returns ``AUC: 0.805664 - logloss: 0.445767``."""
    return " - ".join(f"{name}: {value:.6f}" for name, value in results.items())
