"""The keys of Supervised Feature Generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fuxictr.config.section import Section, key
from fuxictr.errors import ConfigError

Activation = Literal["relu", "tanh", "sigmoid", "silu", "elu", "prelu", "linear"]


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(Section):
    """The encoder of Supervised Feature Generation; its defaults are DIS (identity).

    ``concat_emb`` and ``small_transformation`` are other forms of ``source``, and the last keys are
    aliases. After construction ``source``, ``encoder`` and ``target`` hold the values.
    """

    concat_emb: bool = key(False, "encode every field from all fields (GEN)")
    emb_activation: Activation = key("linear", "activation of the encoder")
    gamma: float = key(1.0, "constant that scales the generated embeddings")
    gen_residual: bool = key(False, "add the raw embeddings to the generated ones")
    symmetric: bool = key(False, "interact generated with generated embeddings")
    small_transformation: bool = key(False, "encode every field from itself only")
    source: Literal["all", "own", "high", "low"] | None = key(
        None,
        "who predicts: all fields, a field itself, or all fields with only the num_source fields "
        "of highest or lowest cardinality generated",
    )
    num_source: int = key(10, "fields generated with source high or low", ge=1)
    residual_fields: Literal["generated", "all"] = key(
        "generated",
        "where source high or low adds the residual; all: as the paper's code, to the fields that "
        "are not generated as well, 2 v_i",
    )
    encoder: Literal["default", "field_shared", "linear", "stacked", "self_attention"] = key(
        "default", "structure of the all-fields encoder"
    )
    encoder_init: Literal["default", "reference"] = key(
        "default",
        "default: every linear map xavier-normal by its own shape; reference: as the paper's code, "
        "field_shared, high and low with the deviation of the full map, own as one tensor",
    )
    target: Literal["all", "random", "masked", "field_masked", "hard_masked"] = key(
        "all", "who is predicted: all fields, or num_target fields, hidden from the encoder or not"
    )
    num_target: int = key(10, "fields predicted where target is not all", ge=1)
    more_layers: bool = key(False, "alias of encoder: stacked")
    use_att: bool = key(False, "alias of encoder: self_attention")
    field_share: bool = key(False, "alias of encoder: field_shared")
    exp_group_idx: Literal[0, 1, 2] | None = key(None, "alias of source: 0 high, 1 low, 2 neither")
    use_random_predict: bool = key(False, "alias of target: random")
    use_masked_predict: bool = key(False, "alias of target: masked")
    use_hard_mask_predict: bool = key(False, "alias of target: hard_masked")

    def __post_init__(self) -> None:
        self._take_alias("encoder", "default", "stacked", "more_layers")
        self._take_alias("encoder", "default", "self_attention", "use_att")
        self._take_alias("encoder", "default", "field_shared", "field_share")
        self._take_alias("target", "all", "random", "use_random_predict")
        self._take_alias("target", "all", "masked", "use_masked_predict")
        self._take_alias("target", "all", "hard_masked", "use_hard_mask_predict")
        if self.exp_group_idx is not None:
            self._set("source", ("high", "low", self.source)[self.exp_group_idx])
            self._set("exp_group_idx", None)
        if self.source is None and (self.concat_emb or self.small_transformation):
            self._set("source", "all" if self.concat_emb else "own")
        if self.small_transformation and self.source != "own":
            raise ConfigError("small_transformation: true needs concat_emb: false, found true")
        if self.concat_emb and self.source == "own":
            raise ConfigError("source: own needs concat_emb: false, found true")
        if self.source in (None, "own"):
            for name, default in (("encoder", "default"), ("target", "all")):
                if getattr(self, name) != default:
                    raise ConfigError(f"{name}: {getattr(self, name)} needs concat_emb: true")
        if self.residual_fields == "all":
            if self.source not in ("high", "low") or not self.gen_residual:
                raise ConfigError(
                    "residual_fields: all needs source: high or low and gen_residual: true; "
                    f"found source: {self.source or 'null'} and gen_residual: "
                    f"{str(self.gen_residual).lower()}"
                )
        self._set("concat_emb", self.source in ("all", "high", "low"))
        self._set("small_transformation", self.source == "own")

    @property
    def is_identity(self) -> bool:
        """True for DIS: the encoder would return its input."""
        return (
            self.source is None
            and not self.gen_residual
            and self.emb_activation == "linear"
            and self.gamma == 1
        )

    @property
    def variant(self) -> str:
        """``dis`` or ``gen``."""
        return "dis" if self.is_identity else "gen"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _take_alias(self, name: str, default: str, word: str, alias: str) -> None:
        if getattr(self, alias):
            if getattr(self, name) not in (default, word):
                raise ConfigError(f"{alias}: true and {name}: {getattr(self, name)} disagree")
            self._set(name, word)
            self._set(alias, False)
