"""Supervised Feature Generation: the encoder that turns a DIS model into a GEN model.

Source: Yin et al., From Feature Interaction to Feature Generation, ICML 2025 (arXiv 2512.14041).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fuxictr.config import GeneratorConfig
from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.distributed.ranks import current_ranks
from fuxictr.pytorch.layers.encoders import (
    AllFieldsEncoder,
    FieldSharedEncoder,
    OwnFieldEncoder,
    SelfAttentionEncoder,
    StackedEncoder,
)
from fuxictr.pytorch.torch_utils import get_activation


class GEN(nn.Module):
    """Generates every field's embedding: z_i = gamma * act(v W_i) [+ v_i].

    The source v = [v_1 .. v_F] is the concatenation of all fields ("all predict all"). The W_i in
    R^{FD x D} of all fields are one bias-free Linear(FD, FD), xavier-normal. The config changes the
    parts:

    - ``source``: own (W_i in R^{D x D} reads v_i alone); high, low (only the fields of highest or
      lowest cardinality are generated, the others keep v_i; ``residual_fields: all`` adds the
      residual to them as well, which makes 2 v_i).
    - ``encoder``: another structure instead of the one linear map; see encoders.py.
    - ``target``: only some fields are predicted. In training the first rank draws them anew for
      each batch, for all ranks; in evaluation they are the fields of highest cardinality. A mask
      hides them from the encoder behind a learnt vector (masked), one per field (field_masked), or
      zero (hard_masked).

    Shape:
        input: raw embeddings v (B, F, D).
        output: generated embeddings z (B, F, D).
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int,
        config: GeneratorConfig,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        num_fields = feature_map.num_fields
        if num_fields == 1:
            _check_single_field(config)
        by_size = _fields_by_cardinality(feature_map)
        generated = None
        if config.source in ("high", "low"):
            count = min(config.num_source, num_fields)
            chosen = by_size[:count] if config.source == "high" else by_size[-count:]
            generated = torch.tensor(sorted(chosen))
        self.register_buffer("generated", generated, persistent=False)
        num_generated = num_fields if generated is None else len(generated)
        self.encoder = _make_encoder(config, num_fields, embedding_dim, num_generated, bias)
        self.gamma = config.gamma
        is_linear = config.encoder == "linear"
        self.activation = get_activation("linear" if is_linear else config.emb_activation)
        self.num_targets = min(config.num_target, num_fields)
        self.register_buffer("top_fields", torch.tensor(by_size), persistent=False)
        self.mask: nn.Parameter | None = None
        if config.target in ("masked", "field_masked"):
            rows = 1 if config.target == "masked" else num_fields
            self.mask = nn.Parameter(torch.empty(rows, embedding_dim))
            nn.init.normal_(self.mask, std=1e-4)
        self._targets: torch.Tensor | None = None

    @property
    def compiles(self) -> bool:
        """Whether torch.compile can take it; it cannot take communication of ranks."""
        return self.config.target == "all" or current_ranks().size == 1

    def forward(self, feature_emb: torch.Tensor) -> torch.Tensor:
        """Returns the generated embeddings (B, F, D)."""
        self._targets = self._choose_targets(feature_emb)
        gen = self.activation(self.encoder(self._source(feature_emb)))
        if self.gamma != 1:
            gen = self.gamma * gen
        if self.generated is None:
            return gen + feature_emb if self.config.gen_residual else gen
        if self.config.residual_fields == "all":
            return feature_emb.index_copy(1, self.generated, gen) + feature_emb
        if self.config.gen_residual:
            gen = gen + feature_emb[:, self.generated]
        return feature_emb.index_copy(1, self.generated, gen)

    def predicted_side(self, right: torch.Tensor) -> torch.Tensor:
        """Returns the right side (B, F, D) with the fields that are not predicted set to zero."""
        if self._targets is None:
            return right
        return right * self._targets.view(1, -1, 1)

    def _choose_targets(self, feature_emb: torch.Tensor) -> torch.Tensor | None:
        """Returns an indicator (F,) of the fields that are predicted, or None for all of them."""
        if self.config.target == "all":
            return None
        fields = self.top_fields
        if self.training:
            drawn = current_ranks().broadcast(torch.randperm(len(fields)))
            fields = drawn.to(fields.device, non_blocking=True)
        indicator = feature_emb.new_zeros(len(fields))
        return indicator.index_fill(0, fields[: self.num_targets], 1.0)

    def _source(self, feature_emb: torch.Tensor) -> torch.Tensor:
        if self._targets is None or self.config.target == "random":
            return feature_emb
        hidden = self._targets.view(1, -1, 1)
        seen = feature_emb * (1 - hidden)
        return seen if self.mask is None else seen + hidden * self.mask


