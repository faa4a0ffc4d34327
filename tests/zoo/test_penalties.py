"""Which weights the penalties count: FuxiCTR's scope and the reference's, in plain float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.models.penalty_groups import check_penalties
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.tiny import make
from tests.zoo.cases import EXPIDS, Case, build
from tests.zoo.test_field_types import mixed_map

REGULARIZERS = ("regularizer_scope=reference", "embedding_regularizer=0.3", "net_regularizer=0.07")
TABLES = {"embedding_layer.table"}
NUMBERS = {"embedding_layer.numeric_weight"}
LR = "lr_layer.embedding_layer"
HIDDEN = ("mlp.mlp.0", "mlp.mlp.2", "mlp.mlp.4")


def linears(*names: str) -> set[str]:
    return {f"{name}.{own}" for name in names for own in ("weight", "bias")}


FIRST_ORDER = {f"{LR}.numeric_weight", "lr_layer.bias"}
# Case -> names of the tables (embedding), of the other counted weights (net), of those not counted.
COUNTED = {
    Case("FM", "FM_demo"): (TABLES | {f"{LR}.table"}, NUMBERS | FIRST_ORDER, set()),
    Case("FM", "FM_demo_gen"): (
        TABLES | {f"{LR}.table"},
        NUMBERS | FIRST_ORDER | {"generator.encoder.weight"},
        set(),
    ),
    Case("FM", "FM_demo_gen", ("target=field_masked",)): (
        TABLES | {f"{LR}.table"},
        NUMBERS | FIRST_ORDER | {"generator.encoder.weight"},
        {"generator.mask"},
    ),
    Case("FM", "FM_demo_gen", ("concat_emb=false", "source=own")): (
        TABLES | {f"{LR}.table"},
        NUMBERS | FIRST_ORDER,
        {"generator.encoder.weight"},
    ),
    Case("FmFM", "FmFM_demo"): (
        TABLES | {f"{LR}.table"},
        NUMBERS | FIRST_ORDER,
        {"interaction.weight"},
    ),
    Case("FmFM", "FmFM_demo_gen", ("field_interaction_type=vectorized",)): (
        TABLES | {f"{LR}.table"},
        NUMBERS | FIRST_ORDER | {"generator.encoder.weight"},
        {"interaction.weight"},
    ),
    Case("FwFM", "FwFM_demo_gen", ("linear_type=FeLV",)): (
        TABLES | {"linear.table"},
        NUMBERS
        | {"linear.numeric_weight", "bias", "interaction.weight"}
        | linears("generator.encoder"),
        set(),
    ),
    Case("FwFM", "FwFM_demo", ("linear_type=FiLV",)): (
        TABLES,
        NUMBERS | {"interaction.weight"} | linears("linear"),
        set(),
    ),
    Case("PNN", "PNN_demo_gen"): (
        TABLES,
        NUMBERS | {"generator.encoder.weight"} | linears(*HIDDEN),
        set(),
    ),
    Case("DeepFM", "DeepFM_demo", ("batch_norm=true",)): (
        TABLES | {f"{LR}.table"},
        NUMBERS
        | FIRST_ORDER
        | linears("mlp.mlp.0", "mlp.mlp.1", "mlp.mlp.3", "mlp.mlp.4", "mlp.mlp.6"),
        set(),
    ),
    Case("xDeepFM", "xDeepFM_demo_gen"): (
        TABLES | {f"{LR}.table"},
        NUMBERS
        | FIRST_ORDER
        | linears("cin.layers.0", "cin.fc", *HIDDEN)
        | {"cin.layers.0.generator.encoder.weight"},
        set(),
    ),
    Case("DCNv2", "CrossNet_demo_gen", ("emb_activation=prelu",)): (
        TABLES,
        NUMBERS
        | {f"cross_net.layers.{layer}.weight.weight" for layer in (0, 1)}
        | {f"cross_net.layers.{layer}.generator.encoder.weight" for layer in (0, 1)}
        | {f"cross_net.layers.{layer}.generator.activation.weight" for layer in (0, 1)}
        | linears("head.mlp.0", "head.mlp.2"),
        set(),
    ),
}


def half_squares(model: nn.Module, names: set[str]) -> float:
    weights = dict(model.named_parameters())
    return sum(0.5 * float((weights[n].detach().double().numpy() ** 2).sum()) for n in names)


@pytest.mark.parametrize("case", COUNTED, ids=str)
def test_the_reference_counts_what_its_layers_hold_as_weight_or_bias(case):
    tables, others, uncounted = COUNTED[case]
    if case.model == "xDeepFM":
        case = case._replace(overrides=(*case.overrides, "cin_hidden_units=[3]"))
    case = case._replace(overrides=(*case.overrides, *REGULARIZERS))
    model, _, _ = build(case)
    assert tables | others | uncounted == {name for name, _ in model.named_parameters()}
    expected = 0.3 * half_squares(model, tables) + 0.07 * half_squares(model, others)
    assert model.double().regularization_loss().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("expid", ["FmFM_demo_gen", "CrossNet_demo_gen"])
def test_all_counts_everything_and_is_the_default(expid):
    folder = "DCNv2" if expid.startswith("Cross") else "FmFM"
    model, config, _ = build(Case(folder, expid, REGULARIZERS[1:]))
    assert config.train.regularizer_scope == "all"
    names = {name for name, _ in model.named_parameters()}
    embedding = {name for name in names if "embedding_layer" in name}
    expected = 0.3 * half_squares(model, embedding) + 0.07 * half_squares(model, names - embedding)
    assert model.double().regularization_loss().item() == pytest.approx(expected, rel=1e-12)


def test_the_expids_of_the_paper_follow_the_reference_and_the_others_fuxictr():
    for model, expids in EXPIDS.items():
        for expid, keys in expids.items():
            is_paper = keys["dataset_id"].startswith(("avazu", "criteo"))
            config, _ = load_experiment(expid, ZOO / model)
            assert config.train.regularizer_scope == ("reference" if is_paper else "all"), expid


class Odd(BaseModel):
    """Weights under all kinds of names."""

    def __init__(self, feature_map, **params):
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.words = nn.Embedding(5, 3)
        self.tied = nn.Linear(3, 5)
        self.tied.weight = self.words.weight
        self.kernel = nn.Parameter(torch.randn(4))
        self.weight = nn.Parameter(torch.randn(2))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.cells = nn.ParameterList([torch.randn(3)])
        self.recurrent = nn.GRUCell(2, 2)
        self.norm = nn.LayerNorm(3)


def test_own_models_are_counted_by_the_names_of_their_weights():
    model = make(
        mixed_map(),
        kind=Odd,
        regularizer_scope="reference",
        embedding_regularizer="l1(0.2)",
        net_regularizer=0.1,
    )
    names = {id(p): name for name, p in model.named_parameters()}
    counted = {names[id(p)]: (order, w) for p, order, w in model.penalized_parameters()}
    embedding, net = (1, 0.2), (2, 0.1)
    inside = {n: v for n, v in counted.items() if n.startswith("embedding_layer.")}
    outside = {n: v for n, v in counted.items() if n not in inside}
    assert outside == {
        "words.weight": embedding,
        **dict.fromkeys(("tied.bias", "weight", "norm.weight", "norm.bias"), net),
    }
    trained = {n for n, p in model.embedding_layer.named_parameters() if p.requires_grad}
    assert inside.keys() == {f"embedding_layer.{name}" for name in trained}
    linear_maps = {n for n, group in inside.items() if group == net}
    assert linear_maps == {n for n in inside if not n.endswith((".table", ".vectors"))}


def test_an_unknown_scope_names_the_words():
    with pytest.raises(ConfigError, match="regularizer_scope.*'referense'.*did you mean 'refer"):
        make(mixed_map(), kind=Odd, regularizer_scope="referense")
    with pytest.raises(ConfigError, match="regularizer_scope"):
        load_experiment("FM_demo", ZOO / "FM", overrides=["regularizer_scope=paper"])


class Keeps(Odd):
    """A model that does not pass the penalties on."""

    def __init__(self, feature_map, net_regularizer=None, regularizer_scope="all", **params):
        super().__init__(feature_map, **params)


def test_a_model_that_keeps_the_keys_of_the_penalties_is_not_trained():
    keys = {"net_regularizer": 0.1, "embedding_regularizer": 0.2, "regularizer_scope": "reference"}
    kept = make(mixed_map(), kind=Keeps, **keys)
    with pytest.raises(ConfigError, match="Keeps does not pass net_regularizer, regularizer_scope"):
        check_penalties(kept, TrainConfig(**keys))
    check_penalties(make(mixed_map(), kind=Odd, **keys), TrainConfig(**keys))
    check_penalties(make(mixed_map(), kind=Odd, net_regularizer=1e-3), TrainConfig())
    check_penalties(make(mixed_map(), kind=Odd, regularizer=0.1), TrainConfig(regularizer=0.1))
    with pytest.raises(ConfigError, match="not pass embedding_regularizer, net_regularizer of"):
        check_penalties(make(mixed_map(), kind=Odd), TrainConfig(regularizer=0.1))


def trained(updates: str, optimizer: str = "adam") -> tuple[Trainer, list[float]]:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 3000},
        "x": {"type": "numeric"},
    }
    feature_map.labels = ["click"]
    rng = np.random.default_rng(0)
    columns = {"a": np.minimum(rng.zipf(1.3, 400), 2999), "x": rng.normal(size=400)}
    data = from_arrays({**columns, "click": rng.integers(0, 2, 400)}, feature_map)
    params = {"embedding_regularizer": 0.0, "net_regularizer": 0.5}
    model = make(feature_map, regularizer_scope="reference", **params)
    config = TrainConfig(
        batch_size=20, learning_rate=0.02, table_updates=updates, optimizer=optimizer
    )
    trainer = Trainer(model, config, verbose=0)
    losses = [trainer.train_step(batch).item() for batch in BatchIterator(data, 20, True, seed=1)]
    return trainer, losses


def test_rows_that_are_updated_lazily_train_as_whole_tables_do():
    (lazy, first), (dense, second) = trained("auto"), trained("dense")
    assert isinstance(lazy.optimizer, LazyAdam) and not isinstance(dense.optimizer, LazyAdam)
    assert first == pytest.approx(second, rel=1e-5)
    states = lazy.model.state_dict(), dense.model.state_dict()
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


def test_steps_follow_the_penalty_of_the_reference():
    """SGD, so that a factor shows: w - lr (dBCE/dw + lambda w) for the numeric field's map."""
    trainer, _ = trained("dense", "sgd")
    model = trainer.model
    batch = {"a": torch.tensor([1, 2]), "x": torch.zeros(2), "click": torch.tensor([0.0, 1.0])}
    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    trainer.train_step(batch)
    weights = dict(model.named_parameters())
    name = "embedding_layer.numeric_weight"  # x is 0: the cross-entropy gives it no gradient
    expected = before[name] * (1 - 0.02 * 0.5)
    torch.testing.assert_close(weights[name].double(), expected, rtol=1e-6, atol=0)
    unread = weights["embedding_layer.table"][100].double()
    assert torch.equal(unread, before["embedding_layer.table"][100])
