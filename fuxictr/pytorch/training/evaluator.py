"""Scores a split and computes its metrics, on one process or on several."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import DataError
from fuxictr.metrics import check_groups, evaluate_defined, evaluate_metrics, format_metrics
from fuxictr.progress import progress_bar
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.precision import autocast, matmul_precision
from fuxictr.pytorch.sharding.tables import table_shares
from fuxictr.pytorch.training.callback import Callback
from fuxictr.pytorch.training.saturation import explain_saturation
from fuxictr.pytorch.training.spinning import spinning_where_alone

logger = logging.getLogger(__name__)


class Evaluator:
    """Computes a model's scores and metrics of a split.

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
    ) -> None:
        self.ranks = current_ranks()
        self.model, self.config, self.device = model, config, device
        self.callbacks = list(callbacks)
        self.show_bar = show_bar and self.ranks.is_first
        self._scored: Batch | None = None  # the last one
        self._has_warned = False

    def evaluate(
        self, batches: EpochIterator, description: str = "Evaluate", skip_undefined: bool = False
    ) -> dict[str, float]:
        """Returns the config's metrics over all rows, on all ranks, and logs them.

        ``skip_undefined`` leaves out, with a warning, metrics that are not defined for these labels
        or groups. Messages call the rows ``description``.

        Raises:
            ConfigError: a metric needs groups and the batches have no group ids.
            DataError: a metric is not defined for these labels or groups.
        """
        self.ranks.from_rank_zero(lambda: check_groups(self.config.metrics, batches.group_ids))
        y_pred, y_true = self._scores(batches, description, with_labels=True)
        results = self.ranks.from_rank_zero(
            lambda: self._measure(y_true, y_pred, batches, description, skip_undefined)
        )
        logger.info("[Metrics] %s", format_metrics(results))
        return results

    def predict(self, batches: EpochIterator, description: str = "Predict") -> np.ndarray:
        """Returns all rows' scores in order, float32 (rows,), on the first rank; none on others."""
        return self._scores(batches, description, with_labels=False)[0].cpu().numpy()

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
            y_pred = self.model(batch)["y_pred"].reshape(-1).float()
        y_true = self.model.get_labels(batch).reshape(-1).float()
        self._warn_of_saturation(y_true, y_pred, None, description)

    def _measure(
        self,
        y_true: torch.Tensor,
        y_pred: torch.Tensor,
        batches: EpochIterator,
        description: str,
        skip_undefined: bool,
    ) -> dict[str, float]:
        rows = (y_true, y_pred, self.config.metrics, batches.group_ids)
        undefined: dict[str, str] = {}
        try:
            if skip_undefined:
                results, undefined = evaluate_defined(*rows)
            else:
                results = evaluate_metrics(*rows)
        except DataError as error:
            raise type(error)(f"{description}: {error}") from error
        for reason in undefined.values():
            logger.warning("%s: %s; the results go without it", description, reason)
        self._warn_of_saturation(y_true, y_pred, results.get("logloss"), description)
        return results

    def _warn_of_saturation(
        self, y_true: torch.Tensor, y_pred: torch.Tensor, loss: float | None, description: str
    ) -> None:
        """Warns once of scores that have left the range in which the model learns."""
        if self._scored is None or self._has_warned:
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
        """Returns scores and labels, float32 (rows,), on the first rank; none on the others."""
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
        y_pred = torch.empty(stop - first, dtype=torch.float32, device=self.device)
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
                    y_pred[start:stop] = self.model(batch)["y_pred"].reshape(-1)
                if with_labels:
                    y_true[start:stop] = self.model.get_labels(batch).reshape(-1)
                start = stop
                advance(min(batch.num_rows * batches.share.world_size, batches.num_rows))
                for callback in self.callbacks:
                    callback.after_batch()
        return y_pred, y_true
