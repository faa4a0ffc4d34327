"""Bilinear interactions of FiBiNET."""

from __future__ import annotations

import torch
from torch import nn

TYPES = ("field_all", "field_each", "field_interaction")


class BilinearInteraction(nn.Module):
    """(v_i W) * v_j of all pairs i < j (Huang et al. 2019), (B, F, D) -> (B, P, D).

    W is one matrix (D, D) for ``field_all``, one per left field (F, D, D) for ``field_each``, and
    one per pair (P, D, D) for ``field_interaction``; xavier-normal by its shape.

    Raises:
        NotImplementedError: another ``bilinear_type``.
    """

    def __init__(
        self, num_fields: int, embedding_dim: int, bilinear_type: str = "field_interaction"
    ) -> None:
        super().__init__()
        if bilinear_type not in TYPES:
            raise NotImplementedError(
                f"bilinear_type: found {bilinear_type!r}, allowed: {', '.join(TYPES)}"
            )
        self.bilinear_type = bilinear_type
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)
        count = {"field_each": num_fields, "field_interaction": pairs.shape[1]}.get(bilinear_type)
        shape = (embedding_dim, embedding_dim)
        self.bilinear_W = nn.Parameter(torch.empty(shape if count is None else (count, *shape)))
        self.init_weights()

    def init_weights(self) -> None:
        """Draws W."""
        nn.init.xavier_normal_(self.bilinear_W)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the products (B, P, D)."""
        lower, upper = self.pairs
        right = feature_emb.index_select(1, upper)
        if self.bilinear_type == "field_interaction":
            left = feature_emb.index_select(1, lower)
            return torch.einsum("bpd,pde->bpe", left, self.bilinear_W) * right
        kind = "bfd,fde->bfe" if self.bilinear_type == "field_each" else "bfd,de->bfe"
        mapped = torch.einsum(kind, feature_emb, self.bilinear_W)
        return mapped.index_select(1, lower) * right


class BilinearInteractionV2(BilinearInteraction):
    """The same, under the name that FuxiCTR gives its vectorised form."""
