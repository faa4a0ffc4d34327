"""The attention of DIN from a target to a sequence."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.pytorch.layers.attentions.scaled_dot_product import MASKED
from fuxictr.pytorch.layers.blocks.mlp_block import MLP_Block


class DIN_Attention(nn.Module):
    """sum_l a_l h_l with a_l = MLP([t, h_l, t - h_l, t * h_l]) (Zhou et al. 2018).

    The target t is (B, D), the history h (B, L, D), the output (B, D). A ``mask`` (B, L) is 0 at
    padding. With ``use_softmax`` the a_l of a row are normalised; in the paper they are not.
    """

    def __init__(
        self,
        embedding_dim: int = 64,
        attention_units: list[int] | tuple[int, ...] = (32,),
        hidden_activations: str | list[str] = "ReLU",
        output_activation: str | None = None,
        dropout_rate: float = 0,
        batch_norm: bool = False,
        use_softmax: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.use_softmax = embedding_dim, use_softmax
        self.attention_layer = MLP_Block(
            input_dim=4 * embedding_dim,
            output_dim=1,
            hidden_units=list(attention_units),
            hidden_activations=hidden_activations,
            output_activation=output_activation,
            dropout_rates=dropout_rate,
            batch_norm=batch_norm,
        )

    def forward(
        self,
        target_item: torch.Tensor,
        history_sequence: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the weighted sums (B, D)."""
        target = target_item.unsqueeze(1).expand_as(history_sequence)
        parts = [target, history_sequence, target - history_sequence, target * history_sequence]
        joined = torch.cat(parts, dim=-1)  # (B, L, 4D)
        weights = self.attention_layer(joined.flatten(0, 1)).view(joined.shape[:2])
        if mask is not None:
            weights = weights * mask.float()
        if self.use_softmax:
            if mask is not None:
                weights = weights.masked_fill(mask.float() == 0, MASKED)
            weights = weights.softmax(dim=-1)
        return (weights.unsqueeze(-1) * history_sequence).sum(dim=1)
