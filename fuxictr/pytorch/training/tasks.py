"""Scores, labels and metrics of a model's tasks: one column each where there are several."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fuxictr.config import TrainConfig
from fuxictr.config.tasks import Task, metrics_of_task
from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import Monitor, find_metric, format_metrics
from fuxictr.pytorch.models import BaseModel, MultiTaskModel
from fuxictr.pytorch.models.multi_task_model import prediction

logger = logging.getLogger(__name__)

# Labels and scores (rows,) of a task, and the metrics to compute -> metric: value.
Measure = Callable[[Task, torch.Tensor, torch.Tensor, list[str]], dict[str, float]]


class TaskColumns:
    """What a model predicts, as vectors (rows,), or as (rows, T) for a MultiTaskModel of T labels.

    Raises:
        ConfigError: the tasks of the config are not those that the model was built with, or the
            monitor is the metric of a label that the model does not predict.
    """

    def __init__(self, model: BaseModel, config: TrainConfig) -> None:
        self.model, self.tasks = model, model.tasks
        self.has_columns = isinstance(model, MultiTaskModel)
        self.shape = (len(self.tasks),) if self.has_columns else ()
        wanted = [config.task] if isinstance(config.task, str) else list(config.task)
        found = [task.kind for task in self.tasks]
        if wanted != found and wanted * len(found) != found:
            raise ConfigError(
                f"key 'task': found {config.task}, but {type(model).__name__} was built for "
                f"{', '.join(found)}; its __init__ must pass task on to "
                f"{model.base_class.__name__}"
            )
        monitor = Monitor(config.monitor, config.monitor_mode)
        monitor.check_labels([task.label for task in self.tasks] if self.has_columns else [])
        others = model.feature_map.labels[len(self.tasks) :]
        if others:
            logger.warning(
                "%s predicts label '%s' alone, as in FuxiCTR: %s is not used; several labels need "
                "a MultiTaskModel",
                type(model).__name__,
                self.tasks[0].label,
                ", ".join(others),
            )

    def scores(self, outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the scores of what ``forward`` returned."""
        if not self.has_columns:
            return outputs["y_pred"].reshape(-1)
        found = [prediction(self.model, outputs, task).reshape(-1) for task in self.tasks]
        return torch.stack(found, dim=1)

    def labels(self, batch: Any) -> torch.Tensor:
        """Returns the labels of a batch."""
        labels = self.model.get_labels(batch)
        if not self.has_columns:
            return labels.reshape(-1)
        if not isinstance(labels, (list, tuple)) or len(labels) != len(self.tasks):
            raise DataError(
                f"{type(self.model).__name__}.get_labels returned {type(labels).__name__}; "
                f"allowed: a list of {len(self.tasks)} tensors (B, 1), one for each label"
            )
        return torch.stack([column.reshape(-1) for column in labels], dim=1)

    def each(self, values: torch.Tensor) -> list[tuple[Task, torch.Tensor]]:
        """Returns the tasks with their columns of scores or labels."""
        columns = values.unbind(dim=1) if self.has_columns else [values]
        return list(zip(self.tasks, columns, strict=True))

    def metrics_of(self, task: Task, metrics: Sequence[str]) -> list[str]:
        """Returns the metrics that are computed for a task."""
        return metrics_of_task(task, self.tasks, [find_metric(name) for name in metrics])

    def where(self, description: str, task: Task) -> str:
        """Returns what messages call the rows of a task."""
        return f"{description}, label '{task.label}'" if self.has_columns else description

    def measure(
        self,
        y_true: torch.Tensor,
        y_pred: torch.Tensor,
        metrics: Sequence[str],
        measure: Measure,
    ) -> dict[str, float]:
        """Returns the metrics of all labels.

        Several give ``<label>_<metric>``, then ``<metric>``, the mean over the labels that it is
        computed for. There is no mean where one of these lacks it.
        """
        if not self.has_columns:
            return measure(self.tasks[0], y_true, y_pred, list(metrics))
        results: dict[str, float] = {}
        of_metric: dict[str, list[float]] = {}
        num_labels: dict[str, int] = {}
        for (task, labels), (_, scores) in zip(self.each(y_true), self.each(y_pred), strict=True):
            own = self.metrics_of(task, metrics)
            if not own:
                continue
            found = measure(task, labels.contiguous(), scores.contiguous(), own)
            logger.info("[Task: %s][Metrics] %s", task.label, format_metrics(found))
            for name in dict.fromkeys([*own, *found]):
                num_labels[name] = num_labels.get(name, 0) + 1
                of_metric.setdefault(name, []).extend([found[name]] if name in found else [])
            results |= {f"{task.label}_{name}": value for name, value in found.items()}
        for name, values in of_metric.items():
            if len(values) == num_labels[name]:
                results[name] = statistics.fmean(values)
        return results
