"""Holographic interactions of HFM."""

from __future__ import annotations

import torch
from torch import nn

TYPES = ("hadamard_product", "circular_convolution", "circular_correlation")


class HolographicInteraction(nn.Module):
    """A product of the vectors a, b of all pairs i < j (Tay et al. 2019), (B, F, D) -> (B, P, D).

    - ``hadamard_product``: a * b;
    - ``circular_convolution``: c_k = sum_l a_l b_{(k - l) mod D};
    - ``circular_correlation``: c_k = sum_l a_l b_{(k + l) mod D}.

    The last two are products of Fourier transforms, in float32 or more.

    Raises:
        ValueError: another ``interaction_type``.
    """

    def __init__(self, num_fields: int, interaction_type: str = "circular_convolution") -> None:
        super().__init__()
        if interaction_type not in TYPES:
            raise ValueError(
                f"interaction_type: found {interaction_type!r}, allowed: {', '.join(TYPES)}"
            )
        self.interaction_type = interaction_type
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the products (B, P, D)."""
        lower, upper = self.pairs
        if self.interaction_type == "hadamard_product":
            return feature_emb.index_select(1, lower) * feature_emb.index_select(1, upper)
        is_double = feature_emb.dtype == torch.float64
        spectra = torch.fft.rfft(feature_emb if is_double else feature_emb.float(), dim=-1)
        left, right = spectra.index_select(1, lower), spectra.index_select(1, upper)
        if self.interaction_type == "circular_correlation":
            left = left.conj()
        return torch.fft.irfft(left * right, n=feature_emb.shape[-1], dim=-1)
