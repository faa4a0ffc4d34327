"""Vectors given for tokens: every usage against plain loops in float64."""

import numpy as np
import pytest
import torch

from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.checkpoint.weights import load_weights, save_weights
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression
from fuxictr.pytorch.models import BaseModel

V, D, L = 6, 3, 4
MISSING = (0, 3)  # tokens without a vector
each_usage = pytest.mark.parametrize("usage", ["init", "sum", "concat"])
each_width = pytest.mark.parametrize("width", [D, 5])


def given_vectors(width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(V, width)).astype(np.float32)
    vectors[list(MISSING)] = np.nan
    return vectors


def make_map(usage: str, width: int, pooling: str | None = "average", **spec) -> FeatureMap:
    """The vectors of a categorical field ``a``, whose table a sequence ``s`` shares."""
    feature_map = FeatureMap("d")
    ids = {"vocab_size": V, "pretrained_emb": "a.npy", "pretrain_dim": width}
    sequence = {"type": "sequence", "vocab_size": V, "max_len": L, "share_embedding": "a"}
    feature_map.features = {
        "s": {**sequence, "feature_encoder": pooling},
        "b": {"type": "categorical", "vocab_size": 4},
        "a": {"type": "categorical", **ids, "pretrain_usage": usage, **spec},
    }
    feature_map.labels = ["click"]
    feature_map.pretrained["a"] = given_vectors(width)
    return feature_map


def inputs() -> dict[str, torch.Tensor]:
    sequences = torch.tensor([[1, 1, 4, 0], [0, 0, 0, 0], [0, 3, 5, 0], [2, 3, 4, 5]])
    return {"s": sequences, "b": torch.tensor([1, 2, 3, 1]), "a": torch.tensor([1, 3, 5, 2])}


def token_vector(weights: dict[str, np.ndarray], usage: str, token: int) -> list[float]:
    given = weights["own.field_a.vectors"][token].tolist()
    learnt = weights["own.field_a.table"][token].tolist() if usage != "init" else []
    matrix = weights.get("own.field_a.projection.weight")
    source = learnt + given if usage == "concat" else given
    mapped = source
    if matrix is not None:
        mapped = [sum(m * x for m, x in zip(row, source, strict=True)) for row in matrix.tolist()]
    return [x + y for x, y in zip(mapped, learnt, strict=True)] if usage == "sum" else mapped


@each_usage
@each_width
@pytest.mark.parametrize("pooling", ["average", "sum", None])
@pytest.mark.parametrize("output", [None, 2])
def test_every_usage_equals_the_loops(usage, width, pooling, output):
    feature_map = make_map(usage, width, pooling)
    if output is not None:
        feature_map.features["s"]["emb_output_dim"] = output
    layer = FeatureEmbeddingDict(feature_map, D).double()
    for name, parameter in layer.named_parameters():
        if not name.endswith("vectors"):
            torch.nn.init.normal_(parameter)
    weights = {name: w.detach().numpy() for name, w in layer.state_dict().items()}
    has_map = "own.field_a.projection.weight" in weights
    assert has_map == (usage == "concat" or width != D)
    found = layer(inputs())
    for b in range(4):
        expected = token_vector(weights, usage, inputs()["a"][b])
        np.testing.assert_allclose(found["a"][b].detach(), expected, rtol=1e-12)
        positions = []
        for token in inputs()["s"][b]:
            positions.append(token_vector(weights, usage, token) if token != 0 else [0.0] * D)
        expected = np.array(positions)  # (L, D)
        if pooling is not None:
            num_tokens = sum(token != 0 for token in inputs()["s"][b].tolist())
            expected = expected.sum(axis=0)
            expected /= max(num_tokens, 1) if pooling == "average" else 1
        if output is not None:
            expected = expected @ weights["projections.field_s.weight"].T
        np.testing.assert_allclose(found["s"][b].detach(), expected, rtol=1e-12, atol=1e-15)


@each_usage
@each_width
@pytest.mark.parametrize("freeze", [True, False])
def test_which_weights_are_trained(usage, width, freeze):
    layer = FeatureEmbedding(make_map(usage, width, freeze_emb=freeze), D)
    layer(inputs()).square().sum().backward()
    trained = {name for name, p in layer.named_parameters() if p.grad is not None}
    expected = {"table"}
    expected |= {"own.field_a.table"} if usage != "init" else set()
    expected |= {"own.field_a.projection.weight"} if usage == "concat" or width != D else set()
    expected |= {"own.field_a.vectors"} if not freeze else set()
    assert trained == expected
    assert set(layer.state_dict()) == expected | {"own.field_a.vectors"}
    for table in layer.tables()[1:]:
        if table.grad is not None:
            assert not table.grad[0].any(), "padding of a sequence"


def test_vectors_are_frozen_where_the_spec_does_not_say():
    layer = FeatureEmbedding(make_map("init", D), D)
    assert not layer.own["field_a"].vectors.requires_grad


