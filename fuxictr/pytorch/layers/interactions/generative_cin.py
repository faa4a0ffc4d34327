"""The compressed interaction network (CIN) of xDeepFM, discriminative and generative."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fuxictr.config import GeneratorConfig
from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.generation import build_generators
from fuxictr.pytorch.precision import autocast_dtype
from fuxictr.pytorch.recording import Recordable

# How many numbers of the outer product are formed at once: 2 MB, which stay in cache.
_CHUNK_NUMBERS = 1 << 19
# A GPU wants large pieces of work: 256 MB.
_CHUNK_NUMBERS_GPU = 1 << 26


class _OuterProductMap(torch.autograd.Function):
    """out_rh = sum_{i,j} z_ri x_rj W_(ij)h: z (R, F), x (R, J), W (F * J, H) -> (R, H).

    Products of a chunk of rows are formed, mapped and dropped; the backward pass forms them again.
    Where z and x are bfloat16, so is all but the sum of the weight's gradient, in its own dtype.
    """

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(z, x, weight)
        out = z.new_empty(len(z), weight.shape[1])
        factor = weight.to(z.dtype)
        for rows in _chunks(z, len(weight)):
            torch.mm(_outer(z[rows], x[rows]), factor, out=out[rows])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z, x, weight = ctx.saved_tensors
        grad = grads[0]
        grad_z, grad_x = torch.empty_like(z), torch.empty_like(x)
        is_mixed = z.dtype != weight.dtype
        grad_weight = weight.new_zeros(weight.shape[::-1]) if is_mixed else torch.zeros_like(weight)
        factor = weight.to(z.dtype).t()
        for rows in _chunks(z, len(weight)):
            outer = _outer(z[rows], x[rows])
            if is_mixed:
                grad_weight += grad[rows].t() @ outer
            else:
                grad_weight.addmm_(outer.t(), grad[rows])
            grad_outer = (grad[rows] @ factor).view(-1, z.shape[1], x.shape[1])
            torch.bmm(grad_outer, x[rows].unsqueeze(2), out=grad_z[rows].unsqueeze(2))
            torch.bmm(z[rows].unsqueeze(1), grad_outer, out=grad_x[rows].unsqueeze(1))
        return grad_z, grad_x, grad_weight.t() if is_mixed else grad_weight


def outer_product_map(z: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns out_rh = sum_{i,j} z_ri x_rj W_(ij)h: z (R, F), x (R, J), W (F * J, H) -> (R, H)."""
    return _OuterProductMap.apply(z, x, weight)


def _outer(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (z.unsqueeze(2) * x.unsqueeze(1)).flatten(start_dim=1)


def _chunks(z: torch.Tensor, width: int) -> Iterator[slice]:
    numbers = _CHUNK_NUMBERS_GPU if z.is_cuda else _CHUNK_NUMBERS
    if z.element_size() == 2:  # as many bytes
        numbers *= 2
    size = max(1, numbers // width)
    return (slice(start, start + size) for start in range(0, len(z), size))


class CINLayer(Recordable, nn.Module):
    """One CIN layer (Lian et al., KDD 2018): X_{l+1,h} = b_h + sum_{i,j} W_hij (Z_i * X_{l,j}).

    X_0 is (B, F, D), X_l is (B, H_l, D). Z is X_0 (DIS) or generated from X_0 by an encoder of the
    layer's own (GEN).
    """

    compiles = False  # torch.compile would unroll the loop over the chunks
    applications_per_row: int  # of each weight: the D positions of a map

    def __init__(self, num_fields: int, width: int, out_width: int, generator: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_fields, out_width, width))
        self.bias = nn.Parameter(torch.zeros(out_width))
        self.generator = generator
        std = (2.0 / (num_fields * width + out_width)) ** 0.5
        nn.init.normal_(self.weight, std=std)

    def forward(self, first: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        """Returns X_{l+1} (B, H_{l+1}, D)."""
        gen = self.generator(first)
        self.record_all(X_0=first, gen=gen, left=gen, right=current)
        batch_size, _, width = first.shape
        dtype = autocast_dtype(first)
        gen, current = gen.to(dtype), current.to(dtype)
        z = gen.transpose(1, 2).flatten(0, 1)  # (B, F, D) -> (B*D, F)
        x = current.transpose(1, 2).flatten(0, 1)  # (B, H_l, D) -> (B*D, H_l)
        weight = self.weight.transpose(1, 2).flatten(0, 1)  # (F, H_{l+1}, H_l) -> (F*H_l, H_{l+1})
        maps = outer_product_map(z, x, weight) + self.bias  # (B*D, H_{l+1})
        # All sizes are given: torch could not tell the last one of a batch without rows.
        return maps.view(batch_size, width, maps.shape[1]).transpose(1, 2)


class GenerativeCIN(nn.Module):
    """CIN, (B, F, D) -> (B, 1): the sums over D of every layer's maps, mapped to one logit."""

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int,
        hidden_units: list[int],
        cfg: GeneratorConfig,
    ) -> None:
        super().__init__()
        if cfg.target != "all" or cfg.symmetric:
            raise ConfigError(
                "CIN needs target: all and symmetric: false; its right side are feature maps, "
                "not fields"
            )
        if not hidden_units:
            raise ConfigError("key 'cin_hidden_units': found [], allowed: one number or more")
        num_fields = feature_map.num_fields
        widths = [num_fields, *hidden_units]
        generators = build_generators(feature_map, embedding_dim, cfg, len(hidden_units))
        self.layers = nn.ModuleList(
            CINLayer(num_fields, width, out_width, generator)
            for width, out_width, generator in zip(widths, hidden_units, generators, strict=False)
        )
        for layer in self.layers:
            layer.applications_per_row = embedding_dim
        self.fc = nn.Linear(sum(hidden_units), 1)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the logits (B, 1)."""
        return self.fc(self.pooled(feature_emb))

    def pooled(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the sum-pooled maps of all layers (B, sum of the hidden units)."""
        current, sums = feature_emb, []
        for layer in self.layers:
            current = layer(feature_emb, current)
            sums.append(current.sum(dim=-1))
        return torch.cat(sums, dim=-1)
