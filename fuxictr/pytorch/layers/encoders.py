"""Structures of the encoder of Supervised Feature Generation.

Each takes embeddings (B, F, D) and returns (B, F', D), before activation and gamma; F' is F, or the
number of generated fields. ``init_std`` is the standard deviation that the weights of a map start
with; None: xavier-normal, by the shape of the map.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from fuxictr.errors import ConfigError


class EncoderMap(nn.Linear):
    """A linear map of an encoder, whose weights may start with a deviation of their own."""

    def __init__(
        self, input_dim: int, output_dim: int, bias: bool = False, init_std: float | None = None
    ) -> None:
        super().__init__(input_dim, output_dim, bias=bias)
        self.init_std = init_std
        if init_std is not None:
            nn.init.normal_(self.weight, std=init_std)


class AllFieldsEncoder(EncoderMap):
    """Encodes every field from all fields by one linear map [W_1 .. W_F'], FD -> F'D."""

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        num_generated: int,
        bias: bool = False,
        init_std: float | None = None,
    ) -> None:
        width = num_fields * embedding_dim
        super().__init__(width, num_generated * embedding_dim, bias, init_std)
        self.shape = (num_generated, embedding_dim)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F', D)."""
        flat = feature_emb.flatten(start_dim=1)  # (B, F, D) -> (B, F*D)
        return super().forward(flat).unflatten(1, self.shape)


class FieldSharedEncoder(EncoderMap):
    """Encodes all fields by one vector: FD -> D, copied to every field."""

    def __init__(
        self, num_fields: int, embedding_dim: int, num_generated: int, init_std: float | None = None
    ) -> None:
        super().__init__(num_fields * embedding_dim, embedding_dim, init_std=init_std)
        self.num_generated = num_generated

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F', D)."""
        shared = super().forward(feature_emb.flatten(start_dim=1))  # (B, D)
        return shared.unsqueeze(1).expand(-1, self.num_generated, -1)


class StackedEncoder(nn.Module):
    """Encodes every field from all fields by Linear-BatchNorm-ReLU-Linear, FD -> FD -> F'D."""

    def __init__(
        self, num_fields: int, embedding_dim: int, num_generated: int, init_std: float | None = None
    ) -> None:
        super().__init__()
        width = num_fields * embedding_dim
        self.first = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.second = EncoderMap(width, num_generated * embedding_dim, init_std=init_std)
        self.shape = (num_generated, embedding_dim)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F', D)."""
        hidden = F.relu(self.norm(self.first(feature_emb.flatten(start_dim=1))))
        return self.second(hidden).unflatten(1, self.shape)


class SelfAttentionEncoder(nn.Module):
    """Encodes every field from all fields by scaled multi-head self-attention, then layer norm.

    softmax(Q K^T / sqrt(D / heads)) V with Q, K, V = v W_q, v W_k, v W_v, dropout on the attention,
    no residual; F' = F.
    """

    num_heads = 4
    dropout = 0.2

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        if embedding_dim % self.num_heads:
            raise ConfigError(
                f"encoder: self_attention needs an embedding_dim divisible by {self.num_heads}, "
                f"found {embedding_dim}"
            )
        self.query = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.key = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.value = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F, D)."""

        def heads(projected: torch.Tensor) -> torch.Tensor:
            return projected.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, H, F, D/H)

        attended = F.scaled_dot_product_attention(
            heads(self.query(feature_emb)),
            heads(self.key(feature_emb)),
            heads(self.value(feature_emb)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.norm(attended.transpose(1, 2).flatten(start_dim=2))


class OwnFieldEncoder(nn.Module):
    """Encodes every field from itself by a D x D matrix of its own, xavier-normal.

    With ``is_one_tensor`` the matrices are xavier-normal as one tensor (F, D, D), of which torch
    takes D * D inputs and F * D outputs: deviation sqrt(2 / (D (D + F))) instead of 1 / sqrt(D).
    """

    reference_penalties: ClassVar = {"weight": None}  # a raw parameter in the paper's code

    def __init__(self, num_fields: int, embedding_dim: int, is_one_tensor: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_fields, embedding_dim, embedding_dim))
        for tensor in [self.weight.detach()] if is_one_tensor else self.weight.detach():
            nn.init.xavier_normal_(tensor)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F, D)."""
        return torch.einsum("bfd,fde->bfe", feature_emb, self.weight)
