"""Trains, evaluates and predicts: the loop, early stopping, and the best weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError, DataError, FuxiCTRError
from fuxictr.metrics import Monitor, check_groups, evaluate_metrics, find_metric, format_metrics
from fuxictr.progress import progress_bar
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.checkpoint import load_weights, save_weights
from fuxictr.pytorch.compiled import CompiledLoss, CudaGraphs, Step, make_graphed_step
from fuxictr.pytorch.dataloaders import EpochIterator
from fuxictr.pytorch.lazy_adam import flush, make_optimizer, touched
from fuxictr.pytorch.losses import add_penalty_gradients, cross_entropy
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.precision import autocast, matmul_precision

logger = logging.getLogger(__name__)


class NotFiniteError(FuxiCTRError, ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass
class EarlyStopping:
    """Follows the monitor: says when it improved, when to lower the rate, when to stop.

    Attributes:
        mode: ``max`` or ``min``.
        patience: evaluations without improvement before stopping.
        min_delta: the least improvement that counts.
    """

    mode: str = "max"
    patience: int = 2
    min_delta: float = 1e-6
    best: float | None = None
    num_stalled: int = 0

    def improved(self, value: float) -> bool:
        """Takes in one evaluation; returns whether it is the best so far."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.best is None or sign * (value - self.best) > self.min_delta:
            self.best, self.num_stalled = value, 0
            return True
        self.num_stalled += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience is used up."""
        return self.num_stalled >= self.patience


class Callback:
    """What may look at a training run from outside; every method does nothing unless overridden.

    It must leave the weights, the optimiser and the random number generators as they are.
    """

    def before_training(self, steps_per_epoch: int) -> None:
        """Called once, before the first step."""

    def is_due(self, step: int) -> bool:
        """Returns whether ``after_step`` is wanted; asked after every step, so it must be cheap."""
        return False

    def after_step(self, epoch: int, step: int) -> None:
        """Called after each step that is due; the clock of the training time stands still."""

    def after_evaluation(self, entry: dict[str, Any]) -> None:
        """Called with each new entry of the history."""

    def close(self) -> None:
        """Called once at the end, also of a training that failed."""


@dataclass
class FitResult:
    """What a training run gave.

    Attributes:
        valid: metrics of the weights that the model holds now.
        num_epochs: epochs begun.
        train_seconds: time in training steps, evaluation left out.
        num_rows: rows trained on, all epochs together.
        num_steps: steps done, all epochs together.
        history: one entry an evaluation: epoch, step, rows, train_loss, learning_rate, metrics.
    """

    valid: dict[str, float] = field(default_factory=dict)
    num_epochs: int = 0
    train_seconds: float = 0.0
    num_rows: int = 0
    num_steps: int = 0
    history: list[dict] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Training throughput."""
        return self.num_rows / self.train_seconds if self.train_seconds > 0 else 0.0


