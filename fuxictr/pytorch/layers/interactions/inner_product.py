"""Products of all pairs of fields, in four forms."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.pytorch.layers.interactions.pair_interactions import pair_products, pair_sum

OUTPUTS = ("product_sum", "bi_interaction", "inner_product", "elementwise_product")


class InnerProductInteraction(nn.Module):
    """Products of the pairs i < j of v (B, F, D), in the order (0, 1), (0, 2), ..., (1, 2), ...

    - ``product_sum``: sum_{i<j} <v_i, v_j>, (B, 1) (FM, Rendle 2010);
    - ``bi_interaction``: sum_{i<j} v_i * v_j, (B, D) (NFM, He and Chua 2017);
    - ``inner_product``: <v_i, v_j>, (B, P) (IPNN, Qu et al. 2016);
    - ``elementwise_product``: v_i * v_j, (B, P, D), with P = F (F - 1) / 2.

    Raises:
        ValueError: another ``output``.
    """

    def __init__(self, num_fields: int, output: str = "product_sum") -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"output: found {output!r}, allowed: {', '.join(OUTPUTS)}")
        self.num_fields, self.output = num_fields, output
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the products."""
        if self.output == "inner_product":
            return pair_products(feature_emb, feature_emb)
        if self.output == "elementwise_product":
            lower, upper = self.pairs
            return feature_emb.index_select(1, lower) * feature_emb.index_select(1, upper)
        summed = pair_sum(feature_emb, feature_emb)
        return summed if self.output == "bi_interaction" else summed.sum(dim=-1, keepdim=True)
