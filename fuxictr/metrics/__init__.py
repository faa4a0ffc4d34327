"""Metrics of click predictions: exact, in float64, on numpy arrays or on a GPU's tensors.

AUC and logloss judge all rows together. gAUC, avgAUC, MRR and NDCG(k=N) judge how the rows of one
group (a user, a query, an impression) are ranked among themselves. No result depends on the order
of the rows.
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
)
from fuxictr.metrics.groups import GroupRanking, avg_auc, gauc, mrr, ndcg
from fuxictr.metrics.monitor import Monitor
from fuxictr.metrics.rows import UndefinedMetricError, auc, logloss

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
    "mrr",
    "ndcg",
]
