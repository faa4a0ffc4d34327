"""Multi-head attention from a target to a sequence."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.pytorch.layers.attentions.scaled_dot_product import ScaledDotProductAttention


class MultiHeadTargetAttention(nn.Module):
    """Attention with the target (B, D) as query and the history (B, L, D) as keys and values.

    softmax(q_h K_h^T / sqrt(A / H)) V_h per head of width A / H (Vaswani et al. 2017), mapped back
    to (B, D). Without ``use_qkvo`` there are no maps, and A is D.

    Raises:
        ValueError: the attention's width is no multiple of ``num_heads``.
    """

    def __init__(
        self,
        input_dim: int = 64,
        attention_dim: int = 64,
        num_heads: int = 1,
        dropout_rate: float = 0,
        use_scale: bool = True,
        use_qkvo: bool = True,
    ) -> None:
        super().__init__()
        attention_dim = attention_dim if use_qkvo else input_dim
        if attention_dim % num_heads:
            raise ValueError(
                f"num_heads: found {num_heads}, allowed: a divisor of the width {attention_dim}"
            )
        self.num_heads, self.head_dim = num_heads, attention_dim // num_heads
        self.scale = self.head_dim**0.5 if use_scale else None
        self.use_qkvo = use_qkvo
        if use_qkvo:
            self.W_q = nn.Linear(input_dim, attention_dim, bias=False)
            self.W_k = nn.Linear(input_dim, attention_dim, bias=False)
            self.W_v = nn.Linear(input_dim, attention_dim, bias=False)
            self.W_o = nn.Linear(attention_dim, input_dim, bias=False)
        self.dot_attention = ScaledDotProductAttention(dropout_rate)

    def forward(
        self,
        target_item: torch.Tensor,
        history_sequence: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the attended history (B, D); a ``mask`` (B, L) is 0 at padding."""
        query, key, value = target_item, history_sequence, history_sequence
        if self.use_qkvo:
            query, key, value = self.W_q(query), self.W_k(key), self.W_v(value)
        batch_size = len(query)

        def heads(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.view(batch_size, -1, self.num_heads, self.head_dim).transpose(1, 2)

        if mask is not None:
            mask = mask.view(batch_size, 1, 1, -1).expand(-1, self.num_heads, -1, -1)
            mask = mask.contiguous()
        output, _ = self.dot_attention(heads(query), heads(key), heads(value), self.scale, mask)
        output = output.transpose(1, 2).reshape(batch_size, -1)
        return self.W_o(output) if self.use_qkvo else output
