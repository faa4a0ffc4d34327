"""The keys of a run and of its training.

Together with generator.py and dataset.py these are all keys of a config, except those of a model's
own ``__init__``. Names and defaults follow FuxiCTR, so that its configs work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from fuxictr.config.coercion import WrongValue
from fuxictr.config.section import (
    Regularizer,
    Section,
    check_name,
    check_path,
    check_regularizer,
    key,
)
from fuxictr.config.tasks import check_fit, check_loss, check_task
from fuxictr.errors import ConfigError
from fuxictr.metrics import Monitor, find_metric

# Keys of older configs: an old name -> today's name.
RENAMED_KEYS = {
    "patience": "early_stop_patience",
    "workers": "num_workers",
    "ordered_features": "use_features",
    "group_index": "group_id",
}
# Keys of older configs that have no effect here.
IGNORED_KEYS = (
    "every_x_epochs",
    "use_hdf5",
    "pickle_feature_encoder",
    "partition_block_size",
    "save_last",
    "feature_config",
    "debug",
)


def _check_metrics(names: list[str]) -> list[str]:
    try:
        return [find_metric(name).name for name in names]
    except ConfigError as error:
        raise WrongValue(str(error)) from None


def _check_class_name(text: str) -> str:
    if not text.isidentifier():
        raise WrongValue("allowed: the name of a class")
    return text


def parse_interval(value: int | str | None) -> tuple[int, str] | None:
    """Returns (N, "epochs") of ``N`` or ``N epochs``, (N, "steps") of ``N steps``, None of None."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,18}) *(epochs?|steps?)?", str(value).strip())
    if not match or int(match[1]) < 1:
        raise WrongValue("allowed: null, or N >= 1 as N (epochs), 'N epochs' or 'N steps'")
    return int(match[1]), "steps" if (match[2] or "").startswith("step") else "epochs"


def _check_interval(value: int | str | None) -> int | str | None:
    parse_interval(value)
    return value


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """Which model is run, and where its files go."""

    model: str = key("", "name of the model class, a folder of model_zoo/", _check_class_name)
    model_id: str = key("", "name of the run's files; the expid unless set", check_name)
    dataset_id: str = key("", "block of dataset_config.yaml")
    model_root: str = key("./checkpoints/", "folder of checkpoints and logs", check_path)
    num_workers: int = key(1, "decoding threads in streaming; never change rows", ge=0, le=1024)
    verbose: int = key(1, "0: no progress bars", ge=0)
    debug_mode: bool = key(False, "log at level DEBUG")
    use_features: list[str] | None = key(None, "names of the fields to use; null = all")
    feature_specs: list[dict] | dict | None = key(None, "changes to fields of the feature map")
    analyze_every: int | str | None = key(
        None, "'N epochs' or 'N steps' between spectra; N = epochs; null = none", _check_interval
    )
    tensorboard: bool = key(False, "write TensorBoard event files; needs the package tensorboard")
    save_state: bool = key(True, "keep a state for --resume, saved after each evaluation")
    save_steps: int | None = key(None, "steps between two states; null = off", ge=1)
    save_minutes: float | None = key(15.0, "minutes between two states; null = off", gt=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """How a model is trained and evaluated."""

    task: str | list[str] = key(
        "binary_classification",
        "binary_classification: y_pred is a click probability; regression: a number; a list: one "
        "for each label",
        check_task,
    )
    loss: str | list[str] = key(
        "binary_crossentropy",
        "the training loss: binary_crossentropy, mse_loss, l1_loss, smooth_l1_loss, huber_loss; a "
        "list: one for each label",
        check_loss,
    )
    metrics: list[str] = key(
        ["AUC", "logloss"],
        "AUC, logloss; by group_id: gAUC, avgAUC, MRR, NDCG(k=N); of regression: RMSE, MSE, MAE",
        _check_metrics,
    )
    group_id: str | None = key(None, "column whose equal values make the groups of group metrics")
    optimizer: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"] = key("adam", "the optimiser")
    learning_rate: float = key(1e-3, "its initial rate", gt=0)
    batch_size: int = key(10000, "rows per step", ge=1)
    epochs: int = key(100, "passes over the training split at most", ge=1)
    shuffle: bool = key(True, "shuffle the training rows every epoch")
    streaming: bool = key(False, "read the rows from disk in every epoch, not once into memory")
    shuffle_window: int = key(1_000_000, "streaming: rows that are shuffled together", ge=1)
    seed: int = key(2019, "seed of initialisation, shuffling and dropout", ge=0, lt=2**32)
    monitor: str | dict[str, float] = key(
        "AUC",
        "metric, or {metric: weight}, for early stopping; of several labels AUC is the mean, and "
        "<label>_AUC that of one",
    )
    monitor_mode: Literal["max", "min"] | None = key(
        None, "direction in which it is better, which must be that of its metrics; null = theirs"
    )
    eval_steps: int | None = key(None, "steps between evaluations; null = once per epoch", ge=1)
    early_stop_patience: int = key(2, "evaluations without improvement before stopping", ge=1)
    save_best_only: bool = key(True, "keep the best evaluation's weights; false: the last ones")
    reduce_lr_on_plateau: bool = key(True, "multiply the rate by 0.1 when the monitor stalls")
    max_gradient_norm: float = key(10.0, "clip the global gradient norm at this value", gt=0)
    embedding_regularizer: Regularizer = key(None, "penalty on embeddings", check_regularizer)
    embedding_dropout: float = key(0.0, "dropout rate on the embeddings", ge=0, lt=1)
    net_regularizer: Regularizer = key(None, "penalty on all other weights", check_regularizer)
    regularizer: Regularizer = key(None, "for both penalties if unset", check_regularizer)
    regularizer_scope: Literal["all", "reference"] = key(
        "all",
        "all: the penalties count every weight, as in FuxiCTR; reference: as the paper's code, "
        "only those named weight or bias, and numeric fields' linear maps as net",
    )
    amp: Literal["none", "bf16"] | None = key(
        "none", "bf16: matrix products of the model in bfloat16, weights and loss in float32"
    )
    matmul_precision: Literal["highest", "high", "medium"] = key(
        "highest",
        "float32 matrix products: high is TF32 on CUDA, medium bfloat16 (on some CPUs too)",
    )
    compile: bool | Literal["auto"] = key(
        False,
        "true: torch.compile of forward pass and loss; auto: on CUDA the same with mode "
        "reduce-overhead (CUDA graphs), elsewhere nothing; on the CPU it gave no gain that pays "
        "(docs/performance.md), and it is not yet measured on a GPU",
    )
    table_updates: Literal["auto", "dense"] = key(
        "auto",
        "auto: on the CPU Adam updates only the rows of large embedding tables that a batch reads, "
        "with the numbers of Adam on all rows but for rounding; dense: all rows in every step",
    )
    embedding_sharding: Literal["none", "row", "auto"] = key(
        "auto",
        "with several processes: none: each holds whole embedding tables; row: each holds a share "
        "of their rows; auto: row where the tables take more than a tenth of a device's memory, "
        "and from three processes on where that moves less",
    )

    def __post_init__(self) -> None:
        if self.amp is None:  # YAML's none is a text; null means the same
            object.__setattr__(self, "amp", "none")
        monitor = Monitor(self.monitor, self.monitor_mode)
        metrics = [find_metric(name) for name in self.metrics]
        monitor.check_metrics(metric.name for metric in metrics)
        check_fit(self.task, self.loss, metrics)
        object.__setattr__(self, "monitor_mode", monitor.mode)
