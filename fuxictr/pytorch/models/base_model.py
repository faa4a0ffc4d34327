"""BaseModel: features in, logits out, records on demand."""

from __future__ import annotations

import importlib
import inspect
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from fuxictr.config import DatasetConfig, GeneratorConfig, RunConfig, TrainConfig
from fuxictr.config.section import Regularizer
from fuxictr.config.sections import IGNORED_KEYS
from fuxictr.config.tasks import TASKS, Task
from fuxictr.errors import ConfigError, DataError, did_you_mean
from fuxictr.features import FeatureMap
from fuxictr.metrics import evaluate_metrics
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from fuxictr.pytorch.layers.encoders import EncoderMap
from fuxictr.pytorch.losses import task_loss
from fuxictr.pytorch.models.hooks import CONFIG_ATTRIBUTES
from fuxictr.pytorch.models.penalty_groups import (
    Group,
    check_scope,
    penalty_groups,
    penalty_terms,
)
from fuxictr.pytorch.precision import at_least_float32
from fuxictr.pytorch.recording import Recordable
from fuxictr.pytorch.torch_utils import get_loss, get_optimizer

logger = logging.getLogger(__name__)

# Keys of older configs, which a Python loop hands on as they are.
_OLD_KEYS = set(IGNORED_KEYS)
_COMMON_KEYS = {"gpu"}.union(
    *(section.keys() for section in (RunConfig, TrainConfig, DatasetConfig, GeneratorConfig))
)


class _ConfigAttribute:
    """An attribute of FuxiCTR's that a model can read; a config sets it."""

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key

    def __get__(self, model: BaseModel | None, owner: type) -> Any:
        if model is None:
            return self
        default = getattr(TrainConfig, self.key, getattr(RunConfig, self.key, None))
        return model._params.get(self.key, default)

    def __set__(self, model: BaseModel, value: Any) -> None:
        raise ConfigError(
            f"{type(model).__name__} sets self.{self.name} = {value!r:.100}, which nothing here "
            f"reads; allowed: key '{self.key}' in the config"
        )