class Trainer:
    """Fits a model with the semantics of the reference framework.

    Each step minimises the mean binary cross-entropy plus (lambda / 2) ||w||^2, with the global
    gradient norm clipped. After each evaluation that does not improve the monitor the rate is
    multiplied by 0.1 (floor 1e-6); after ``early_stop_patience`` of them in a row training stops.
    The best evaluation's weights are restored at the end.

    Args:
        model: the model; it is moved to ``device``.
        config: how to train.
        device: where to train.
        checkpoint: file of the best weights; null keeps them in memory only.
        verbose: 0 shows no progress bars.
        encoders_hash: of the encoded data, kept beside the checkpoint; empty = unknown.
        callbacks: what looks at the training.
    """

    decay_factor = 0.1
    min_learning_rate = 1e-6

    def __init__(
        self,
        model: BaseModel,
        config: TrainConfig,
        device: torch.device | str = "cpu",
        checkpoint: str | Path | None = None,
        verbose: int = 1,
        encoders_hash: str = "",
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model = model.to(device)
        self.encoders_hash = encoders_hash
        self.callbacks = callbacks
        self.config = config
        self.device = torch.device(device)
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.show_bar = verbose > 0
        self.monitor = Monitor(config.monitor)
        self.stopping = EarlyStopping(config.monitor_mode, config.early_stop_patience)
        self.optimizer = make_optimizer(model, config, self.device)
        self._parameters = list(model.parameters())
        self._penalties = list(model.penalized_parameters())
        self._compiled_loss: Step | None = None
        self._best_state: dict[str, torch.Tensor] | None = None
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._num_summed = 0
        metrics = [find_metric(name).name for name in config.metrics]
        missing = [m for m in self.monitor.get_metrics() if m not in metrics]
        if missing:
            raise ConfigError(f"key 'monitor': {missing[0]} is not among the metrics {metrics}")

    def fit(self, train: EpochIterator, valid: EpochIterator | None) -> FitResult:
        """Trains until early stopping or the last epoch, and restores the best weights.

        Args:
            train: training batches.
            valid: validation batches; null trains for all epochs and keeps the last weights.

        Raises:
            ConfigError: a metric needs groups and the validation batches have no group ids, or
                ``compile: true`` without a compiler.
            DataError: a split has no rows.
            NotFiniteError: the loss became NaN or infinite.
        """
        for name, split in (("training", train), ("validation", valid)):
            if split is not None and split.num_rows == 0:
                raise DataError(f"the {name} split has no rows")
        if valid is not None:
            check_groups(self.config.metrics, valid.group_ids)
        step, result = self._make_step(), FitResult()
        logger.info(
            "Start training: %d rows, %d batches/epoch on %s",
            train.num_rows,
            len(train),
            self.device,
        )
        try:
            for callback in self.callbacks:
                callback.before_training(len(train))
            with matmul_precision(self.config.matmul_precision):
                self._train(train, valid, step, result)
        finally:
            for callback in self.callbacks:
                callback.close()
        logger.info("Training finished.")
        self._restore_best(valid, result)
        return result

    def evaluate(self, batches: EpochIterator, description: str = "Evaluate") -> dict[str, float]:
        """Returns the config's metrics over all rows, and logs them.

        Raises:
            ConfigError: a metric needs groups and the batches have no group ids.
            DataError: a metric is not defined for these labels or groups.
        """
        check_groups(self.config.metrics, batches.group_ids)
        y_pred, y_true = self._scores(batches, description, with_labels=True)
        results = evaluate_metrics(y_true, y_pred, self.config.metrics, batches.group_ids)
        logger.info("[Metrics] %s", format_metrics(results))
        return results

    def predict(self, batches: EpochIterator, description: str = "Predict") -> np.ndarray:
        """Returns the click probability of every row, float32 (rows,), in the rows' order."""
        return self._scores(batches, description, with_labels=False)[0].cpu().numpy()

    def train_step(self, batch: Batch) -> torch.Tensor:
        """Does one step and returns the batch's mean cross-entropy, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = (self._compiled_loss or self._plain_loss)(batch)
        loss.backward()
        add_penalty_gradients(self._penalties)
        weights = [*self._parameters, *touched(self.optimizer)]
        nn.utils.clip_grad_norm_(weights, self.config.max_gradient_norm)
        self.optimizer.step()
        return loss.detach()

    def _plain_loss(self, batch: Batch) -> torch.Tensor:
        with autocast(self.config.amp, self.device):
            outputs = self.model(batch)
        return cross_entropy(outputs, self.model.get_labels(batch))

    def _make_step(self) -> Step:
        """Returns the training step as key ``compile`` asks for it."""
        if self.config.compile is True:
            self._compiled_loss = CompiledLoss(self._plain_loss, self.model, self.device)
        if self.config.compile == "auto" and self.device.type == "cuda":
            graphs = CudaGraphs(self.device)
            return make_graphed_step(self.train_step, self.model, self.optimizer, graphs)
        return self.train_step

    def _train(
        self, train: EpochIterator, valid: EpochIterator | None, step: Step, result: FitResult
    ) -> None:
        for epoch in range(1, self.config.epochs + 1):
            result.num_epochs = epoch
            for _ in self._train_epoch(train, epoch, step, result):
                self._evaluate_and_decide(valid, epoch, result)
                if self.stopping.should_stop:
                    break
            if self.stopping.should_stop:
                logger.info("********* Epoch==%d early stop *********", epoch)
                break
            logger.info("************ Epoch=%d end ************", epoch)
        if not result.history:  # eval_steps is longer than the whole training
            self._evaluate_and_decide(valid, result.num_epochs, result)

    def _train_epoch(
        self, train: EpochIterator, epoch: int, step: Step, result: FitResult
    ) -> Iterator[None]:
        """Does the steps of one epoch; yields where an evaluation is due."""
        interval = self.config.eval_steps or len(train)
        self.model.train()
        start = time.perf_counter()
        with progress_bar(train.num_rows, f"Epoch {epoch}", self.show_bar) as advance:
            for batch in train:
                self._loss_sum += step(batch)
                self._num_summed += 1
                result.num_steps += 1
                result.num_rows += batch.num_rows
                advance(batch.num_rows)
                due = [c for c in self.callbacks if c.is_due(result.num_steps)]
                is_evaluated = result.num_steps % interval == 0
                if due or is_evaluated:
                    result.train_seconds += self._seconds_since(start)
                    for callback in due:
                        callback.after_step(epoch, result.num_steps)
                    if is_evaluated:
                        yield
                    self.model.train()
                    start = time.perf_counter()
        result.train_seconds += self._seconds_since(start)

    def _seconds_since(self, start: float) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def _mean_loss(self, epoch: int, step: int) -> float:
        """Returns the mean loss of the steps since it was asked last, penalties included."""
        with torch.no_grad():
            penalty = self.model.regularization_loss().item()
        loss = self._loss_sum.item() / max(self._num_summed, 1) + penalty
        self._loss_sum.zero_()
        self._num_summed = 0
        if not np.isfinite(loss):
            raise NotFiniteError(
                f"the training loss is {loss} in epoch {epoch}, at or before step {step}; "
                "lower learning_rate or gamma"
            )
        return loss

    def _evaluate_and_decide(
        self, valid: EpochIterator | None, epoch: int, result: FitResult
    ) -> None:
        flush(self.optimizer)
        train_loss = self._mean_loss(epoch, result.num_steps)
        logger.info("Train loss: %.6f", train_loss)
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": result.num_steps,
            "rows": result.num_rows,
            "train_loss": train_loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        result.history.append(entry)
        if valid is not None:
            entry["metrics"] = self.evaluate(valid, "Validate")
            self._decide(entry["metrics"], result)
        for callback in self.callbacks:
            callback.after_evaluation(entry)

    def _decide(self, metrics: dict[str, float], result: FitResult) -> None:
        """Keeps the weights if the monitor improved, otherwise lowers the rate."""
        value = self.monitor.get_value(metrics)
        mode = self.config.monitor_mode
        if self.stopping.improved(value):
            logger.info("Save best model: monitor(%s)=%.6f", mode, value)
            result.valid = metrics
            self._keep_best()
        else:
            logger.info("Monitor(%s)=%.6f STOP!", mode, value)
            if self.config.reduce_lr_on_plateau:
                self._lower_learning_rate()

    def _lower_learning_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = max(group["lr"] * self.decay_factor, self.min_learning_rate)
        logger.info("Reduce learning rate on plateau: %.6f", self.optimizer.param_groups[0]["lr"])

    def _keep_best(self) -> None:
        if self.checkpoint is not None:
            save_weights(self.model, self.checkpoint, self.encoders_hash)
        else:
            state = self.model.state_dict()
            self._best_state = {name: tensor.clone() for name, tensor in state.items()}

    def _restore_best(self, valid: EpochIterator | None, result: FitResult) -> None:
        if valid is None or not self.config.save_best_only:
            self._keep_best()
            if result.history:
                result.valid = result.history[-1].get("metrics", {})
        elif self.checkpoint is not None:
            logger.info("Load best model: %s", self.checkpoint)
            load_weights(self.model, self.checkpoint)
        elif self._best_state is not None:
            self.model.load_state_dict(self._best_state)

    @torch.inference_mode()
    def _scores(
        self, batches: EpochIterator, description: str, with_labels: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns probabilities and labels, float32 (rows,), where the model is."""
        self.model.eval()
        y_pred = torch.empty(batches.num_rows, dtype=torch.float32, device=self.device)
        y_true = torch.empty_like(y_pred) if with_labels else y_pred[:0]
        start = 0
        with (
            matmul_precision(self.config.matmul_precision),
            autocast(self.config.amp, self.device),
            progress_bar(batches.num_rows, description, self.show_bar) as advance,
        ):
            for batch in batches:
                stop = start + batch.num_rows
                y_pred[start:stop] = self.model(batch)["y_pred"].reshape(-1)
                if with_labels:
                    y_true[start:stop] = self.model.get_labels(batch).reshape(-1)
                start = stop
                advance(batch.num_rows)
        return y_pred, y_true