def build_generators(
    feature_map: FeatureMap,
    embedding_dim: int,
    cfg: GeneratorConfig | Mapping[str, Any],
    num_layers: int | None = None,
    bias: bool = False,
) -> nn.Module:
    """Returns what generates the embeddings of a backbone: GEN, or nn.Identity for DIS.

    Three lines give a backbone its GEN variant::

        self.generator = build_generators(feature_map, embedding_dim, params)  # in __init__
        gen = self.generator(feature_emb)                                      # in forward
        right = target_side(self.generator, gen, feature_emb)                  # gen meets right

    ``cfg`` holds the generator's keys, as a model's params do. With ``num_layers`` the result is a
    ModuleList, one generator per layer. ``bias`` is that of the all-fields encoder.
    """
    config = generator_config(cfg)

    def build() -> nn.Module:
        if config.is_identity:
            return nn.Identity()
        return GEN(feature_map, embedding_dim, config, bias)

    return build() if num_layers is None else nn.ModuleList(build() for _ in range(num_layers))


def generator_config(cfg: GeneratorConfig | Mapping[str, Any]) -> GeneratorConfig:
    """Returns the generator's section of a model's params."""
    if isinstance(cfg, GeneratorConfig):
        return cfg
    return GeneratorConfig.from_params(dict(cfg), where="the generator")


def target_side(
    generator: nn.Module,
    gen: torch.Tensor,
    raw: torch.Tensor,
    decode: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Returns the side (B, F, D) that the generated embeddings ``gen`` (B, F, D) interact with.

    It is the raw side, or with ``symmetric`` the generated one. ``decode`` maps it to the same
    shape, as the W_l of a cross layer. With a ``target``, fields that are not predicted are zero.
    """
    is_gen = isinstance(generator, GEN)
    side = gen if is_gen and generator.config.symmetric else raw
    side = side if decode is None else decode(side)
    return generator.predicted_side(side) if is_gen else side


def _make_encoder(
    config: GeneratorConfig, num_fields: int, embedding_dim: int, num_generated: int, bias: bool
) -> nn.Module:
    if config.source is None:
        return nn.Identity()
    is_reference = config.encoder_init == "reference"
    if config.source == "own":
        return OwnFieldEncoder(num_fields, embedding_dim, is_one_tensor=is_reference)
    if config.encoder == "self_attention":
        if num_generated != num_fields:
            raise ConfigError("encoder: self_attention generates all fields; it needs source: all")
        return SelfAttentionEncoder(embedding_dim)
    sizes = (num_fields, embedding_dim, num_generated)
    is_full = num_generated == num_fields and config.encoder != "field_shared"
    std = None
    if is_reference and not is_full:  # that of a xavier-normal map of all fields to all, FD -> FD
        std = math.sqrt(1.0 / (num_fields * embedding_dim))
    if config.encoder == "field_shared":
        return FieldSharedEncoder(*sizes, init_std=std)
    if config.encoder == "stacked":
        return StackedEncoder(*sizes, init_std=std)
    return AllFieldsEncoder(*sizes, bias, init_std=std)


def _check_single_field(config: GeneratorConfig) -> None:
    """Rejects settings for several fields: fields of different widths are one long vector."""
    per_field = {
        "source": config.source in ("own", "high", "low"),
        "encoder": config.encoder in ("field_shared", "self_attention"),
        "target": config.target != "all",
    }
    for name, is_per_field in per_field.items():
        if is_per_field:
            raise ConfigError(
                f"{name}: {getattr(config, name)} needs several fields of one embedding_dim"
            )


def _fields_by_cardinality(feature_map: FeatureMap) -> list[int]:
    """Returns the fields' positions by falling cardinality; a numeric field has one value."""
    sizes = [spec.get("vocab_size", 1) for spec in feature_map.fields.values()]
    return sorted(range(len(sizes)), key=lambda position: -sizes[position])
