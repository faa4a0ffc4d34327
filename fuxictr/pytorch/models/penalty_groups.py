"""Which penalty counts which weight: FuxiCTR's scope, and that of the paper's code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from torch import nn

from fuxictr.config.section import Regularizer, parse_regularizer
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.pytorch.layers.embeddings import FieldBlocks

if TYPE_CHECKING:
    from fuxictr.config import TrainConfig
    from fuxictr.pytorch.models.base_model import BaseModel

Group = Literal["embedding", "net"]
SCOPES = ("all", "reference")


def penalty_terms(
    embedding_regularizer: Regularizer, net_regularizer: Regularizer, regularizer: Regularizer
) -> dict[Group, list[tuple[int, float]]]:
    """Returns the (p, lambda) of each group; ``regularizer`` is that of a group set to None."""
    given: dict[Group, Regularizer] = {"embedding": embedding_regularizer, "net": net_regularizer}
    return {
        group: parse_regularizer(regularizer if value is None else value)
        for group, value in given.items()
    }


def penalty_groups(model: nn.Module, scope: str) -> dict[int, Group]:
    """Returns the group of each weight that a penalty counts, by the id of the weight.

    - ``all``, as FuxiCTR 2.3: every weight. The weights of embedding layers (FieldBlocks) are the
      group ``embedding``, all others ``net``.
    - ``reference``, as the paper's code: only weights that a module holds under the name ``weight``
      or ``bias``. The tables of embedding layers and of nn.Embedding are the group ``embedding``,
      all others ``net``, the linear maps of numeric fields among them.

    A module with other names, or with raw parameters in the paper's code, has an attribute
    ``reference_penalties``: own name of a weight -> group, None for not counted. Another scope is a
    ConfigError.
    """
    check_scope(scope)
    groups: dict[int, Group] = {}
    for parameter, group in (_all if scope == "all" else _reference)(model):
        if groups.get(id(parameter)) != "embedding":  # a table stays one where others use it too
            groups[id(parameter)] = group
    return groups


def check_scope(scope: str) -> str:
    """Returns a regularizer_scope, if it is one; see penalty_groups."""
    if scope not in SCOPES:
        raise ConfigError(
            f"key 'regularizer_scope': found {scope!r:.100}, allowed: {', '.join(SCOPES)}"
            f"{did_you_mean(str(scope), SCOPES)}"
        )
    return scope


def check_penalties(model: BaseModel, config: TrainConfig) -> None:
    """Raises ConfigError if a model's ``__init__`` keeps the config's penalties for itself."""
    wanted = penalty_terms(config.embedding_regularizer, config.net_regularizer, config.regularizer)
    kept = [
        f"{group}_regularizer"
        for group, terms in wanted.items()
        if terms not in ([], model._penalties[group])
    ]
    scopes: set[str] = {config.regularizer_scope}
    if config.regularizer_scope == "all":  # or no scope is given
        scopes.add(model.default_scope)
    if any(wanted.values()) and model.regularizer_scope not in scopes:
        kept.append("regularizer_scope")
    if kept:
        raise ConfigError(
            f"{type(model).__name__} does not pass {', '.join(kept)} of the config on to "
            "BaseModel; allowed: super().__init__(feature_map, **params) with all keys but its own"
        )


def _all(model: nn.Module) -> Iterator[tuple[nn.Parameter, Group]]:
    for module in model.modules():
        if isinstance(module, FieldBlocks):
            yield from ((parameter, "embedding") for parameter in module.parameters())
    yield from ((parameter, "net") for parameter in model.parameters())


def _reference(model: nn.Module) -> Iterator[tuple[nn.Parameter, Group]]:
    for module in model.modules():
        default: Group = "embedding" if isinstance(module, nn.Embedding) else "net"
        declared = getattr(module, "reference_penalties", {})
        for name, parameter in module.named_parameters(recurse=False):
            group = declared.get(name, default if name in ("weight", "bias") else None)
            if group is not None:
                yield parameter, group
