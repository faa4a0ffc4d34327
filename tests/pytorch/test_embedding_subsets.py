"""Embedding layers called with some of the fields, other lengths, texts and generators."""

import numpy as np
import pytest
import torch
from torch import nn

from fuxictr.errors import CheckpointError, ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch, ColumnLayout
from fuxictr.pytorch.layers import (
    FeatureEmbedding,
    FeatureEmbeddingDict,
    KMaxPooling,
    LogisticRegression,
    MaskedAveragePooling,
)
from fuxictr.pytorch.optim.lazy_adam import LazyAdam

D = 3


def make_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "user": {"type": "categorical", "vocab_size": 6, "source": "user"},
        "x": {"type": "numeric"},
        "item": {"type": "categorical", "vocab_size": 7},
        "clicks": {
            "type": "sequence",
            "vocab_size": 7,
            "max_len": 4,
            "share_embedding": "item",
            "feature_encoder": "layers.MaskedAveragePooling()",
        },
        "image": {"type": "embedding", "pretrain_dim": 2},
    }
    feature_map.labels = ["click"]
    return feature_map


def make_inputs(num_rows: int = 5) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    clicks = torch.tensor(rng.integers(0, 7, (num_rows, 4)))
    clicks[0] = 0
    return {
        "user": torch.tensor(rng.integers(1, 6, num_rows)),
        "x": torch.tensor(rng.normal(size=num_rows)),
        "item": torch.tensor(rng.integers(1, 7, num_rows)),
        "clicks": clicks,
        "image": torch.tensor(rng.normal(size=(num_rows, 2))),
    }


def make_layer(layer_class=FeatureEmbeddingDict, **options):
    torch.manual_seed(0)
    layer = layer_class(make_map(), D, **options).double()
    for weight in layer.parameters():
        nn.init.normal_(weight)
    return layer


@pytest.mark.parametrize("name", list(make_map().features))
def test_a_field_alone_equals_the_field_among_all(name):
    layer, X = make_layer(), make_inputs()
    whole, alone = layer(X)[name], layer({name: X[name]})
    assert list(alone) == [name]
    torch.testing.assert_close(alone[name], whole)
    weights = list(layer.parameters())
    grads = [
        torch.autograd.grad(found.square().sum(), weights, allow_unused=True, retain_graph=True)
        for found in (whole, alone[name])
    ]
    for in_whole, in_alone in zip(*grads, strict=True):
        if in_alone is not None:
            torch.testing.assert_close(in_alone, in_whole)
        else:
            assert in_whole is None or not in_whole.any()


def test_padding_of_a_field_alone_is_zero_and_stays_zero():
    layer = make_layer()
    found = layer({"item": torch.tensor([0, 3]), "clicks": torch.tensor([[0, 0], [0, 2]])})
    assert not found["item"][0].any() and not found["clicks"][0].any()
    assert torch.equal(found["clicks"][1], layer.table[6 + 2])
    (gradient,) = torch.autograd.grad(sum(v.sum() for v in found.values()), layer.table)
    assert not gradient[6].any() and gradient[6 + 2].any() and gradient[6 + 3].any()


def test_history_and_target_rows_beside_rows_of_users():
    """Items of history and target (B * (L + 1),), and users (B,), are embedded in two calls."""
    layer = make_layer(FeatureEmbedding)
    items = layer({"item": torch.arange(1, 7)}, flatten_emb=True)
    users = layer({"user": torch.tensor([1, 2])}, flatten_emb=True)
    assert items.shape == (6, D) and users.shape == (2, D)
    assert torch.equal(items, layer.table[7:13]) and torch.equal(users, layer.table[1:3])


def test_columns_of_different_lengths_in_one_call():
    layer = make_layer()
    X = {**make_inputs(), "item": torch.arange(7), "clicks": torch.ones(2, 9).long()}
    found = layer(dict(reversed(X.items())))
    assert list(found) == list(reversed(X)), "in the order of the inputs"
    assert {n: tuple(v.shape) for n, v in found.items()} == {
        **{n: (5, D) for n in ("user", "x", "image")},
        "item": (7, D),
        "clicks": (2, D),
    }


@pytest.mark.parametrize("kind", [FeatureEmbedding, FeatureEmbeddingDict])
def test_names_that_are_wrong_are_errors(kind):
    layer, X = make_layer(kind), make_inputs()
    with pytest.raises(ConfigError, match="column 'itme': not a feature.*did you mean 'item'"):
        layer({"user": X["user"], "itme": X["item"]})
    layout = ColumnLayout(("user", "item"), ("x",))
    batch = Batch(layout, torch.ones(2, 2).long(), torch.ones(2, 1).double())
    with pytest.raises(DataError, match="column 'clicks': the batch does not have it"):
        layer(batch)
    assert list(make_layer()({"click": X["x"], "x": X["x"]})) == ["x"], "a label is no field"


def test_a_type_without_fields_gives_none_and_a_misspelt_one_is_an_error():
    layer = FeatureEmbeddingDict(make_map(), D, required_feature_columns=["user"])
    X = {"user": torch.tensor([1])}
    assert layer(X, feature_type="sequence") == {}
    with pytest.raises(ConfigError, match="feature_type: no field has .'sequense'"):
        layer(X, feature_type="sequense")


