"""One training step on several processes, each with its own rows of the batch."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.debug.forward_walk import unchanged
from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.distributed.sync_batch_norm import share_batch_norm
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.losses import add_penalty_gradients
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import row_gradients
from fuxictr.pytorch.precision import autocast
from fuxictr.pytorch.sharding.tables import RankTables, table_shares
from fuxictr.pytorch.training.step import StepStopped, TrainingStep

# Buffers are the same on all ranks. The first name is that of torch 2.13 and later.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
_NO_BUFFERS: dict[str, Any] = {_SYNC: False}


class DistributedStep(TrainingStep):
    """Does the step of TrainingStep on P processes, to the same numbers but for rounding.

    Rank r has a part B_r of the rows of the batch B. Its loss is l_r = sum_{B_r} / |B|. It derives
    P l_r, since DistributedDataParallel takes the mean over ranks: grad = (1 / P) sum_r P grad l_r.
    RankTables does the same for embedding tables. Penalties are added afterwards, on all ranks
    alike, and the clipped norm is that of all ranks' gradients. The tables must be sharded before.
    ``compile: true`` is a ConfigError.
    """

    def __init__(
        self, model: BaseModel, config: TrainConfig, device: torch.device, ranks: Ranks
    ) -> None:
        if config.compile is True:
            raise ConfigError(
                f"key 'compile': found true, allowed with {ranks.size} processes: false, auto "
                "(which then compiles nothing)"
            )
        share_batch_norm(model, ranks)
        super().__init__(model, config, device)
        self.ranks = ranks
        self._tables = RankTables(model, config.batch_size, ranks)
        shares = table_shares(model)
        self._sharded = [w for name, w in model.named_parameters() if name in shares]
        self._replicated = [w for name, w in model.named_parameters() if name not in shares]
        for tensor in [*self._replicated, *model.buffers()]:
            ranks.broadcast(tensor.data)
        trained = (w for w in self._parameters if w.requires_grad)
        self._dense = [w for w in trained if id(w) not in self._tables.apart]
        self._forward: nn.Module | None = None  # the first batch shows which weights it leaves out
        # The gradient of a table apart has its penalties already, or gets them from LazyAdam.
        self._penalties = [p for p in self._penalties if id(p[0]) not in self._tables.apart]
        self._may_call = not (shares or _is_collective(model))

    def compile(self, num_rows: int) -> None:
        """Compiles nothing: the parts of batches differ in size."""

    def _derive(self, batch: Batch) -> torch.Tensor:
        self._forget_gradients()
        if self._forward is None:
            self._forward = self._parallel(self._has_unused(batch))
        loss = self._part_of_loss(self._forward, batch)
        (loss * self.ranks.size).backward()
        self._tables.collect()
        add_penalty_gradients(self._penalties)
        return loss.detach()

    def _part_of_loss(self, forward: nn.Module, batch: Batch) -> torch.Tensor:
        with autocast(self.config.amp, self.device):
            outputs = forward(batch)
        labels = self.model.get_labels(batch)
        return self.model.batch_loss(outputs, labels, batch.num_global_rows)

    def _forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._tables.forget_gradients()

    def _clip(self) -> torch.Tensor:
        by_rows = row_gradients(self.optimizer)  # of tables that are all sharded, or all replicated
        limit = self.config.max_gradient_norm
        if not self._sharded:
            return nn.utils.clip_grad_norm_([*self._replicated, *by_rows], limit)
        replicated = [w.grad for w in self._replicated if w.grad is not None]
        sharded = [w.grad for w in [*self._sharded, *by_rows] if w.grad is not None]
        square = self.ranks.sum(_square_norm(sharded, self.device))
        norm = (square + _square_norm(replicated, self.device)).sqrt().squeeze(0)
        scale = (limit / (norm + 1e-6)).clamp(max=1.0).float()
        torch._foreach_mul_([*replicated, *sharded], scale)
        return norm

    def _check_gradients(self, batch: Batch) -> None:
        if not self._count(self._has_bad_gradient()):
            return  # the norm is too large for its type, which clips the gradients to 0
        loss = self._derive(batch).item()
        is_culprit = not math.isfinite(loss)
        num_culprits = self._count(is_culprit)
        raise StepStopped(loss if is_culprit or not num_culprits else None)

    def _count(self, is_one: bool) -> int:
        return int(self.ranks.sum(torch.tensor([int(is_one)])).item())

    def _has_unused(self, batch: Batch) -> bool:
        """Returns whether some dense weight gets no gradient on some rank; changes nothing."""
        with unchanged(self.model), torch.enable_grad():
            self._part_of_loss(self.model, batch).backward()
        unused = [w for w in self._dense if w.grad is None]
        self._forget_gradients()
        return self._count(bool(unused)) > 0

    def _parallel(self, has_unused: bool) -> nn.Module:
        """Returns the model with the gradients of its dense weights averaged over the ranks."""
        if not self._dense:
            return self.model
        apart = [w for w in self._parameters if id(w) in self._tables.apart]
        for weight in apart:
            weight.requires_grad_(False)  # so that DistributedDataParallel skips it
        try:
            return DistributedDataParallel(
                self.model, find_unused_parameters=has_unused, init_sync=False, **_NO_BUFFERS
            )
        finally:
            for weight in apart:
                weight.requires_grad_(True)


def _is_collective(model: nn.Module) -> bool:
    """Returns whether a forward pass needs all ranks, beside rows of tables that lie elsewhere."""
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    targets = (m.config.target for m in model.modules() if isinstance(m, GEN))
    return norms or any(target != "all" for target in targets)


def _square_norm(gradients: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Returns the sum of the squares, float64 (1,)."""
    norms = [gradient.norm().double().view(1) for gradient in gradients]
    total = torch.zeros(1, dtype=torch.float64, device=device)
    return total if not norms else torch.cat(norms).square().sum(dim=0, keepdim=True)
