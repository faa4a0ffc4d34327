"""The cases of the zoo suite: every shipped expid, shrunk, and variants that no expid ships."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from fuxictr.config import ExperimentConfig, list_expids
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ZOO, load_experiment, zoo_models
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import ColumnarData, from_arrays
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from tests.zoo.references import REFERENCES

NUM_ROWS = 12
# A case is small: these replace what an expid sets.
SMALL = {
    "embedding_dim": 4,
    "hidden_units": [6, 5],
    "dnn_hidden_units": [6, 5],
    "parallel_dnn_hidden_units": [6, 5],
    "cin_hidden_units": [3, 2],
    "num_cross_layers": 2,
}
FEWER_FIELDS = ("num_source=2", "num_target=2")


class Case(NamedTuple):
    """An expid of a model folder, with ``key=value`` overrides."""

    model: str
    expid: str
    overrides: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.expid, *self.overrides])


EXPIDS = {model: list_expids(ZOO / model / "config") for model in zoo_models()}
SHIPPED = [Case(model, expid) for model, expids in EXPIDS.items() for expid in expids]

OWN = ("concat_emb=false", "source=own")
ENCODERS = [
    ("encoder=field_shared", "source=low"),
    ("encoder=linear", "emb_activation=sigmoid"),
    ("encoder=stacked", "source=high"),
    ("encoder=self_attention", "embedding_dim=8"),
    OWN,
    (*OWN, "gen_residual=true"),
    ("gen_residual=true",),
    ("gen_residual=true", "source=high"),
    ("gen_residual=true", "source=high", "residual_fields=all", "encoder=stacked"),
    ("gen_residual=true", "source=low", "residual_fields=all", "encoder_init=reference"),
    ("concat_emb=false", "gamma=3", "emb_activation=tanh"),
    ("emb_activation=silu",),
    ("emb_activation=elu",),
    ("emb_activation=prelu",),
]
TARGETS = [
    ("target=random",),
    ("target=masked",),
    ("target=field_masked", "gen_residual=true"),
    ("target=hard_masked", "encoder=stacked"),
    ("symmetric=true",),
    ("symmetric=true", "target=masked", "source=low"),
]
STACKED = "stacked_dnn_hidden_units=[5,4]"
VARIANTS = [
    *(
        Case(model, f"{model}_demo_gen", overrides)
        for model in ("DCNv2", "DeepFM", "FM", "FmFM", "FwFM", "PNN", "xDeepFM")
        for overrides in (ENCODERS if model == "xDeepFM" else ENCODERS + TARGETS)
    ),
    *(
        Case("DCNv2", f"DCNv2_demo{gen}", (f"model_structure={structure}", f"head={head}", STACKED))
        for gen in ("", "_gen")
        for structure in ("crossnet_only", "stacked", "parallel", "stacked_parallel")
        for head in ("mlp", "linear")
    ),
    Case("DCNv2", "DCNv2_demo_gen", ("use_gen_rst=false",)),
    Case("DCNv2", "DCNv2_demo_gen", ("use_gen_rst=false", "gen_residual=false")),
    Case("DCNv2", "DCNv2_demo_gen", ("gen_residual=false",)),
    Case(
        "DCNv2", "DCNv2_demo_gen", ("model_structure=stacked_parallel", STACKED, "batch_norm=true")
    ),
    Case("DCNv2", "DCNv2_demo", ("use_gen_rst=true", "dnn_activations=[tanh,sigmoid]")),
    Case("DeepFM", "DeepFM_demo_gen", ("hidden_activations=[tanh,sigmoid]", "net_dropout=0.5")),
    Case("PNN", "PNN_demo_gen", ("hidden_activations=silu",)),
    Case("PNN", "PNN_demo", ("batch_norm=no_bias",)),
    Case("DCNv2", "DCNv2_demo_gen", ("batch_norm=no_bias",)),
    Case("xDeepFM", "xDeepFM_demo_gen", ("cin_hidden_units=[5,4,3]", "batch_norm=true")),
    Case("xDeepFM", "xDeepFM_demo_gen", ("dnn_activations=[elu,tanh]",)),
    *(
        Case(model, f"{model}_demo{gen}", (option,))
        for gen in ("", "_gen")
        for model, option in (
            ("FwFM", "linear_type=LW"),
            ("FwFM", "linear_type=FeLV"),
            ("FmFM", "field_interaction_type=vectorized"),
        )
    ),
    Case("FmFM", "FmFM_demo_gen", ("field_interaction_type=vectorized", "target=random")),
]
CASES = [*SHIPPED, *VARIANTS]


def load(case: Case) -> tuple[ExperimentConfig, type]:
    """Returns the checked config, shrunk but otherwise as shipped, and the model class."""
    keys = EXPIDS[case.model][case.expid]
    small = [f"{key}={value}" for key, value in SMALL.items() if key in keys]
    overrides = [*small, *FEWER_FIELDS, *case.overrides]
    return load_experiment(case.expid, ZOO / case.model, overrides=overrides)


def build(
    case: Case, seed: int = 5, std: float = 0.5, widths: dict[str, int] | None = None
) -> tuple[BaseModel, ExperimentConfig, ColumnarData]:
    """Returns a model on small data; its weights are drawn so that every term of it counts.

    Args:
        case: which model.
        seed: seed of the weights.
        std: their standard deviation.
        widths: name -> embedding_dim of fields that have one of their own.
    """
    config, model_class = load(case)
    feature_map, columns = small_data()
    for name, width in (widths or {}).items():
        feature_map.features[name]["embedding_dim"] = width
    seed_everything(seed)
    model = build_model(config, model_class, feature_map)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=std)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model, config, from_arrays(columns, feature_map)


def all_params(case: Case) -> dict[str, Any]:
    """Returns every key of a case: the model's defaults, and the config over them."""
    config, model_class = load(case)
    parameters = inspect.signature(model_class).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**defaults, **config.params()}


def expected_logits(case: Case, model: BaseModel, batch: Batch) -> np.ndarray:
    """Returns the logits (B,) after the plain reference; skips the test where there is none."""
    if case.model not in REFERENCES:
        pytest.skip(f"tests/zoo/references.py holds no plain reference of {case.model}")
    weights = {n: t.double().numpy() for n, t in model.state_dict().items()}
    fields, params = model.feature_map.fields, all_params(case)
    rows = [{name: batch[name][i].item() for name in fields} for i in range(batch.num_rows)]
    return np.array([REFERENCES[case.model](weights, fields, row, params) for row in rows])


def small_data() -> tuple[FeatureMap, dict[str, np.ndarray]]:
    """Categorical fields of different sizes, not in the order of size, around a numeric one."""
    rng = np.random.default_rng(3)
    feature_map = FeatureMap("d")
    columns = {}
    for name, size in (("a", 4), ("b", 6), ("x", None), ("c", 3), ("d", 5)):
        if size is None:
            feature_map.features[name] = {"type": "numeric"}
            columns[name] = rng.normal(size=NUM_ROWS)
        else:
            feature_map.features[name] = {"type": "categorical", "vocab_size": size}
            columns[name] = rng.integers(1, size, NUM_ROWS)
    feature_map.labels = ["click"]
    columns["click"] = rng.integers(0, 2, NUM_ROWS)
    return feature_map, columns
