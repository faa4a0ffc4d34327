"""The cross network of DCN V2, discriminative and generative."""

from __future__ import annotations

import torch
from torch import nn

from fuxictr.config import GeneratorConfig
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.generation import build_generators, target_side
from fuxictr.pytorch.recording import Recordable


class CrossLayer(Recordable, nn.Module):
    """One cross layer: X_{l+1} = Drop(X_l + Z_l * (W_l X_l)), all (B, F, D).

    DIS: Z_l = X_0 (Wang et al., WWW 2021). GEN: Z_l = gamma * act(G_l X_l) [+ X_l], generated from
    X_l, or from X_0 without ``use_gen_rst``; with ``symmetric``, W_l Z_l replaces W_l X_l. W_l and
    G_l have no bias.
    """

    def __init__(self, width: int, generator: nn.Module, use_gen_rst: bool, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Linear(width, width, bias=False)
        self.generator = generator
        self.use_gen_rst = use_gen_rst
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, first: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        """Returns X_{l+1} (B, F, D)."""
        source = current if self.use_gen_rst else first
        gen = self.generator(source)
        right = target_side(self.generator, gen, current, self._decode)
        self.record_all(X_0=first, gen=gen, left=gen, right=right)
        return self.dropout(torch.addcmul(current, gen, right))

    def _decode(self, side: torch.Tensor) -> torch.Tensor:
        """W_l X_l, (B, F, D) -> (B, F, D)."""
        return self.weight(side.flatten(start_dim=1)).view_as(side)


class GenerativeCrossNet(nn.Module):
    """A stack of cross layers on the embeddings, (B, F, D) -> (B, F * D); DIS has Z_l = X_0.

    With a generator in ``cfg``, ``use_gen_rst`` generates from the current layer X_l, not from X_0.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int,
        num_layers: int,
        cfg: GeneratorConfig,
        use_gen_rst: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = feature_map.sum_emb_out_dim(embedding_dim)
        use_gen_rst = use_gen_rst and not cfg.is_identity
        generators = build_generators(feature_map, embedding_dim, cfg, num_layers)
        self.layers = nn.ModuleList(
            CrossLayer(width, generator, use_gen_rst, dropout) for generator in generators
        )

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns X_L, flattened to (B, F * D)."""
        current = feature_emb
        for layer in self.layers:
            current = layer(feature_emb, current)
        return current.flatten(start_dim=1)
