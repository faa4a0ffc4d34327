"""The closed vocabulary: every key of a config, its type, default, bounds and meaning.

Each section is a frozen dataclass that is checked on construction. A model adds the keys of its own
``__init__``. Names and defaults follow FuxiCTR, so that its configs work.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from fuxictr.config.coercion import WrongValue, coerce, dataclass_annotations
from fuxictr.errors import ConfigError, did_you_mean

Activation = Literal["relu", "tanh", "sigmoid", "silu", "elu", "prelu", "linear"]
Regularizer = float | str | None

_REGULARIZER = re.compile(r"(l1|l2)\(([^,()]+)\)|(l1_l2)\(([^,()]+),([^,()]+)\)")

# Keys of older configs: an old name -> today's name.
RENAMED_KEYS = {"patience": "early_stop_patience", "workers": "num_workers"}
# Keys of older configs that have no effect here.
IGNORED_KEYS = (
    "every_x_epochs",
    "use_hdf5",
    "pickle_feature_encoder",
    "partition_block_size",
    "data_block_size",
    "save_last",
    "feature_config",
)
# Keys of FuxiCTR that this version lacks: using one is an error, not a silent loss.
UNSUPPORTED_KEYS = ("streaming", "valid_size", "test_size", "split_type", "group_id")
UNSUPPORTED_COLUMN_KEYS = (
    "share_embedding",
    "emb_output_dim",
    "feature_encoder",
    "splitter",
    "max_len",
    "padding",
    "remap",
    "vocab_size",
    "pretrained_emb",
    "pretrain_dim",
    "pretrain_usage",
    "freeze_emb",
    "category_processor",
    "num_buckets",
)


def key(default: Any, doc: str, **bounds: float) -> Any:
    """Declares a key: its default, its meaning, and bounds ``ge``, ``gt``, ``le``, ``lt``."""
    metadata = {"doc": doc, "bounds": bounds}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


class Section:
    """Base of all sections: built from a mapping, with all errors reported at once."""

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Returns the names of the section's keys."""
        return tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    @classmethod
    def from_params(cls, params: dict[str, Any], where: str = "the config") -> Any:
        """Builds the section from the keys of ``params`` that belong to it.

        Raises:
            ConfigError: one or more values do not fit; the text lists all of them.
        """
        problems: list[str] = []
        checked = check_values(cls, params, problems)
        if problems:
            raise ConfigError(f"{where}: " + "; ".join(problems))
        return cls(**checked)


