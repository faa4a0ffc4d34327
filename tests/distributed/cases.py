"""Trainings that are done in one process and in several, and must come to the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fuxictr.config import TrainConfig
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import ColumnarData, from_arrays
from fuxictr.pytorch.layers.encoders import SelfAttentionEncoder
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from tests.distributed.own_models import OWN_MODELS
from tests.zoo.cases import SMALL
from tests.zoo.test_field_types import mixed_map

BACKBONES = ("FM", "FwFM", "FmFM", "PNN", "CrossNet", "DCNv2", "DeepFM", "xDeepFM")
NUM_STEPS = 50
# Rows of the first field's table. With 32 rows a batch, 4 fields and width 4 there are three kinds:
# gradients of whole tables are less than those of the rows of a batch; the other way round; and
# tables so large that one process updates only the rows of a batch (LazyAdam).
SIZES = {"small": 12, "medium": 700, "large": 9000}


@dataclass(frozen=True)
class Training:
    """A training of 50 steps.

    Attributes:
        expid: what is trained, shrunk; or one of OWN_MODELS.
        size: small, medium or large tables; or mixed, all types of fields; or widths, the same at
            widths of their own.
        overrides: ``key=value`` of the model.
        keys: of TrainConfig.
        num_rows: rows of the training split.
        batch_size: rows of a batch.
        num_valid: rows of the validation split; 0 = none.
    """

    expid: str
    size: str = "medium"
    overrides: tuple[str, ...] = ()
    keys: tuple[tuple[str, Any], ...] = ()
    num_rows: int = 315
    batch_size: int = 32
    num_valid: int = 0

    @property
    def config(self) -> TrainConfig:
        """How it is trained."""
        num_batches = -(-self.num_rows // self.batch_size)
        keys = {"epochs": NUM_STEPS // num_batches, "eval_steps": 5, **dict(self.keys)}
        return TrainConfig(batch_size=self.batch_size, **keys)

    def build(self, defer_tables: bool = False) -> tuple[BaseModel, FeatureMap]:
        """Returns the model as it is before the first step, or before its tables are drawn."""
        feature_map = make_map(self.size)
        feature_map.defer_tables = defer_tables
        if self.expid in OWN_MODELS:
            seed_everything(7)
            return OWN_MODELS[self.expid](feature_map), feature_map
        model = self.expid.split("_")[0]
        folder = next(f for f in (model, "DCNv2") if (ZOO / f).is_dir())
        keys = load_experiment(self.expid, ZOO / folder)[0].params()
        shrunk = [f"{key}={value}" for key, value in SMALL.items() if key in keys]
        penalties = ["embedding_regularizer=0", "net_regularizer=0"]
        overrides = [*shrunk, *penalties, "num_source=2", "num_target=2", *self.overrides]
        config, kind = load_experiment(self.expid, ZOO / folder, overrides=overrides)
        seed_everything(7)
        built = build_model(config, kind, feature_map)
        for module in built.modules():
            if isinstance(module, SelfAttentionEncoder):
                module.dropout = 0.0  # each rank has its own
        return built, feature_map


def make_map(size: str) -> FeatureMap:
    """Returns the fields: four categorical ones around a number, or all types of fields."""
    if size in ("mixed", "widths"):
        feature_map = mixed_map()
        if size == "widths":
            for name, width in {"vector": 3, "item": 2, "words": 7, "price": 1}.items():
                feature_map.features[name]["embedding_dim"] = width
        return feature_map
    feature_map = FeatureMap("d")
    for name, num_rows in (("a", SIZES[size]), ("b", 6), ("x", 0), ("c", 5), ("d", 7)):
        kind = {"type": "categorical", "vocab_size": num_rows} if num_rows else {"type": "numeric"}
        feature_map.features[name] = kind
    feature_map.labels = ["click"]
    return feature_map


def make_rows(feature_map: FeatureMap, num_rows: int, seed: int = 1) -> ColumnarData:
    """Returns rows whose ids are some often and most seldom, and whose labels follow a rule."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    score = np.zeros(num_rows)
    for name, spec in feature_map.fields.items():
        if "vocab_size" in spec:
            shape = (num_rows, spec["max_len"]) if spec["type"] == "sequence" else num_rows
            ids = rng.zipf(1.3, shape) % spec["vocab_size"]
            columns[name] = ids
            score += np.sin(ids.reshape(num_rows, -1)[:, 0])
        else:
            width = (spec["pretrain_dim"],) if spec["type"] == "embedding" else ()
            columns[name] = rng.normal(size=(num_rows, *width))
    columns["click"] = rng.random(num_rows) < 1 / (1 + np.exp(1 - score))
    if "buy" in feature_map.labels:
        columns["buy"] = rng.random(num_rows) < 1 / (1 + np.exp(1 + score))
    return from_arrays(columns, feature_map)


