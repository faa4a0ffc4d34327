"""BaseModel: features in, logits out, records on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from fuxictr.config import DatasetConfig, GeneratorConfig, RunConfig, TrainConfig
from fuxictr.config.section import Regularizer
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.layers.encoders import EncoderMap
from fuxictr.pytorch.models.penalty_groups import check_scope, penalty_groups, penalty_terms
from fuxictr.pytorch.precision import at_least_float32
from fuxictr.pytorch.recording import Recordable

_COMMON_KEYS = {"gpu"}.union(
    *(section.keys() for section in (RunConfig, TrainConfig, DatasetConfig, GeneratorConfig))
)


class BaseModel(Recordable, nn.Module):
    """What all CTR models share; it knows nothing of files, progress bars or training loops.

    A model builds its layers in ``__init__``, ends it with ``self.reset_parameters()``, and its
    ``forward(inputs)`` returns ``self.output(logit)``. ``Model(feature_map, **params)`` takes all
    keys of a config; a key that neither a section nor the model knows is an error.

    Args:
        model_id: the expid.
        embedding_regularizer: penalty on all weights of embedding layers (FieldBlocks): tables,
            given vectors that are not frozen, and linear maps.
        net_regularizer: penalty on all other weights.
        regularizer: penalty on all weights, where the other two are unset.
        regularizer_scope: ``all``, as above, or ``reference``, as the paper's code
            (penalty_groups).

    Raises:
        ConfigError: ``params`` holds unknown keys; names all of them.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "BaseModel",
        embedding_regularizer: Regularizer = None,
        net_regularizer: Regularizer = None,
        regularizer: Regularizer = None,
        regularizer_scope: str = "all",
        **params: Any,
    ) -> None:
        super().__init__()
        unknown = [name for name in params if name not in _COMMON_KEYS]
        if unknown:
            texts = [f"'{name}'{did_you_mean(name, _COMMON_KEYS)}" for name in unknown]
            raise ConfigError(f"{type(self).__name__}: unknown keys: {', '.join(texts)}")
        self.feature_map = feature_map
        self.model_id = model_id
        # The (p, lambda) of the penalties on each group of weights.
        self._penalties = penalty_terms(embedding_regularizer, net_regularizer, regularizer)
        self.regularizer_scope = check_scope(regularizer_scope)

    @classmethod
    def idle_keys(cls, params: Mapping[str, Any]) -> dict[str, str]:
        """Returns keys of the model that do nothing beside the other ``params`` -> why.

        A config that gives one causes a warning, unless its value is None, False or an empty list.
        """
        return {}

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def get_inputs(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Returns the fields of a batch; reading a column costs nothing until it is used."""
        return inputs

    def get_labels(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the labels (B, 1), float32; raises DataError where the batch has none."""
        names = self.feature_map.labels
        if not names or names[0] not in inputs:
            where = f"the batch has no column '{names[0]}'" if names else "the feature map has none"
            raise DataError(f"training and evaluation need a label: {where}; predictions need none")
        return inputs[names[0]].float().view(-1, 1)

    def output(self, logit: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns {"y_pred": click probability (B, 1), "logit": (B, 1)}, both always float32.

        The loss is computed from the logit, where it loses no digits.
        """
        logit = at_least_float32(logit)
        return {"y_pred": torch.sigmoid(logit), "logit": logit}

    def output_activation(self, logit: torch.Tensor) -> torch.Tensor:
        """Returns the click probability, for models that return {"y_pred": ...} themselves."""
        return torch.sigmoid(at_least_float32(logit))

    def penalized_parameters(self) -> Iterator[tuple[nn.Parameter, int, float]]:
        """Yields (weight, p, lambda): the loss holds (lambda / p) * ||weight||_p^p for each."""
        groups = penalty_groups(self, self.regularizer_scope)
        for parameter in self.parameters():
            if parameter.requires_grad and id(parameter) in groups:
                for p, weight in self._penalties[groups[id(parameter)]]:
                    yield parameter, p, weight

    def regularization_loss(
        self, counts: Callable[[nn.Parameter], bool] = lambda weight: True
    ) -> torch.Tensor:
        """Returns the sum of (lambda / p) * ||w||_p^p over the penalised weights that count."""
        terms = [
            (weight / p) * (w.square() if p == 2 else w.abs()).sum()
            for w, p, weight in self.penalized_parameters()
            if counts(w)
        ]
        return torch.stack(terms).sum() if terms else torch.zeros((), device=self.device)

    def reset_parameters(self) -> None:
        """Initialises: Linear weights xavier-normal, their biases 0; other layers as they do.

        An EncoderMap with ``init_std`` is drawn with that. Modules that record by hand
        (``init_record``) can read ``analyzing`` from now on.
        """
        for module in self.modules():
            if hasattr(module, "init_record") and not hasattr(module, "analyzing"):
                module.analyzing = False  # type: ignore[assignment]
            if isinstance(module, nn.Linear):
                if isinstance(module, EncoderMap) and module.init_std is not None:
                    nn.init.normal_(module.weight, std=module.init_std)
                else:
                    nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def count_parameters(self, count_embedding: bool = True) -> int:
        """Returns the number of trainable weights, with or without the embedding tables.

        The linear maps of embedding layers always count; all rows of a sharded table count.
        """
        layers = [m for m in self.modules() if isinstance(m, FieldBlocks)]
        tables = {id(table) for layer in layers for table in layer.tables()}
        skipped = set() if count_embedding else tables
        counted = [p for p in self.parameters() if p.requires_grad and id(p) not in skipped]
        elsewhere = {  # of a table that several layers have, once
            id(layer.table): (layer.num_table_rows - len(layer.table)) * layer.embedding_dim
            for layer in layers
            if layer.table is not None and count_embedding
        }
        return sum(p.numel() for p in counted) + sum(elsewhere.values())

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing; models written for FuxiCTR call it. Here the Trainer reads the config."""

    def model_to_device(self) -> None:
        """Does nothing; models written for FuxiCTR call it. Here the Trainer moves the model."""