def check_values(section: type, params: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Returns the section's keys found in ``params``, converted; appends what does not fit."""
    annotations = dataclass_annotations(section)
    checked = {}
    for spec in dataclasses.fields(section):
        if spec.name not in params:
            if _is_required(spec):
                problems.append(f"key '{spec.name}' is missing")
            continue
        value = params[spec.name]
        try:
            found = coerce(value, annotations[spec.name])
            if spec.name.endswith("regularizer"):
                found = _check_regularizer(found)
            checked[spec.name] = _check_bounds(found, spec)
        except WrongValue as error:
            problems.append(f"key '{spec.name}': found {value!r}, {error}")
    return checked


def parse_regularizer(value: Regularizer) -> list[tuple[int, float]]:
    """Returns [(p, lambda), ...] of a regularizer; the loss term is (lambda / p) * ||w||_p^p.

    A number is an L2 weight; ``l1(x)``, ``l2(x)`` and ``l1_l2(x, y)`` name the norms.

    Raises:
        WrongValue: the text is none of these forms or a weight is negative.
    """
    if value is None:
        return []
    if isinstance(value, (int, float)):
        terms = [(2, float(value))]
    else:
        match = _REGULARIZER.fullmatch(value.strip())
        if not match:
            raise WrongValue("allowed: a number, l1(x), l2(x), l1_l2(x, y), null")
        weights = [match[2]] if match[1] else [match[4], match[5]]
        orders = [1, 2] if match[3] else [int(match[1][1])]
        terms = [(p, coerce(w.strip(), float)) for p, w in zip(orders, weights, strict=True)]
    if any(weight < 0 for _, weight in terms):
        raise WrongValue("allowed: a weight >= 0")
    return [(p, weight) for p, weight in terms if weight > 0]


def _check_regularizer(value: Regularizer) -> Regularizer:
    """Returns the value, a number where YAML left one as a string, once it is seen to parse."""
    if isinstance(value, str):
        try:
            value = coerce(value, float)
        except WrongValue:
            pass
    parse_regularizer(value)
    return value


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """What is run and where its files go."""

    model: str = key("", "name of the model class, a folder of model_zoo/")
    model_id: str = key("", "name of the run's files; the expid unless set")
    dataset_id: str = key("", "block of dataset_config.yaml")
    model_root: str = key("./checkpoints/", "folder of checkpoints and logs")
    num_workers: int = key(1, "accepted for FuxiCTR's configs; loading needs no workers", ge=0)
    verbose: int = key(1, "0: no progress bars", ge=0)
    debug_mode: bool = key(False, "log at level DEBUG")
    use_features: list[str] | None = key(None, "names of the fields to use; null = all")
    feature_specs: list[dict] | dict | None = key(
        None, "changes to single fields of the feature map"
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """How a model is trained and judged."""

    task: Literal["binary_classification"] = key("binary_classification", "what y_pred means")
    loss: Literal["binary_crossentropy"] = key("binary_crossentropy", "the training loss")
    metrics: list[Literal["AUC", "logloss"]] = key(["AUC", "logloss"], "what is evaluated")
    optimizer: Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"] = key("adam", "the optimiser")
    learning_rate: float = key(1e-3, "its initial rate", gt=0)
    batch_size: int = key(10000, "rows per step", ge=1)
    epochs: int = key(100, "passes over the training split at most", ge=1)
    shuffle: bool = key(True, "shuffle the training rows every epoch")
    seed: int = key(2019, "seed of initialisation, shuffling and dropout", ge=0, lt=2**32)
    monitor: str | dict[str, float] = key("AUC", "metric, or {metric: weight}, that is followed")
    monitor_mode: Literal["max", "min"] = key("max", "which direction is better")
    eval_steps: int | None = key(None, "steps between evaluations; null = once an epoch", ge=1)
    early_stop_patience: int = key(2, "evaluations without improvement before stopping", ge=1)
    save_best_only: bool = key(True, "keep the best evaluation's weights; false: the last ones")
    reduce_lr_on_plateau: bool = key(True, "multiply the rate by 0.1 when the monitor stalls")
    max_gradient_norm: float = key(10.0, "clip the global gradient norm at this value", gt=0)
    embedding_regularizer: Regularizer = key(None, "penalty on embedding tables")
    embedding_dropout: float = key(0.0, "dropout rate on the embeddings", ge=0, lt=1)
    net_regularizer: Regularizer = key(None, "penalty on all other weights")
    regularizer: Regularizer = key(None, "penalty on all weights, where the two above are unset")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(Section):
    """The encoder of Supervised Feature Generation; its defaults are DIS (identity).

    ``concat_emb`` and ``source``, ``small_transformation`` and ``source: own``, and the aliases at
    the end say the same; after construction the words ``source``, ``encoder`` and ``target`` hold.
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
    encoder: Literal["default", "field_shared", "linear", "stacked", "self_attention"] = key(
        "default", "structure of the all-fields encoder"
    )
    target: Literal["all", "random", "masked", "field_masked", "hard_masked"] = key(
        "all", "who is predicted: all fields, or num_target fields, hidden from the encoder or not"
    )
    num_target: int = key(10, "fields predicted where target is not all", ge=1)
    more_layers: bool = key(False, "alias of encoder: stacked")
    use_att: bool = key(False, "alias of encoder: self_attention")
    field_share: bool = key(False, "alias of encoder: field_shared")
    exp_group_idx: Literal[0, 1] | None = key(None, "alias of source: 0 is high, 1 is low")
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
            self._set("source", ("high", "low")[self.exp_group_idx])
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


@dataclass(frozen=True, kw_only=True)
class ColumnConfig(Section):
    """One entry of feature_cols or label_col."""

    name: str = field(metadata={"doc": "the column's name", "bounds": {}})
    active: bool = key(True, "false leaves the column out")
    dtype: Literal["str", "int", "float"] = key(
        "str", "how the raw value is read, before preprocess"
    )
    type: Literal["categorical", "numeric", "meta"] = key("categorical", "how it is encoded")
    source: str = key("", "a free tag, such as user or item")
    fill_na: str | int | float | None = key(
        None, "value of a missing cell; null = 0 (numeric), or no value of its own: __OOV__"
    )
    preprocess: str | None = key(None, "name of a column function applied to the raw value")
    normalizer: Literal["StandardScaler", "MinMaxScaler"] | None = key(
        None, "scaling of a numeric column, fitted on the training split"
    )
    min_categr_count: int | None = key(
        None, "the column's own threshold; null = the dataset's", ge=1
    )
    embedding_dim: int | None = key(None, "its own width; null = the model's embedding_dim", ge=1)


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Section):
    """One block of dataset_config.yaml."""

    dataset_id: str = field(metadata={"doc": "name of the block", "bounds": {}})
    data_root: str = key("../../data/", "folder under which the encoded dataset is written")
    data_format: Literal["csv", "parquet"] = key("csv", "form of the raw files")
    train_data: str | None = key(None, "raw training file, folder or glob")
    valid_data: str | None = key(None, "raw validation file, folder or glob")
    test_data: str | None = key(None, "raw test file, folder or glob")
    min_categr_count: int = key(1, "values seen less often in training become __OOV__", ge=1)
    feature_cols: list[dict] = key([], "the feature columns")
    label_col: dict | list[dict] = key({}, "the label column")
    rebuild_dataset: bool = key(True, "build from the raw files when the cache is absent or stale")

    def columns(self) -> list[ColumnConfig]:
        """Returns the active feature columns, one entry a name.

        Raises:
            ConfigError: unknown keys, wrong values, a repeated name, no column at all; lists all.
        """
        problems: list[str] = []
        columns = [c for entry in self.feature_cols for c in _expand_column(entry, problems)]
        names = [c.name for c in columns]
        repeated = sorted({n for n in names if names.count(n) > 1})
        problems += [f"feature_cols: column '{name}' is listed twice" for name in repeated]
        if not columns and not problems:
            problems.append("feature_cols: no active column")
        if problems:
            raise ConfigError(f"dataset '{self.dataset_id}': " + "; ".join(problems))
        return columns

    def label(self) -> ColumnConfig:
        """Returns the label column.

        Raises:
            ConfigError: label_col is missing or wrong.
        """
        entries = self.label_col if isinstance(self.label_col, list) else [self.label_col]
        problems: list[str] = []
        columns = [c for entry in entries for c in _expand_column(entry, problems)]
        if problems or len(columns) != 1:
            text = "; ".join(problems) or f"found {len(columns)} columns"
            raise ConfigError(
                f"dataset '{self.dataset_id}': key 'label_col': {text}; "
                "allowed: one column, as {name: click, dtype: float}"
            )
        return columns[0]


def _expand_column(entry: dict[str, Any], problems: list[str]) -> list[ColumnConfig]:
    names = entry.get("name")
    names = names if isinstance(names, list) else [names]
    if not names or not all(isinstance(n, str) and n for n in names):
        problems.append(
            f"feature_cols: key 'name': found {entry.get('name')!r}, allowed: str or list"
        )
        return []
    where = f"column '{names[0]}'"
    for unknown in sorted(set(entry) - set(ColumnConfig.keys())):
        if entry[unknown] is None:
            continue
        if unknown in UNSUPPORTED_COLUMN_KEYS:
            problems.append(f"{where}: key '{unknown}' of FuxiCTR is not supported by this version")
        else:
            hint = did_you_mean(unknown, ColumnConfig.keys())
            problems.append(f"{where}: unknown key '{unknown}'{hint}")
    found: list[str] = []
    checked = check_values(ColumnConfig, {**entry, "name": names[0]}, found)
    problems += [f"{where}: {text}" for text in found]
    if found or not checked.get("active", True):
        return []
    return [ColumnConfig(**{**checked, "name": name}) for name in names]


def _is_required(spec: dataclasses.Field) -> bool:
    return spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING


_BOUNDS = {
    "ge": (lambda value, bound: value >= bound, ">="),
    "gt": (lambda value, bound: value > bound, ">"),
    "le": (lambda value, bound: value <= bound, "<="),
    "lt": (lambda value, bound: value < bound, "<"),
}


def _check_bounds(value: Any, spec: dataclasses.Field) -> Any:
    if isinstance(value, (int, float)):
        for name, bound in spec.metadata["bounds"].items():
            holds, sign = _BOUNDS[name]
            if not holds(value, bound):
                raise WrongValue(f"allowed: {sign} {bound}")
    return value
