"""One training step: loss, gradients, penalties, clipping, optimiser; none on bad numbers."""

from __future__ import annotations

import math

import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import FuxiCTRError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.debug.not_finite import explain_not_finite
from fuxictr.pytorch.losses import add_penalty_gradients
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import make_optimizer, row_gradients
from fuxictr.pytorch.precision import autocast
from fuxictr.pytorch.training.compiled import Loss, compile_loss


class NotFiniteError(FuxiCTRError, ArithmeticError):
    """The loss or a gradient became NaN or infinite."""


class StepStopped(Exception):
    """A step met a number that is not finite, on all processes, and left the weights as they were.

    ``loss`` is that of this process's rows; None where another process has the bad number.
    """

    def __init__(self, loss: float | None) -> None:
        super().__init__(loss)
        self.loss = loss


class TrainingStep:
    """Does one step: minimises the mean cross-entropy and the penalties, clips the gradients' norm.

    On a CPU each step checks the loss and the norm of the gradients before it changes the weights.
    On another device the check would make each step wait for the device. The model must be on the
    device.
    """

    def __init__(self, model: BaseModel, config: TrainConfig, device: torch.device) -> None:
        self.model, self.config, self.device = model, config, device
        self.optimizer = make_optimizer(model, config, device)
        self._parameters = list(model.parameters())
        self._penalties = list(model.penalized_parameters())
        self._loss: Loss = self._plain_loss
        self._is_watched = device.type == "cpu"
        self._may_call = True  # the model, on one process alone, to find where a number went bad

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Does one step and returns the batch's mean cross-entropy, still on the device.

        On several processes it is this one's summand: the sum over its rows, divided by the rows of
        the whole batch. StepStopped is raised on a CPU, where the loss or a gradient is not finite.
        """
        loss = self._derive(batch)
        norm = self._clip()
        if self._is_watched and not math.isfinite(norm.item()):
            self._check_gradients(batch)
        self.optimizer.step()
        return loss

    def compile(self, num_rows: int) -> None:
        """Compiles what key ``compile`` asks for; see ``compile_loss``."""
        self._loss = compile_loss(
            self._plain_loss, self.model, self.config.compile, self.device, num_rows
        )

    def explain(self, loss: float, batch: Batch, where: str) -> NotFiniteError:
        """Returns the error for numbers that are not finite; ``where`` is as "epoch 2, step 57"."""
        rate = self.optimizer.param_groups[0]["lr"]
        with autocast(self.config.amp, self.device):
            text = explain_not_finite(self.model, batch, where, loss, rate, may_call=self._may_call)
        return NotFiniteError(text)

    def _derive(self, batch: Batch) -> torch.Tensor:
        """Sets all gradients, those of penalties included; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        if self._is_watched and not math.isfinite(loss.item()):
            raise StepStopped(loss.item())
        loss.backward()
        add_penalty_gradients(self._penalties)
        return loss.detach()

    def _plain_loss(self, batch: Batch) -> torch.Tensor:
        with autocast(self.config.amp, self.device):
            outputs = self.model(batch)
        return self.model.batch_loss(outputs, self.model.get_labels(batch))

    def _clip(self) -> torch.Tensor:
        """Clips the norm of all gradients; returns the norm before."""
        weights = [*self._parameters, *row_gradients(self.optimizer)]
        return nn.utils.clip_grad_norm_(weights, self.config.max_gradient_norm)

    def _check_gradients(self, batch: Batch) -> None:
        """Raises where a gradient is not finite; a norm too large for float32 clips them to 0."""
        if self._has_bad_gradient():
            raise StepStopped(self._derive(batch).item())  # gradients before they were clipped

    def _has_bad_gradient(self) -> bool:
        weights = [*self._parameters, *row_gradients(self.optimizer)]
        return not all(bool(w.grad.isfinite().all()) for w in weights if w.grad is not None)
