"""The compressed interaction network (CIN) of xDeepFM, discriminative and generative."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.config.sections import GeneratorConfig
from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.generation import build_generators
from fuxictr.pytorch.recording import Recordable


class CINLayer(Recordable, nn.Module):
    """One CIN layer (Lian et al., KDD 2018): X_{l+1,h} = b_h + sum_{i,j} W_hij (Z_i * X_{l,j}).

    Z is X_0 (DIS) or generated from X_0 by an encoder of the layer's own (GEN). The outer product
    Z_i * X_{l,j} of all pairs is formed one field i at a time.

    Shape:
        first: X_0 (B, F, D); current: X_l (B, H_l, D).
        output: X_{l+1} (B, H_{l+1}, D).
    """

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
        out = self.bias.view(1, -1, 1)
        for field, weight in enumerate(self.weight):
            out = out + weight @ (gen[:, field : field + 1] * current)  # (B, H_{l+1}, D)
        return out


class CompressedInteractionNet(nn.Module):
    """CIN: the sums over D of every layer's maps, concatenated, to one logit.

    Shape:
        input: X_0 (B, F, D).
        output: logits (B, 1).
    """

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
        num_fields = feature_map.num_fields
        widths = [num_fields, *hidden_units]
        generators = build_generators(feature_map, embedding_dim, cfg, len(hidden_units))
        self.layers = nn.ModuleList(
            CINLayer(num_fields, width, out_width, generator)
            for width, out_width, generator in zip(widths, hidden_units, generators, strict=False)
        )
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
