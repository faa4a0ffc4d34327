"""CIN of xDeepFM as a plain layer; GenerativeCIN is the one that a generator can feed."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.pytorch.layers.interactions.generative_cin import outer_product_map
from fuxictr.pytorch.precision import autocast_dtype


class CompressedInteractionNet(nn.Module):
    """CIN (Lian et al. 2018), v (B, F, D) -> (B, output_dim).

    X_0 = v, X_{l+1,k} = b_k + sum_{h,m} W_k,hm (X_{0,h} * X_{l,m}) without an activation. The sums
    over D of all maps go through one Linear. The weights of a layer are those of a Conv1d with
    kernel 1 over the products, h slow and m fast.
    """

    compiles = False  # torch.compile would unroll the loop over the chunks

    def __init__(self, num_fields: int, cin_hidden_units: list[int], output_dim: int = 1) -> None:
        super().__init__()
        self.cin_hidden_units = list(cin_hidden_units)
        self.fc = nn.Linear(sum(self.cin_hidden_units), output_dim)
        widths = [num_fields, *self.cin_hidden_units]
        self.cin_layer = nn.ModuleDict(
            {
                f"layer_{number}": nn.Conv1d(num_fields * width, out_width, kernel_size=1)
                for number, (width, out_width) in enumerate(
                    zip(widths, self.cin_hidden_units, strict=False), start=1
                )
            }
        )

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the outputs (B, output_dim)."""
        batch_size, _, dim = feature_emb.shape
        dtype = autocast_dtype(feature_emb)
        first = feature_emb.to(dtype).transpose(1, 2).flatten(0, 1)  # (B*D, F)
        current, sums = first, []
        for layer in self.cin_layer.values():
            weight = layer.weight.squeeze(2).t()  # (F * H_l, H_{l+1})
            current = outer_product_map(first, current, weight) + layer.bias
            sums.append(current.view(batch_size, dim, -1).sum(dim=1))
            current = current.to(dtype)
        return self.fc(torch.cat(sums, dim=-1))