@each_usage
@pytest.mark.parametrize("freeze", [True, False])
def test_tokens_without_a_vector(usage, freeze):
    layer = FeatureEmbedding(make_map(usage, 500, freeze_emb=freeze), D)
    vectors = layer.own["field_a"].vectors.detach()
    np.testing.assert_array_equal(vectors[[1, 2, 4, 5]], given_vectors(500)[[1, 2, 4, 5]])
    assert not vectors[0].any()
    if usage == "init" and not freeze:
        assert 0.8e-4 < vectors[3].std() < 1.2e-4
    else:
        assert not vectors[3].any()


class Model(BaseModel):
    """Embeddings and one linear layer."""

    def __init__(self, feature_map: FeatureMap, **params) -> None:
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbedding(feature_map, D)
        self.lr_layer = LogisticRegression(feature_map)
        self.head = torch.nn.Linear(3 * D, 1)
        self.reset_parameters()

    def forward(self, inputs):
        embedded = self.embedding_layer(inputs, flatten_emb=True)
        return self.output(self.head(embedded) + self.lr_layer(inputs))


@each_usage
@pytest.mark.parametrize("freeze", [True, False])
def test_reset_parameters_keeps_the_given_vectors(usage, freeze):
    model = Model(make_map(usage, 5, freeze_emb=freeze))
    own = model.embedding_layer.own["field_a"]
    before = {name: w.clone() for name, w in own.named_parameters()}
    model.embedding_layer.reset_parameters()
    model.reset_parameters()
    changed = {name for name, w in own.named_parameters() if not torch.equal(w, before[name])}
    assert changed == set(before) - {"vectors"}
    assert not any(t[0].any() for t in own.tables())


@pytest.mark.parametrize("freeze", [True, False])
def test_penalties_and_counts(freeze):
    model = Model(
        make_map("concat", 5, freeze_emb=freeze), embedding_regularizer=0.5, net_regularizer=0.25
    )
    names = {id(p): name for name, p in model.named_parameters()}
    penalized = {names[id(p)]: weight for p, _, weight in model.penalized_parameters()}
    in_embedding = {
        "embedding_layer.table",
        "embedding_layer.own.field_a.table",
        "embedding_layer.own.field_a.projection.weight",
        "lr_layer.embedding_layer.table",
    } | ({"embedding_layer.own.field_a.vectors"} if not freeze else set())
    assert {n for n, weight in penalized.items() if weight == 0.5} == in_embedding
    assert set(penalized) - in_embedding == {"head.weight", "head.bias", "lr_layer.bias"}
    without_tables = D * (D + 5) + (3 * D + 1) + 1
    assert model.count_parameters(count_embedding=False) == without_tables
    first_order = V + 4 + V
    with_tables = without_tables + 4 * D + V * D + first_order + (0 if freeze else V * 5)
    assert model.count_parameters() == with_tables


@each_usage
def test_a_checkpoint_is_complete(tmp_path, usage):
    model, other_map = Model(make_map(usage, 5)), make_map(usage, 5)
    other_map.pretrained["a"] = given_vectors(5, seed=1)
    other = Model(other_map)
    expected = model(inputs())["logit"]
    assert not torch.equal(other(inputs())["logit"], expected)
    save_weights(model.state_dict(), tmp_path / "m.model")
    load_weights(other, tmp_path / "m.model")
    assert torch.equal(other(inputs())["logit"], expected)


def test_vectors_come_from_the_file_beside_the_feature_map(tmp_path):
    feature_map = make_map("init", D)
    feature_map.pretrained, feature_map.data_dir = {}, tmp_path
    with pytest.raises(DataError, match=r"a\.npy: not readable"):
        FeatureEmbedding(feature_map, D)
    np.save(tmp_path / "a.npy", given_vectors(D))
    layer = FeatureEmbedding(feature_map, D)
    np.testing.assert_array_equal(layer.own["field_a"].vectors[1], given_vectors(D)[1])


def test_use_pretrain_false_takes_no_vectors():
    feature_map = make_map("init", 5)
    feature_map.pretrained = {}
    layer = FeatureEmbedding(feature_map, D, use_pretrain=False)
    assert [name for name, _ in layer.named_parameters()] == ["table"]
    assert layer.table.shape == (4 + V, D)


def test_an_unknown_usage_is_named():
    with pytest.raises(ConfigError, match="'pretrain_usage': found 'concta'.*did you mean 'conc"):
        FeatureEmbedding(make_map("concta", 5), D)


@each_usage
@each_width
def test_gradients_pass_gradcheck(usage, width):
    layer = FeatureEmbedding(make_map(usage, width, freeze_emb=False), D).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    names = [name for name, _ in layer.named_parameters()]

    def outputs(*weights):
        parameters = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, parameters, (inputs(),))

    assert torch.autograd.gradcheck(outputs, tuple(layer.parameters()))
