"""The squeeze-and-excitation gates of FiBiNET."""

from __future__ import annotations

import torch
from torch import nn

_ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class SqueezeExcitation(nn.Module):
    """v_i a_i with a = act(W_2 ReLU(W_1 mean_d v)) (Huang et al. 2019), (B, F, D) -> (B, F, D).

    Both maps have no bias. The width between them is F / reduction_ratio, at least 1.

    Raises:
        NotImplementedError: ``excitation_activation`` is neither ReLU nor Sigmoid.
    """

    def __init__(
        self, num_fields: int, reduction_ratio: float = 3, excitation_activation: str = "ReLU"
    ) -> None:
        super().__init__()
        kind = _ACTIVATIONS.get(excitation_activation.lower())
        if kind is None:
            raise NotImplementedError(
                f"excitation_activation: found {excitation_activation!r}, allowed: ReLU, Sigmoid"
            )
        reduced = max(1, int(num_fields / reduction_ratio))
        self.excitation = nn.Sequential(
            nn.Linear(num_fields, reduced, bias=False),
            nn.ReLU(),
            nn.Linear(reduced, num_fields, bias=False),
            kind(),
        )

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the gated embeddings."""
        return feature_emb * self.excitation(feature_emb.mean(dim=-1)).unsqueeze(-1)
