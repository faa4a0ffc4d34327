"""Tasks of labels, and which losses and metrics fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuxictr.config.coercion import WrongValue
from fuxictr.errors import ConfigError, did_you_mean
from fuxictr.metrics import Metric

TASKS = ("binary_classification", "regression")
# Losses between y_pred and a label; all but the first are functions of torch.nn.functional.
LOSSES = (
    "binary_crossentropy",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)
_ALIASES = {
    "bce": "binary_crossentropy",
    "binary_cross_entropy": "binary_crossentropy",
    "mse": "mse_loss",
    "mean_squared_error": "mse_loss",
    "mae": "l1_loss",
    "mean_absolute_error": "l1_loss",
}
# Losses that one task alone can have.
_TASK_OF_LOSS = {"binary_crossentropy": "binary_classification"}


@dataclass(frozen=True)
class Task:
    """What a model predicts of a label.

    Attributes:
        label: the label's column; empty where the feature map has none.
        kind: ``binary_classification`` or ``regression``.
        prediction: the key of its scores (B, 1) in what ``forward`` returns.
    """

    label: str
    kind: str
    prediction: str = "y_pred"

    @property
    def is_binary(self) -> bool:
        """Whether its labels are 0 and 1 and its scores probabilities."""
        return self.kind == "binary_classification"


def loss_name(loss: Any) -> str:
    """Returns the one name of a loss, of several that are in use; ConfigError for an unknown."""
    name = _ALIASES.get(loss, loss) if isinstance(loss, str) else None
    if name not in LOSSES:
        known = (*LOSSES, *_ALIASES)
        hint = did_you_mean(str(loss), known)
        raise ConfigError(f"loss {loss!r:.100}: allowed: {', '.join(LOSSES)}{hint}")
    return str(name)


def check_task(task: str | list[str]) -> str | list[str]:
    """Returns a task, or one for each label; raises WrongValue for another word."""
    names = task if isinstance(task, list) else [task]
    unknown = next((name for name in names if name not in TASKS), None)
    if unknown is not None or not names:
        hint = did_you_mean(str(unknown), TASKS) if names else ""
        raise WrongValue(f"allowed: {', '.join(TASKS)}, or a list of these{hint}")
    return task


def check_loss(loss: str | list[str]) -> str | list[str]:
    """Returns a loss by its one name, or one for each label; raises WrongValue for another."""
    try:
        if not isinstance(loss, list):
            return loss_name(loss)
        if not loss:
            raise ConfigError("allowed: a loss, or one for each label")
        return [loss_name(name) for name in loss]
    except ConfigError as error:
        raise WrongValue(str(error)) from None


def check_fit(task: str | list[str], loss: str | list[str], metrics: Sequence[Metric]) -> None:
    """Raises ConfigError where losses or metrics make no sense for the tasks."""
    tasks, losses = _as_list(task), _as_list(loss)
    if isinstance(loss, list) and isinstance(task, list) and len(losses) != len(tasks):
        raise ConfigError(f"keys 'task' and 'loss': found {len(tasks)} tasks, {len(losses)} losses")
    tasks = tasks if isinstance(task, list) else tasks * len(losses)
    losses = losses if isinstance(loss, list) else losses * len(tasks)
    for kind, name in zip(tasks, losses, strict=True):
        if _TASK_OF_LOSS.get(name, kind) != kind:
            fitting = [n for n in LOSSES if _TASK_OF_LOSS.get(n, kind) == kind]
            raise ConfigError(
                f"key 'loss': found {name}, which does not fit task {kind}; "
                f"allowed: {', '.join(fitting)}"
            )
    wrong = [metric.name for metric in metrics if metric.needs_probabilities]
    if wrong and "binary_classification" not in tasks:
        raise ConfigError(
            f"key 'metrics': {wrong[0]} needs probabilities, which task regression does not "
            "predict; allowed: RMSE, MSE, MAE, and AUC where labels are 0 or 1"
        )


def metrics_of_task(task: Task, tasks: Sequence[Task], metrics: Sequence[Metric]) -> list[str]:
    """Returns the metrics that are computed for one of the tasks.

    Metrics of clicks are those of its binary tasks; without one they are those of all tasks.
    """
    has_binary = any(other.is_binary for other in tasks)
    is_clicked = task.is_binary or not has_binary
    return [metric.name for metric in metrics if is_clicked or not metric.needs_clicks]


def with_label_types(label_col: Any, task: Any) -> Any:
    """Returns ``label_col`` with ``type: numeric`` at the labels of task regression.

    So rows that are encoded for regression hold numbers, and those of other tasks 0 and 1 alone.
    """
    entries = label_col if isinstance(label_col, list) else [label_col]
    if "regression" not in _as_list(task) or not all(isinstance(e, Mapping) for e in entries):
        return label_col
    single = [{**entry, "name": n} for entry in entries for n in _as_list(entry.get("name"))]
    kinds = _as_list(task)
    kinds = kinds if len(kinds) == len(single) else [kinds[0]] * len(single)
    found = [
        {**entry, "type": "numeric"} if kind == "regression" else entry
        for entry, kind in zip(single, kinds, strict=True)
    ]
    return found if isinstance(label_col, list) or len(found) > 1 else found[0]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