def _both(name: str, expid: str, size: str, **other: Any) -> dict[str, Training]:
    """Returns a training with tables that are whole on each rank, and in shares."""
    keys = other.pop("keys", ())
    return {
        f"{name}-{how}": Training(expid, size, keys=(*keys, ("embedding_sharding", how)), **other)
        for how in ("none", "row")
    }


EXPIDS = [f"{name}_demo{gen}" for name in BACKBONES for gen in ("", "_gen")]
_L2 = ("embedding_regularizer=0.01", "net_regularizer=0.001")
_L1_L2 = ("embedding_regularizer=l1_l2(0.001, 0.01)", "net_regularizer=l1(0.001)")
_REFERENCE = (*_L2, "regularizer_scope=reference")
_TWO_LOSSES = (
    ("loss", ["binary_crossentropy", "mse_loss"]),
    ("task", ["binary_classification"] * 2),
)
_TINY = {"num_rows": 29, "batch_size": 3}  # of whose batches a rank has no row, sometimes
_DEEP, _CROSS = "DeepFM_demo_gen", "DCNv2_demo_gen"

# Every backbone, DIS and GEN, with each way to bring gradients of tables together.
EVERY_BACKBONE = {
    name: training
    for expid in EXPIDS
    for size in SIZES
    for name, training in _both(f"{expid}-{size}", expid, size).items()
}
# Adam's steps hardly depend on how large gradients are, so a wrong factor shows in plain ones.
PLAIN_STEPS = {
    name: training
    for expid in EXPIDS
    for size in SIZES
    for name, training in _both(
        f"{expid}_sgd-{size}", expid, size, keys=(("optimizer", "sgd"), ("learning_rate", 0.1))
    ).items()
}
OTHERS = {
    **{
        name: training
        for size in SIZES
        for how, other in {
            "l2": {"overrides": _L2},
            "l1_l2": {"overrides": _L1_L2},
            "clip": {"keys": (("max_gradient_norm", 0.05),)},
            "clip_l2": {"overrides": _L2, "keys": (("max_gradient_norm", 0.05),)},
            "tiny": _TINY,
            "unshuffled": {"keys": (("shuffle", False),), "num_rows": 310},
            "batch_of_one_more": {"num_rows": 289},
            "valid": {"num_valid": 77, "keys": (("eval_steps", 7), ("learning_rate", 0.01))},
        }.items()
        for name, training in _both(f"{how}-{size}", _DEEP, size, **other).items()
    },
    **{
        name: training
        for optimizer, rate in (("adamw", 1e-3), ("rmsprop", 1e-3), ("adagrad", 0.01))
        for name, training in _both(
            f"{optimizer}",
            *(_DEEP, "medium"),
            keys=(("optimizer", optimizer), ("learning_rate", rate)),
        ).items()
    },
    **{
        name: training
        for expid in ("OneTable", "TwiceCalled", "OtherFields")
        for size in SIZES
        for name, training in _both(f"{expid}-{size}", expid, size, num_valid=50).items()
    },
    **_both("dense_updates", _DEEP, "large", keys=(("table_updates", "dense"),)),
    **_both("random_targets", "FM_demo_gen", "large", overrides=("target=random",)),
    **_both("masked_targets", _CROSS, "medium", overrides=("target=field_masked",)),
    **_both("own_linear_vectors", "FwFM_demo_gen", "large", overrides=("linear_type=FeLV",)),
    **_both("self_attention", "PNN_demo_gen", "medium", overrides=("encoder=self_attention",)),
    **_both("stacked_encoder", _DEEP, "medium", overrides=("encoder=stacked",)),
    **_both("stacked_encoder_tiny", _DEEP, "large", overrides=("encoder=stacked",), **_TINY),
    **_both("batch_norm", _DEEP, "medium", overrides=("batch_norm=true",)),
    **_both("batch_norm_tiny", _CROSS, "large", overrides=("batch_norm=true",), **_TINY),
    **_both("norm_no_bias", _DEEP, "medium", overrides=("batch_norm=no_bias",), num_valid=77),
    **_both("norm_no_bias_tiny", _CROSS, "large", overrides=("batch_norm=no_bias",), **_TINY),
    **_both("mixed_fields", _DEEP, "mixed"),
    **_both("mixed_fields_l2", _CROSS, "mixed", overrides=_L2),
    **_both("widths", _CROSS, "widths"),
    **_both("reference_scope", "FmFM_demo_gen", "large", overrides=_REFERENCE),
    **_both("reference_scope_mixed", _CROSS, "mixed", overrides=_REFERENCE),
    **_both("mse", _DEEP, "medium", overrides=("loss=mse_loss",), keys=(("loss", "mse_loss"),)),
    **_both("TwoLabels", "TwoLabels", "large", keys=_TWO_LOSSES, num_valid=77),
    **_both("bf16", _DEEP, "medium", keys=(("amp", "bf16"),)),
}
TRAININGS = EVERY_BACKBONE | PLAIN_STEPS | OTHERS

