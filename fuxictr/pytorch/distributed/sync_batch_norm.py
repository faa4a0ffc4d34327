"""Batch normalisation over the rows of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fuxictr.pytorch.distributed.ranks import Ranks, current_ranks


def share_batch_norm(model: nn.Module, ranks: Ranks) -> None:
    """Makes batch normalisation take its statistics from the rows of all ranks.

    Layers are replaced in place, with the same weights and buffers under the same names: on CUDA by
    torch's SyncBatchNorm, elsewhere by RankBatchNorm. A second call, or one rank, changes nothing.
    """
    if ranks.size == 1:
        return
    if ranks.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, RankBatchNorm):
                setattr(module, name, RankBatchNorm(child))


class RankBatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose mean and variance in training are those of all ranks' rows.

    It takes over the weights and buffers of ``replaced`` and computes the same:
    w (x - mean) / sqrt(var + eps) + b, with the running statistics in evaluation. In training both
    passes are collective, and a rank may have no rows. A process alone has the bits of
    nn.BatchNorm1d.

    Shape:
        input, output: (B_r, C) or (B_r, C, L) on rank r.
    """

    compiles = False  # torch.compile would split the model where ranks communicate

    def __init__(self, replaced: _BatchNorm) -> None:
        super().__init__(
            replaced.num_features,
            replaced.eps,
            replaced.momentum,
            replaced.affine,
            replaced.track_running_stats,
        )
        self._parameters.update(replaced._parameters)
        self._buffers.update(replaced._buffers)
        self.training = replaced.training

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the normalised values; training needs more than one value per channel."""
        ranks = current_ranks()
        if not self.training or ranks.size == 1:
            return super().forward(inputs)
        weights = (self.weight, self.bias)
        outputs, mean, variance, count = _Normalize.apply(inputs, *weights, self.eps, ranks)
        if self.running_mean is not None:
            self._track(mean, variance, int(count))
        return outputs

    def _check_input_dim(self, inputs: torch.Tensor) -> None:
        pass  # it may replace a BatchNorm2d

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        self.num_batches_tracked.add_(1)
        # Without momentum the running statistics are the means over all batches.
        rate = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1))
        for running, found in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.copy_(running * (1 - rate) + found * rate)


class _Normalize(torch.autograd.Function):
    """w (x - mean) / sqrt(var + eps) + b; mean and var are those of the values of all ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
        ranks: Ranks,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        values = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        count, mean, variance = _moments(values, ranks)
        if count <= 1:
            raise ValueError(
                f"expected more than 1 value per channel when training, got {int(count)} of all "
                f"ranks together, here {tuple(inputs.shape)}"
            )
        found = mean.to(values.dtype), variance.to(values.dtype)
        outputs = F.batch_norm(inputs, *found, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(inputs, weight, mean, (variance + eps).rsqrt(), count)
        ctx.has_bias, ctx.ranks = bias is not None, ranks
        ctx.mark_non_differentiable(mean, variance, count)
        return outputs, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weight, mean, scale, count = ctx.saved_tensors
        dtype = torch.promote_types(inputs.dtype, torch.float32)

        def column(values: torch.Tensor) -> torch.Tensor:
            return values.to(dtype).view(-1, *[1] * (inputs.dim() - 2))  # (C,) -> (C, 1 ..)

        grad = grads[0].to(dtype)
        normal = (inputs.to(dtype) - column(mean)).mul_(column(scale))
        grad_bias, grad_weight = _sum(grad), _sum(normal * grad)
        means = ctx.ranks.sum(torch.cat([grad_bias, grad_weight]).double()).div_(count).chunk(2)
        found = normal.mul_(-column(means[1])).add_(grad).sub_(column(means[0]))
        found.mul_(column(scale if weight is None else scale * weight))
        # The gradients of w and b are of this rank's values, like those of any weight.
        return (
            found.to(inputs.dtype),
            None if weight is None else grad_weight,
            grad_bias if ctx.has_bias else None,
            None,
            None,
        )


def _moments(values: torch.Tensor, ranks: Ranks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns count (), mean and variance (C,) of all ranks' values (B_r, C, ...), in float64."""
    num_channels = values.shape[1]
    num_values = values.numel() // num_channels
    mean = _sum(values) / max(num_values, 1)
    squares = _sum((values - mean.view(-1, *[1] * (values.dim() - 2))).square_())
    # Squares around the rank's own mean lose no digits; then float64 moves them to around zero.
    mean = mean.double()
    local = [mean.new_tensor([num_values]), num_values * mean, squares + num_values * mean**2]
    count, sums, squares = ranks.sum(torch.cat(local)).split([1, num_channels, num_channels])
    mean = sums / count
    return count.squeeze(0), mean, (squares / count - mean**2).clamp_(min=0)


def _sum(values: torch.Tensor) -> torch.Tensor:
    """Returns the sum (C,) of the values (B, C, ...) of each channel."""
    return values.sum([dim for dim in range(values.dim()) if dim != 1])
