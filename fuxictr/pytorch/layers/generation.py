"""Supervised Feature Generation: the encoder that turns a DIS model into a GEN model.

Source: Yin et al., From Feature Interaction to Feature Generation, ICML 2025 (arXiv 2512.14041).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fuxictr.config.sections import GeneratorConfig
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import get_activation


class GEN(nn.Module):
    """Generates every field's embedding: z_i = gamma * act(v W_i) [+ v_i].

    With ``concat_emb`` the source is v = [v_1 .. v_F], the concatenation of all fields ("all
    predict all"): the W_i in R^{FD x D} of all fields are one Linear(FD, FD), xavier-normal. With
    ``small_transformation`` field i is encoded from v_i alone by a D x D matrix of its own. With
    neither, z_i = gamma * act(v_i).

    Shape:
        input: raw embeddings v (B, F, D).
        output: generated embeddings z (B, F, D).
    """

    def __init__(
        self, num_fields: int, embedding_dim: int, config: GeneratorConfig, bias: bool = False
    ) -> None:
        super().__init__()
        self.gamma = config.gamma
        self.residual = config.gen_residual
        self.encoder: nn.Module = nn.Identity()
        if config.concat_emb:
            width = num_fields * embedding_dim
            self.encoder = AllFieldsEncoder(width, bias)
        elif config.small_transformation:
            self.encoder = OwnFieldEncoder(num_fields, embedding_dim)
        self.activation = get_activation(config.emb_activation)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the generated embeddings (B, F, D)."""
        gen = self.gamma * self.activation(self.encoder(feature_emb))
        return gen + feature_emb if self.residual else gen


class AllFieldsEncoder(nn.Linear):
    """Encodes every field from all fields by one linear map of the concatenation, FD -> FD."""

    def __init__(self, width: int, bias: bool = False) -> None:
        super().__init__(width, width, bias=bias)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F, D)."""
        flat = feature_emb.flatten(start_dim=1)  # (B, F, D) -> (B, F*D)
        return super().forward(flat).view_as(feature_emb)


class OwnFieldEncoder(nn.Module):
    """Encodes every field from itself by a D x D matrix of its own, xavier-normal."""

    def __init__(self, num_fields: int, embedding_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_fields, embedding_dim, embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws each field's matrix xavier-normal."""
        for matrix in self.weight.detach():
            nn.init.xavier_normal_(matrix)

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """(B, F, D) -> (B, F, D)."""
        return torch.einsum("bfd,fde->bfe", feature_emb, self.weight)


def build_generators(
    feature_map: FeatureMap,
    embedding_dim: int,
    cfg: GeneratorConfig | Mapping[str, Any],
    num_layers: int | None = None,
    bias: bool = False,
) -> nn.Module:
    """Returns what generates the embeddings of a backbone: GEN, or nn.Identity for DIS.

    Args:
        feature_map: the fields.
        embedding_dim: width D of an embedding.
        cfg: the generator's keys; of a mapping (a model's params) the generator's keys are taken.
        num_layers: null for one generator, a number for a ModuleList of that many (one a layer).
        bias: whether the all-fields encoder has a bias.
    """
    if not isinstance(cfg, GeneratorConfig):
        cfg = GeneratorConfig.from_params(dict(cfg), where="the generator")

    def build() -> nn.Module:
        if cfg.is_identity:
            return nn.Identity()
        return GEN(feature_map.num_fields, embedding_dim, cfg, bias)

    return build() if num_layers is None else nn.ModuleList(build() for _ in range(num_layers))
