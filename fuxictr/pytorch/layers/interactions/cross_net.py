"""Cross networks on a flat input (B, W): DCN, DCN V2, and its mixture of low-rank experts."""

from __future__ import annotations

import torch
from torch import nn


class CrossInteraction(nn.Module):
    """One cross of DCN (Wang et al. 2017): (w . x_i) x_0 + b, (B, W) -> (B, W)."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.weight = nn.Linear(input_dim, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(input_dim))

    def forward(self, X_0: torch.Tensor, X_i: torch.Tensor) -> torch.Tensor:
        """Returns the cross (B, W)."""
        return torch.addcmul(self.bias, self.weight(X_i), X_0)


class CrossNet(nn.Module):
    """The cross network of DCN (Wang et al. 2017): x_{l+1} = x_l + (w_l . x_l) x_0 + b_l.

    (B, W) -> (B, W). ``GenerativeCrossNet`` is the one with matrices that a generator can feed.
    """

    def __init__(self, input_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.cross_net = nn.ModuleList(CrossInteraction(input_dim) for _ in range(num_layers))

    def forward(self, X_0: torch.Tensor) -> torch.Tensor:
        """Returns x_L (B, W)."""
        current = X_0
        for layer in self.cross_net:
            current = current + layer(X_0, current)
        return current


class CrossNetV2(nn.Module):
    """The cross network of DCN V2 (Wang et al. 2021): x_{l+1} = x_l + x_0 * (W_l x_l + b_l).

    (B, W) -> (B, W).
    """

    def __init__(self, input_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.cross_layers = nn.ModuleList(
            nn.Linear(input_dim, input_dim) for _ in range(num_layers)
        )

    def forward(self, X_0: torch.Tensor) -> torch.Tensor:
        """Returns x_L (B, W)."""
        current = X_0
        for layer in self.cross_layers:
            current = torch.addcmul(current, X_0, layer(current))
        return current


class CrossNetMix(nn.Module):
    """DCN V2's mixture of low-rank experts (Wang et al. 2021), (B, W) -> (B, W).

    x_{l+1} = x_l + sum_e softmax_e(g_e(x_l)) * x_0 * (U_le tanh(C_le tanh(V_le^T x_l)) + b_l).
    U and V are (E, W, R), C is (E, R, R). All layers have the same gates g_e.
    """

    def __init__(
        self, in_features: int, layer_num: int = 2, low_rank: int = 32, num_experts: int = 4
    ) -> None:
        super().__init__()
        self.layer_num, self.num_experts = layer_num, num_experts

        def drawn(*shape: int) -> nn.ParameterList:
            tensors = (torch.empty(num_experts, *shape) for _ in range(layer_num))
            return nn.ParameterList(nn.Parameter(nn.init.xavier_normal_(t)) for t in tensors)

        self.U_list = drawn(in_features, low_rank)
        self.V_list = drawn(in_features, low_rank)
        self.C_list = drawn(low_rank, low_rank)
        self.gating = nn.ModuleList(
            nn.Linear(in_features, 1, bias=False) for _ in range(num_experts)
        )
        self.bias = nn.ParameterList(
            nn.Parameter(torch.zeros(in_features, 1)) for _ in range(layer_num)
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns x_L (B, W)."""
        current = inputs
        for u, v, c, bias in zip(self.U_list, self.V_list, self.C_list, self.bias, strict=True):
            gates = torch.cat([gate(current) for gate in self.gating], dim=1).softmax(dim=1)
            hidden = torch.einsum("ewr,bw->ber", v, current).tanh()
            hidden = torch.einsum("ers,bes->ber", c, hidden).tanh()
            # The gates sum to 1, so that the bias is added once.
            mixed = torch.einsum("ewr,ber,be->bw", u, hidden, gates) + bias.squeeze(1)
            current = torch.addcmul(current, inputs, mixed)
        return current
