"""MultiTaskModel: several labels, with a task and a loss each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from fuxictr.config.tasks import Task
from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.losses import task_loss
from fuxictr.pytorch.models.base_model import BaseModel
from fuxictr.pytorch.torch_utils import get_loss


class MultiTaskModel(BaseModel):
    """Base of models of T labels, as FuxiCTR's class of this name.

    ``forward(inputs)`` returns ``{"<label>_pred": (B, 1)}`` for each label of the feature map.
    ``output_activation`` is a ModuleList and ``loss_fn`` a list, with one entry for each label.

    An evaluation gives ``<label>_<metric>``, and ``<metric>``, the mean over the labels. AUC,
    logloss and group metrics are computed for labels of task binary_classification.

    Args:
        task: of each label, or one for all.
        num_tasks: T, the number of labels.
        loss_weight: ``EQ``: the loss is the sum over labels; a list of T weights, or a mapping of
            label to weight: the weighted sum. A class with its own add_loss may give it another
            meaning.
        regularizer_scope: ``reference`` unless set, since FuxiCTR's MultiTaskModel counts these
            weights; see penalty_groups.
        params: as for BaseModel.

    Raises:
        ConfigError: numbers of labels, tasks, losses and weights that differ.
    """

    default_scope: ClassVar[str] = "reference"
    # Keys that a config may set though a class does not list them in its ``__init__``.
    config_keys: ClassVar[dict[str, Any]] = {
        "num_tasks": int,
        "loss_weight": str | list[float] | dict[str, float],
    }

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "MultiTaskModel",
        task: str | list[str] = "binary_classification",
        num_tasks: int = 1,
        loss_weight: Any = "EQ",
        regularizer_scope: str = "reference",
        **params: Any,
    ) -> None:
        labels = feature_map.labels
        if len(labels) != num_tasks:
            raise ConfigError(
                f"key 'num_tasks': found {num_tasks}, but dataset '{feature_map.dataset_id}' has "
                f"{len(labels)} labels: {', '.join(labels) or 'none'}; allowed: {len(labels)}, or "
                "another key 'label_col'"
            )
        self.num_tasks = num_tasks
        tasks = [task] * num_tasks if isinstance(task, str) else list(task)
        if len(tasks) != num_tasks:
            raise ConfigError(
                f"key 'task': found {len(tasks)} tasks, allowed: {num_tasks}, one for each label"
            )
        super().__init__(
            feature_map,
            model_id=model_id,
            task=tasks,
            regularizer_scope=regularizer_scope,
            **params,
        )
        self.loss_weight = loss_weight
        has_own_loss = any(
            getattr(type(self), name) is not getattr(MultiTaskModel, name)
            for name in ("add_loss", "compute_loss", "train_step")
        )
        self._weights = [1.0] * num_tasks if has_own_loss else _weights(loss_weight, labels)

    @property
    def tasks(self) -> list[Task]:
        """The labels that the model predicts, in the order of the feature map."""
        pairs = zip(self.feature_map.labels, self._params["task"], strict=True)
        return [Task(label, kind, f"{label}_pred") for label, kind in pairs]

    def get_output_activation(self, task: Any) -> nn.Module:
        """Returns the activation of a task, or a ModuleList of those of a list."""
        if isinstance(task, str):
            return super().get_output_activation(task)
        return nn.ModuleList(super(MultiTaskModel, self).get_output_activation(t) for t in task)

    def make_loss(self, loss: Any) -> Any:
        """Returns the loss functions of a list of T names, or of one name for all labels."""
        names = loss or "binary_crossentropy"
        names = [names] * self.num_tasks if isinstance(names, str) else list(names)
        if len(names) != self.num_tasks:
            raise ConfigError(
                f"key 'loss': found {len(names)} losses, allowed: {self.num_tasks}, one for each "
                "label"
            )
        return [get_loss(name) for name in names]

    def get_labels(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Returns a list of the T labels (B, 1), float32; DataError where the batch lacks one."""
        missing = [name for name in self.feature_map.labels if name not in inputs]
        if missing:
            raise DataError(
                f"training and evaluation need all labels: the batch has no column '{missing[0]}'; "
                "predictions need none"
            )
        return [inputs[name].float().view(-1, 1) for name in self.feature_map.labels]

    def batch_loss(
        self, outputs: Mapping[str, torch.Tensor], y_true: Any, num_rows: int | None = None
    ) -> torch.Tensor:
        """Returns the weighted sum over labels of their mean losses, as BaseModel's."""
        parts = zip(self.tasks, self.loss_fn, self._weights, y_true, strict=True)
        losses = []
        for task, loss_fn, weight, labels in parts:
            scores = {"y_pred": prediction(self, outputs, task)}
            loss = task_loss(loss_fn, scores, labels, num_rows)
            losses.append(loss if weight == 1 else weight * loss)
        return torch.stack(losses).sum()

    def predict(self, data_generator: Any) -> Any:
        """Returns label -> the list of its scores of all rows in order."""
        scores = super().predict(data_generator)
        return {label: scores[:, i].tolist() for i, label in enumerate(self.feature_map.labels)}


MultiTaskModel.base_class = MultiTaskModel


def prediction(model: BaseModel, outputs: Mapping[str, torch.Tensor], task: Task) -> torch.Tensor:
    """Returns the scores of a task in what ``forward`` returned; DataError where they lack."""
    if task.prediction not in outputs:
        raise DataError(
            f"{type(model).__name__}.forward returned the keys {', '.join(outputs)}; allowed: "
            f"'{task.prediction}' among them"
        )
    return outputs[task.prediction]


def _weights(loss_weight: Any, labels: list[str]) -> list[float]:
    """Returns the weight of each label's loss; ConfigError where they do not fit the labels."""
    if loss_weight in ("EQ", None):
        return [1.0] * len(labels)
    given = loss_weight
    if isinstance(given, Mapping):
        given = [given[name] for name in labels] if set(given) == set(labels) else None
    is_numbers = isinstance(given, (list, tuple)) and all(
        isinstance(weight, (int, float)) and not isinstance(weight, bool) and weight >= 0
        for weight in given
    )
    if not is_numbers or len(given) != len(labels) or not any(given):
        raise ConfigError(
            f"key 'loss_weight': found {loss_weight!r:.200}, allowed: EQ, a list of {len(labels)} "
            f"weights >= 0, or a mapping of {', '.join(labels)} to them, not all 0"
        )
    return [float(weight) for weight in given]
