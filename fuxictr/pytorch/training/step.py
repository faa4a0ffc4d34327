"""One training step: loss, gradients, penalties, clipping, optimiser; none on bad numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import FuxiCTRError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.debug.not_finite import explain_not_finite
from fuxictr.pytorch.losses import add_penalty_gradients, cross_entropy
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import make_optimizer, touched
from fuxictr.pytorch.precision import autocast
from fuxictr.pytorch.training.compiled import CompiledLoss, CudaGraphs, Step, make_graphed_step


class NotFiniteError(FuxiCTRError, ArithmeticError):
    """The loss or a gradient became NaN or infinite."""


class TrainingStep:
    """Does one step: minimises the mean cross-entropy and the penalties, clips the gradients' norm.

    On a CPU the loss and the norm of the gradients are looked at in each step, before the weights
    are changed. On another device that would make each step wait for it.

    Args:
        model: the model, on the device.
        config: how to train.
        device: where.
        where: returns the place of the present step in the training, for messages.

    Attributes:
        optimizer: the config's.
    """

    def __init__(
        self,
        model: BaseModel,
        config: TrainConfig,
        device: torch.device,
        where: Callable[[], str],
    ) -> None:
        self.model, self.config, self.device, self.where = model, config, device, where
        self.optimizer = make_optimizer(model, config, device)
        self._parameters = list(model.parameters())
        self._penalties = list(model.penalized_parameters())
        self._loss: Step = self._plain_loss
        self._is_watched = device.type == "cpu"
        self._may_call = True  # the model, to find where a number went bad

    def __call__(self, batch: Batch, num_rows: int | None = None) -> torch.Tensor:
        """Does one step and returns the batch's mean cross-entropy, still on the device.

        Args:
            batch: the rows.
            num_rows: rows of the batch, where these are this process's part of it; see RankedStep.

        Raises:
            NotFiniteError: on a CPU, where the loss or a gradient is NaN or infinite; the weights
                are as they were.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batch)
        weights = [*self._parameters, *touched(self.optimizer)]
        norm = nn.utils.clip_grad_norm_(weights, self.config.max_gradient_norm)
        if self._is_watched and not math.isfinite(norm.item()):
            self._check_gradients(weights, batch)
        self.optimizer.step()
        return loss

    def prepare(self, step: Step, num_rows: int) -> Step:
        """Returns what does the steps of a training, as key ``compile`` asks for it.

        Args:
            step: does one step, by calling this.
            num_rows: rows of all batches but the last one of an epoch.

        Raises:
            ConfigError: ``compile: true`` without a compiler.
        """
        self._loss = self._plain_loss
        if self.config.compile is True:
            self._loss = CompiledLoss(self._plain_loss, self.model, self.device, num_rows)
        if self.config.compile == "auto" and self.device.type == "cuda":
            graphs = CudaGraphs(self.device)
            return make_graphed_step(step, self.model, self.optimizer, graphs, num_rows)
        return step

    def not_finite(self, loss: float, batch: Batch, where: str) -> NotFiniteError:
        """Returns the error for a loss that is NaN or infinite; says what became so first."""
        rate = self.optimizer.param_groups[0]["lr"]
        with autocast(self.config.amp, self.device):
            text = explain_not_finite(self.model, batch, where, loss, rate, may_call=self._may_call)
        return NotFiniteError(text)

    def _plain_loss(self, batch: Batch) -> torch.Tensor:
        with autocast(self.config.amp, self.device):
            outputs = self.model(batch)
        return cross_entropy(outputs, self.model.get_labels(batch))

    def _backward(self, batch: Batch) -> torch.Tensor:
        loss = self._loss(batch)
        if self._is_watched and not math.isfinite(loss.item()):
            raise self.not_finite(loss.item(), batch, self.where())
        loss.backward()
        add_penalty_gradients(self._penalties)
        return loss.detach()

    def _check_gradients(self, weights: list[torch.Tensor], batch: Batch) -> None:
        """Raises where a gradient is not finite; a norm too large for float32 clips them to 0."""
        if all(bool(w.grad.isfinite().all()) for w in weights if w.grad is not None):
            return
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batch)  # the gradients as they were before they were clipped
        raise self.not_finite(loss.item(), batch, self.where())
