"""Scores a split and computes its metrics, on one process or on several."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fuxictr.config import TrainConfig
from fuxictr.config.tasks import Task
from fuxictr.errors import ConfigError, DataError
from fuxictr.metrics import (
    check_groups,
    evaluate_defined,
    evaluate_metrics,
    find_metric,
    format_metrics,
)
from fuxictr.progress import progress_bar
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.models.hooks import check_hooks, overridden
from fuxictr.pytorch.precision import autocast, matmul_precision
from fuxictr.pytorch.sharding.tables import table_shares
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.saturation import explain_saturation
from fuxictr.pytorch.training.spinning import spinning_where_alone
from fuxictr.pytorch.training.tasks import TaskColumns

logger = logging.getLogger(__name__)


class Evaluator:
    """Computes a model's scores and metrics of a split.

    Methods of FuxiCTR's BaseModel that the model overrides are called in their places.

    On several processes each scores whole batches of its own; the first one computes the metrics of
    the whole split from all scores. ``show_bar`` gives it progress bars. The ``after_batch`` of
    each callback is called after each batch.
    """

    def __init__(
        self,
        model: BaseModel,
        config: TrainConfig,
        device: torch.device,
        show_bar: bool = True,
        callbacks: Sequence[Callback] = (),
        is_within: tuple[str, ...] = (),
    ) -> None:
        self.ranks = current_ranks()
        self.model, self.config, self.device = model, config, device
        self.hooks = overridden(model, model.base_class, config)
        self.columns = TaskColumns(model, config)
        check_hooks(model, self.hooks, is_within)
        model.attach(self)
        self.callbacks = list(callbacks)
        self.show_bar = show_bar and self.ranks.is_first
        self._scored: Batch | None = None  # the last one
        self._has_warned = False
        self._description, self._skips_undefined = "Evaluate", False
        self._own_groups: list[torch.Tensor] | None = None  # as get_group_id gives them

    def evaluate(
        self, batches: EpochIterator, description: str = "Evaluate", skip_undefined: bool = False
    ) -> dict[str, float]:
        """Returns the config's metrics over all rows, on all ranks, and logs them.

        Where the model overrides ``evaluate``, it is what that returns.

        ``skip_undefined`` leaves out, with a warning, metrics that are not defined for these labels
        or groups. Messages call the rows ``description``.

        Raises:
            ConfigError: a metric needs groups and the batches have no group ids.
            DataError: a metric is not defined for these labels or groups.
        """
        self._description, self._skips_undefined = description, skip_undefined
        if "evaluate" not in self.hooks:
            return self.plain_evaluate(batches, self.config.metrics)
        results = self.model.evaluate(batches, metrics=self.config.metrics)
        return _numbers(results, f"{type(self.model).__name__}.evaluate")

    def plain_evaluate(
        self, batches: EpochIterator, metrics: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Returns ``metrics`` over all rows, as BaseModel.evaluate does; None: the config's."""
        names = list(self.config.metrics if metrics is None else metrics)
        groups = self._group_ids(batches, names)
        self.ranks.from_rank_zero(lambda: check_groups(names, groups))
        self._own_groups = [] if self._has_own_groups(names) else None
        y_pred, y_true = self._scores(batches, self._description, with_labels=True)
        if self._own_groups is not None:
            groups = torch.cat(self._own_groups).cpu().numpy()
            self._own_groups = None

        def measure(
            task: Task, labels: torch.Tensor, scores: torch.Tensor, own: list[str]
        ) -> dict[str, float]:
            return self._measure(task, labels, scores, own, groups)

        results = self.ranks.from_rank_zero(
            lambda: self.columns.measure(y_true, y_pred, names, measure)
        )
        logger.info("[Metrics] %s", format_metrics(results))
        return results

    def predict(self, batches: EpochIterator, description: str = "Predict") -> np.ndarray:
        """Returns all rows' scores in order, float32, on the first rank; none on others.

        They are (rows,), or (rows, T) of a model of T labels. Where the model overrides
        ``predict``, they are what that returns.
        """
        self._description = description
        if "predict" not in self.hooks:
            return self.plain_predict(batches)
        found = self.model.predict(batches)
        if self.columns.has_columns and isinstance(found, Mapping):
            found = np.stack([found[task.label] for task in self.columns.tasks], axis=1)
        scores = np.asarray(found, dtype=np.float32)
        allowed = (batches.num_rows, *self.columns.shape)
        if scores.shape != allowed:
            raise DataError(
                f"{type(self.model).__name__}.predict returned scores of shape {scores.shape}; "
                f"allowed: {allowed}, one per row"
            )
        return scores

    def plain_predict(self, batches: EpochIterator) -> np.ndarray:
        """Returns all rows' scores, as BaseModel.predict does."""
        return self._scores(batches, self._description, with_labels=False)[0].cpu().numpy()

    @torch.inference_mode()
    def look_at(self, batch: Batch, description: str) -> None:
        """Warns of saturated scores of one batch, where no split is evaluated.

        It does nothing on several processes, which have parts of a batch and maybe of tables.
        """
        if self.ranks.size > 1 or not batch.num_rows:
            return
        self.model.eval()
        self._scored = batch
        with (
            matmul_precision(self.config.matmul_precision),
            autocast(self.config.amp, self.device),
        ):
            y_pred = self.columns.scores(self.model(batch)).float()
        y_true = self.columns.labels(batch).float()
        pairs = zip(self.columns.each(y_true), self.columns.each(y_pred), strict=True)
        for (task, labels), (_, scores) in pairs:
            self._warn_of_saturation(task, labels, scores, None, description)

    def _measure(
        self,
        task: Task,
        y_true: torch.Tensor,
        y_pred: torch.Tensor,
        metrics: list[str],
        groups: np.ndarray | None,
    ) -> dict[str, float]:
        description = self.columns.where(self._description, task)
        if "evaluate_metrics" in self.hooks:
            labels, scores = (values.double().cpu().numpy() for values in (y_true, y_pred))
            results = self.model.evaluate_metrics(labels, scores, metrics, groups)
            return _numbers(results, f"{type(self.model).__name__}.evaluate_metrics")
        rows = (y_true, y_pred, metrics, groups)
        undefined: dict[str, str] = {}
        try:
            if self._skips_undefined:
                results, undefined = evaluate_defined(*rows)
            else:
                results = evaluate_metrics(*rows)
        except DataError as error:
            raise type(error)(f"{description}: {error}") from error
        for reason in undefined.values():
            logger.warning("%s: %s; the results go without it", description, reason)
        self._warn_of_saturation(task, y_true, y_pred, results.get("logloss"), description)
        return results

    def _has_own_groups(self, metrics: Sequence[str]) -> bool:
        return "get_group_id" in self.hooks and any(find_metric(m).needs_groups for m in metrics)

    def _checkable_metrics(self) -> list[str]:
        """Returns the metrics that can be checked before any row is scored."""
        names = self.config.metrics
        if not self._has_own_groups(names):
            return names
        return [name for name in names if not find_metric(name).needs_groups]

    def _group_ids(self, batches: EpochIterator, metrics: Sequence[str]) -> Any:
        """Returns the groups of all rows; the model's own are known once all are scored."""
        if not self._has_own_groups(metrics):
            return batches.group_ids
        if self.ranks.size > 1:
            raise ConfigError(
                f"{type(self.model).__name__} overrides get_group_id: found {self.ranks.size} "
                "processes, allowed: 1"
            )
        return np.zeros(batches.num_rows)

    def _warn_of_saturation(
        self,
        task: Task,
        y_true: torch.Tensor,
        y_pred: torch.Tensor,
        loss: float | None,
        description: str,
    ) -> None:
        """Warns once of probabilities that have left the range in which the model learns."""
        if self._scored is None or self._has_warned or not task.is_binary:
            return
        found = explain_saturation(
            y_true, y_pred, loss, self.model, self._scored, self.config.learning_rate
        )
        if found is not None:
            self._has_warned = True
            logger.warning("%s: %s", description, found)

    def _scores(
        self, batches: EpochIterator, description: str, with_labels: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns scores and labels, float32 (rows, ...), on the first rank; none on the others."""
        y_pred, y_true = self._own_scores(batches, description, with_labels)
        if batches.share.world_size == 1:
            return (y_pred, y_true) if self.ranks.is_first else (y_pred[:0], y_true[:0])
        found = [self.ranks.gather_to_first(values.cpu()) for values in (y_pred, y_true)]
        whole = [torch.cat(parts) if parts else torch.empty(0) for parts in found]
        return whole[0].to(self.device), whole[1].to(self.device)

    @torch.inference_mode()
    def _own_scores(
        self, batches: EpochIterator, description: str, with_labels: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.model.eval()
        first, stop = batches.own_rows
        shape = (stop - first, *self.columns.shape)
        y_pred = torch.empty(shape, dtype=torch.float32, device=self.device)
        y_true = torch.empty_like(y_pred) if with_labels else y_pred[:0]
        is_collective = bool(table_shares(self.model))  # then all ranks call the model as often
        start = 0
        with (
            matmul_precision(self.config.matmul_precision),
            autocast(self.config.amp, self.device),
            spinning_where_alone(self.device),
            progress_bar(batches.num_rows, description, self.show_bar) as advance,
        ):
            for batch in batches:
                stop = start + batch.num_rows
                if batch.num_rows:
                    self._scored = batch
                if batch.num_rows or is_collective:
                    y_pred[start:stop] = self.columns.scores(self.model(batch))
                if with_labels:
                    y_true[start:stop] = self.columns.labels(batch)
                    if self._own_groups is not None:
                        self._own_groups.append(self.model.get_group_id(batch).reshape(-1))
                start = stop
                advance(min(batch.num_rows * batches.share.world_size, batches.num_rows))
                for callback in self.callbacks:
                    callback.after_batch()
        return y_pred, y_true


def _numbers(results: Any, origin: str) -> dict[str, float]:
    """Returns the metrics that a model's own method gave, as floats."""
    if not isinstance(results, Mapping):
        raise DataError(
            f"{origin} returned {type(results).__name__}; allowed: a mapping of metric to number"
        )
    return {str(name): float(value) for name, value in results.items()}
