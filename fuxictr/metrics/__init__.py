"""Metrics of click predictions: exact, in float64, on numpy arrays or on a GPU's tensors.

AUC and logloss are over all rows; so are RMSE, MSE and MAE, which regression has. gAUC, avgAUC, MRR
and NDCG(k=N) are over the order of the rows within each group (a user, a query, an impression). No
result depends on the order of the rows.
"""

from fuxictr.metrics.evaluate import (
    GROUP_METRICS,
    METRICS,
    Metric,
    check_defined,
    check_groups,
    evaluate_defined,
    evaluate_metrics,
    find_metric,
    find_undefined,
    format_metrics,
    split_label,
)
from fuxictr.metrics.groups import GroupRanking, avg_auc, gauc, mrr, ndcg
from fuxictr.metrics.monitor import Monitor
from fuxictr.metrics.rows import UndefinedMetricError, auc, logloss, mae, mse, rmse

__all__ = [
    "GROUP_METRICS",
    "METRICS",
    "GroupRanking",
    "Metric",
    "Monitor",
    "UndefinedMetricError",
    "auc",
    "avg_auc",
    "check_defined",
    "check_groups",
    "evaluate_defined",
    "evaluate_metrics",
    "find_metric",
    "find_undefined",
    "format_metrics",
    "gauc",
    "logloss",
    "mae",
    "mrr",
    "mse",
    "ndcg",
    "rmse",
    "split_label",
]