class OutputActivation(nn.Module):
    """What turns a logit into ``y_pred``, in float32 whatever the number format of the model."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logit: torch.Tensor) -> torch.Tensor:
        """Returns the activation of the logit, of the same shape."""
        return self.activation(at_least_float32(logit))


class BaseModel(Recordable, nn.Module):
    """What all CTR models share; it knows nothing of files, progress bars or training loops.

    A model builds its layers in ``__init__``, ends it with ``self.reset_parameters()``, and its
    ``forward(inputs)`` returns ``self.output(logit)``. ``Model(feature_map, **params)`` takes all
    keys of a config. Of a key that neither a section nor the model knows, a warning says that
    nothing reads it; a misspelt one is an error.

    A class written for FuxiCTR trains as it is: it may return ``{"y_pred": probability}``, end its
    ``__init__`` with ``compile``, ``reset_parameters`` and ``model_to_device``, and override the
    methods that hooks.py lists.

    Args:
        model_id: the expid.
        embedding_regularizer: penalty on all weights of embedding layers (FieldBlocks): tables,
            given vectors that are not frozen, and linear maps.
        net_regularizer: penalty on all other weights.
        regularizer: penalty on all weights, where the other two are unset.
        regularizer_scope: ``all``, as above, or ``reference``, as the paper's code
            (penalty_groups).

    Raises:
        ConfigError: ``params`` holds misspelt keys; names all of them.
    """

    base_class: ClassVar[type]  # whose methods are no overrides
    default_scope: ClassVar[str] = "all"  # of penalties

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
        self._check_keys(params)
        self._params = params
        self.feature_map = feature_map
        self.model_id = model_id
        self._embedding_regularizer, self._net_regularizer = (
            regularizer if value is None else value
            for value in (embedding_regularizer, net_regularizer)
        )
        self.regularizer_scope = check_scope(regularizer_scope)
        self.output_activation = self.get_output_activation(
            params.get("task", "binary_classification")
        )
        # Name and rate that ``compile`` was told, and the optimiser that it made; None before.
        self._compiled: tuple[str, float] | None = None
        self._compiled_loss: Any = None
        self._compiled_optimizer: torch.optim.Optimizer | None = None
        self._compiled_settings: list[dict[str, Any]] = []
        self.loss_fn = self.make_loss(params.get("loss"))

    def _check_keys(self, params: Mapping[str, Any]) -> None:
        """Raises ConfigError for misspelt keys, and warns of others that nothing reads."""
        own = inspect.signature(type(self)).parameters
        known = _COMMON_KEYS | {name for name in own if name != "feature_map"}
        unknown = [name for name in params if name not in known and name not in _OLD_KEYS]
        hints = {name: did_you_mean(name, known) for name in unknown}
        misspelt = [f"'{name}'{hint}" for name, hint in hints.items() if hint]
        if misspelt:
            raise ConfigError(f"{type(self).__name__}: unknown keys: {', '.join(misspelt)}")
        if unknown:
            logger.warning("%s: nothing reads the keys %s", type(self).__name__, ", ".join(unknown))

    @classmethod
    def idle_keys(cls, params: Mapping[str, Any]) -> dict[str, str]:
        """Returns keys of the model that do nothing beside the other ``params`` -> why.

        A config that gives one causes a warning, unless its value is None, False or an empty list.
        """
        return {}

    @property
    def device(self) -> torch.device:
        """The device of the weights; the CPU for a model that has none yet."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    @property
    def tasks(self) -> list[Task]:
        """The labels that the model predicts; one, as more are of MultiTaskModel."""
        labels = self.feature_map.labels
        return [Task(labels[0] if labels else "", self._params.get("task", TASKS[0]))]

    @property
    def _penalties(self) -> dict[Group, list[tuple[int, float]]]:
        """The (p, lambda) of the penalties on each group of weights."""
        return penalty_terms(self._embedding_regularizer, self._net_regularizer, None)

    def get_inputs(
        self, inputs: Mapping[str, torch.Tensor], feature_source: str | list[str] | None = None
    ) -> Mapping[str, torch.Tensor]:
        """Returns the fields of a batch; reading a column costs nothing until it is used.

        ``feature_source`` keeps the fields of these sources only.
        """
        if not feature_source:
            return inputs
        sources = [feature_source] if isinstance(feature_source, str) else feature_source
        fields = self.feature_map.fields.items()
        return {name: inputs[name] for name, spec in fields if spec.get("source", "") in sources}

    def get_group_id(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the group of each row, for group metrics; called only where it is overridden."""
        raise ConfigError("key 'group_id' gives the groups; a batch does not hold them")

    def get_labels(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the labels (B, 1), float32; raises DataError where the batch has none."""
        names = self.feature_map.labels
        if not names or names[0] not in inputs:
            where = f"the batch has no column '{names[0]}'" if names else "the feature map has none"
            raise DataError(f"training and evaluation need a label: {where}; predictions need none")
        return inputs[names[0]].float().view(-1, 1)

    def output(self, logit: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns {"y_pred": click probability (B, 1), "logit": (B, 1)}, both always float32.

        The cross-entropy is computed from the logit, where it loses no digits. With task regression
        y_pred is the logit.
        """
        logit = at_least_float32(logit)
        if self._params.get("task") == "regression":
            return {"y_pred": logit, "logit": logit}
        return {"y_pred": torch.sigmoid(logit), "logit": logit}

    def get_output_activation(self, task: str) -> nn.Module:
        """Returns the module ``output_activation`` of a task; ``__init__`` calls it."""
        activations = {"binary_classification": nn.Sigmoid, "regression": nn.Identity}
        if not isinstance(task, str) or task not in activations:
            raise ConfigError(f"key 'task': found {task!r}, allowed: {', '.join(activations)}")
        return OutputActivation(activations[task]())

    def add_loss(
        self, return_dict: Mapping[str, torch.Tensor], y_true: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mean loss of a batch, without penalties."""
        return self.batch_loss(return_dict, y_true)

    def batch_loss(
        self, outputs: Mapping[str, torch.Tensor], y_true: Any, num_rows: int | None = None
    ) -> torch.Tensor:
        """Returns the mean loss of what ``forward`` and ``get_labels`` returned for B rows.

        ``num_rows`` is that of the whole batch, where these are a part of it; None: B.
        """
        return task_loss(self.loss_fn, outputs, y_true, num_rows)

    def make_loss(self, loss: Any) -> Any:
        """Returns the function of key ``loss``, for ``loss_fn``; None: the cross-entropy."""
        return get_loss(loss or "binary_crossentropy")

    def compute_loss(
        self, return_dict: Mapping[str, torch.Tensor], y_true: torch.Tensor
    ) -> torch.Tensor:
        """Returns ``add_loss`` plus ``regularization_loss``.

        Training calls it for a model with hooks. For another one it computes the same without
        reading whole tables in each step.
        """
        return self.add_loss(return_dict, y_true) + self.regularization_loss()

    def own_training(self, config: TrainConfig) -> list[str]:
        """Returns what the class has made otherwise than the config says: loss_fn, optimizer."""
        own = [] if self.loss_fn == self.make_loss(config.loss) else ["loss_fn"]
        made = getattr(self, "optimizer", None)
        if made is not self._compiled_optimizer:
            own.append("optimizer")
        elif self._compiled is not None and made is not None:
            name, rate = self._compiled
            is_other = (name.lower(), rate) != (config.optimizer, config.learning_rate)
            if is_other or _settings(made) != self._compiled_settings:
                own.append("optimizer")
        return own

    def fit(
        self,
        data_generator: Any,
        epochs: int = 1,
        validation_data: Any = None,
        max_gradient_norm: float = 10.0,
        **kwargs: Any,
    ) -> Any:
        """Trains the model, with the keys of the config that it was built with, and ``kwargs``.

        Returns the FitResult of ``Trainer.fit``. The best weights are restored at the end.
        """
        given = {**kwargs, "epochs": epochs, "max_gradient_norm": max_gradient_norm}
        return _python_loop().fit(self, data_generator, validation_data, given, ("fit",))

    def evaluate(self, data_generator: Any, metrics: list[str] | None = None) -> dict[str, float]:
        """Returns ``metrics``, or those of the config, over all rows; logs them."""
        found: dict[str, float] = _python_loop().evaluate(self, data_generator, metrics)
        return found

    def evaluate_metrics(
        self, y_true: Any, y_pred: Any, metrics: list[str], group_id: Any = None
    ) -> dict[str, float]:
        """Returns ``metrics`` of labels and scores (rows,)."""
        return evaluate_metrics(y_true, y_pred, metrics, group_id)

    def predict(self, data_generator: Any) -> Any:
        """Returns the scores of all rows in order, a numpy array (rows,)."""
        return _python_loop().predict(self, data_generator)

    def save_weights(self, checkpoint: str) -> None:
        """Writes the weights to a file."""
        _python_loop().save_weights(self, checkpoint)

    def load_weights(self, checkpoint: str) -> None:
        """Reads the weights of a file; CheckpointError where it does not fit."""
        _python_loop().load_weights(self, checkpoint)

    def training_keys(self) -> dict[str, Any]:
        """Returns the config's keys that the model was built with; compile's values win."""
        keys = dict(self._params)
        if self._compiled_loss is not None:
            keys["loss"] = self._compiled_loss
        if self._compiled is not None:
            keys["optimizer"], keys["learning_rate"] = self._compiled
        return keys

    def engine(self) -> Any:
        """Returns what trains or evaluates the model at present; None: nothing does."""
        return self.__dict__.get("_engine", lambda: None)()

    def attach(self, engine: Any) -> None:
        """Makes ``engine`` do what ``evaluate`` and ``predict`` are called for."""
        self.__dict__["_engine"] = weakref.ref(engine)

    def use_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets ``self.optimizer``, which training uses in the place of that of ``compile``."""
        self.optimizer, self._compiled = optimizer, None
        self._compiled_optimizer = optimizer

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
        """Initialises: Linear and Conv1d weights xavier-normal, their biases 0.

        An EncoderMap with ``init_std`` is drawn with that. Then each module with a method
        ``init_weights`` has it called. Modules that record by hand (``init_record``) can read
        ``analyzing`` from now on.
        """
        for module in self.modules():
            if hasattr(module, "init_record") and not hasattr(module, "analyzing"):
                module.analyzing = False  # type: ignore[assignment]
            if type(module) in (nn.Linear, nn.Conv1d) or isinstance(module, EncoderMap):
                if isinstance(module, EncoderMap) and module.init_std is not None:
                    nn.init.normal_(module.weight, std=module.init_std)
                else:
                    nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if callable(getattr(module, "init_weights", None)):
                module.init_weights()

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

    def compile(self, optimizer: str | None, loss: Any, lr: float) -> None:
        """Makes ``self.optimizer`` and ``self.loss_fn``, as classes written for FuxiCTR expect.

        Training makes its own from the config, unless these have another name or rate. None is
        adam, and binary_crossentropy.
        """
        optimizer = optimizer or "adam"
        self._compiled = (optimizer, float(lr))
        self.optimizer = self._compiled_optimizer = get_optimizer(
            optimizer, self.parameters(), float(lr)
        )
        self._compiled_settings = _settings(self.optimizer)
        self._compiled_loss = loss or "binary_crossentropy"
        self.loss_fn = self.make_loss(loss)

    def train_step(self, batch_data: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Does one plain step with ``self.optimizer``; returns the loss, penalties included.

        Training calls it only where a class overrides it; the others take faster steps.
        """
        self.optimizer.zero_grad()
        loss = self.compute_loss(self(batch_data), self.get_labels(batch_data))
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), self._max_gradient_norm)
        self.optimizer.step()
        return loss

    def lr_decay(self, factor: float = 0.1, min_lr: float = 1e-6) -> float:
        """Multiplies the rate of each parameter group by ``factor``; returns the last rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = max(group["lr"] * factor, min_lr)
        return float(self.optimizer.param_groups[-1]["lr"])

    def model_to_device(self) -> None:
        """Does nothing; models written for FuxiCTR call it. Here the Trainer moves the model."""


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Returns what each parameter group is told, without its parameters."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def _python_loop() -> Any:
    """Returns the module above this one that trains and evaluates."""
    return importlib.import_module("fuxictr.pytorch.training.python_loop")


BaseModel.base_class = BaseModel
for _name, _key in CONFIG_ATTRIBUTES.items():
    setattr(BaseModel, _name, _ConfigAttribute(_name, _key))