# What is trained in the short form of the suite.
SHORT = {
    *(f"{expid}-{how}" for expid in EXPIDS for how in ("medium-none", "large-row")),
    *("FM_demo-small-none", f"{_DEEP}-small-none", f"{_CROSS}-small-row"),
    *("FM_demo_gen-large-none", "clip_l2-medium-none", "clip_l2-large-row", "l1_l2-large-none"),
    *("tiny-large-none", "tiny-small-row", "unshuffled-medium-none", "valid-large-row"),
    *("clip-small-none", "clip-large-none", "clip-large-row", "adamw-row", "rmsprop-none"),
    *(f"{_DEEP}_sgd-{size}" for size in ("small-none", "medium-none", "medium-row")),
    *("OneTable-medium-none", "OneTable-large-row", "TwiceCalled-medium-row"),
    *("random_targets-row", "masked_targets-none"),
    *("stacked_encoder_tiny-none", "batch_norm-row", "batch_norm_tiny-none", "mixed_fields-none"),
    *("reference_scope-row", "reference_scope_mixed-none"),
    *("norm_no_bias-none", "norm_no_bias_tiny-row"),
    *("mse-none", "TwoLabels-row"),
    *("mixed_fields_l2-row", "widths-row", "bf16-none", "own_linear_vectors-row"),
}
assert SHORT <= TRAININGS.keys()

# Splits that are evaluated: rows of batches of 32; 97 are three batches, the last of 33 rows.
EVALUATED_ROWS = (20, 64, 97, 301)
EVALUATIONS = {
    f"evaluate-{size}-{num_rows}-{how}": training
    for size in ("medium", "mixed")
    for num_rows in EVALUATED_ROWS
    for how in ("none", "row")
    for training in [_both("", _DEEP, size, num_rows=num_rows)[f"-{how}"]]
}