@pytest.mark.parametrize("kind", [FeatureEmbedding, FeatureEmbeddingDict])
def test_a_lazily_updated_table_gets_the_same_step_from_several_calls(kind):
    X = make_inputs()
    steps = []
    for is_lazy in (False, True):
        layer = make_layer(kind).float()
        plain = torch.optim.Adam(layer.parameters(), lr=0.1)
        optimizer = LazyAdam(layer.parameters(), 0.1, [layer]) if is_lazy else plain
        for _ in range(3):
            optimizer.zero_grad()
            parts = [layer({n: X[n]}) for n in ("user", "item", "clicks")]
            values = [v for p in parts for v in (p.values() if isinstance(p, dict) else [p])]
            sum(value.square().sum() for value in values).backward()
            optimizer.step()
        steps.append(layer.state_dict()["table"])
    torch.testing.assert_close(*steps)


def test_required_columns_may_be_generators_and_empty():
    names = ("user", "item")
    layer = FeatureEmbeddingDict(make_map(), D, required_feature_columns=(n for n in names))
    assert list(layer.feature_map.features) == ["user", "item"]
    dropped = (n for n in names)
    layer = FeatureEmbeddingDict(make_map(), D, not_required_feature_columns=dropped)
    assert list(layer.feature_map.features) == ["x", "clicks", "image"]
    both = {"required_feature_columns": [], "not_required_feature_columns": []}
    assert list(FeatureEmbeddingDict(make_map(), D, **both).feature_map.fields) == [
        *make_map().fields
    ]


def test_own_widths_need_flatten_emb():
    feature_map = make_map().select(feature_specs={"user": {"embedding_dim": 5}})
    layer, X = FeatureEmbedding(feature_map, D).double(), make_inputs()
    assert layer(X, flatten_emb=True).shape == (5, 5 + 4 * D)
    with pytest.raises(ConfigError, match=r"found fields of shapes .*'user': \(5, 5\)"):
        layer(X)
    with pytest.raises(ConfigError, match="all fields need embedding_dim 3"):
        layer.checked()


@pytest.mark.parametrize("text", ["partial(nn.init.normal_, std=2)", "nn.init.xavier_uniform_"])
def test_an_initializer_fills_all_rows_but_padding(text):
    torch.manual_seed(0)
    layer = FeatureEmbedding(make_map(), 400, text)
    table = layer.table.detach()
    bound = (6 / (5 + 400)) ** 0.5 if "xavier" in text else None
    spread = 2 if bound is None else bound / 3**0.5
    assert not table[0].any() and not table[6].any()
    assert table[1:6].std().item() == pytest.approx(spread, rel=0.05)
    assert bound is None or table[1:6].abs().max() <= bound


@pytest.mark.parametrize(
    "text", ["partial(nn.init.normal, std=2)", "partial(nn.init.normal_, sdt=2)", "eval", "exit()"]
)
def test_other_initializers_are_errors(text):
    with pytest.raises(ConfigError, match="embedding_initializer: found .*allowed: a callable, or"):
        FeatureEmbedding(make_map(), D, text)


def test_a_first_order_part_has_no_encoders():
    change = {"user": {"feature_encoder": "nn.Linear(3, 3)"}, "image": {"embedding_dim": 5}}
    layer = LogisticRegression(make_map().select(feature_specs=change))
    assert not list(layer.embedding_layer.encoders)
    assert {weight.shape[-1] for weight in layer.embedding_layer.tables()} == {1}


def test_weights_of_other_data_are_an_error():
    layer = make_layer()
    theirs = {
        "embedding_layers.user.weight": torch.zeros(6, D),
        "embedding_layers.item.weight": torch.zeros(7, D),
        "embedding_layers.clicks.weight": torch.zeros(7, D),
        "embedding_layers.x.weight": torch.zeros(D, 1),
        "feature_encoders.image.weight": torch.zeros(D, 2),
    }
    layer.load_state_dict(dict(theirs))
    assert not any(weight.any() for weight in layer.parameters())
    key = "embedding_layers.item.weight"
    with pytest.raises(CheckpointError, match=rf"'{key}': found \(8, 3\), the model needs \(7, 3"):
        layer.load_state_dict({**theirs, key: torch.zeros(8, D)})
    with pytest.raises(CheckpointError, match=f"'{key}': found None"):
        layer.load_state_dict({k: v for k, v in theirs.items() if k != key})
    with pytest.raises(CheckpointError, match="'embedding_layers.y.weight': the model has no such"):
        layer.load_state_dict({**theirs, "embedding_layers.y.weight": torch.zeros(1, D)})


@pytest.mark.parametrize(("k", "dim"), [(2, 1), (1, 2), (2, -2), (3, 1)])
def test_k_max_pooling_keeps_the_order(k, dim):
    x = np.random.default_rng(0).normal(size=(2, 3, 4))

    def largest(values):
        kept = sorted(sorted(range(len(values)), key=lambda i: -values[i])[:k])
        return values[kept]

    expected = np.apply_along_axis(largest, dim, x)
    assert np.array_equal(KMaxPooling(k, dim)(torch.tensor(x)), expected)
    x = torch.tensor(x, requires_grad=True)
    assert torch.autograd.gradcheck(KMaxPooling(k, dim), (x,))


def test_average_pooling_counts_the_mask():
    x = torch.tensor([[[1.0, 5], [3, 2], [2, 9]], [[0, 0], [0, 0], [0, 0]]])
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    assert MaskedAveragePooling()(x, mask).tolist() == [[3, 8], [0, 0]]  # FuxiCTR 2.3.10's values
