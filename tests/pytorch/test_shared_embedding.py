"""Fields that share a table: whose it is, also where fields are left out."""

import numpy as np
import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, make_embedding

D = 3


def make_map(**changes: dict) -> FeatureMap:
    """A chain c -> b -> a, where b comes first and is a sequence, and d beside it."""
    feature_map = FeatureMap("data")
    ids = {"type": "categorical", "vocab_size": 5}
    feature_map.features = {
        "b": {**ids, "type": "sequence", "max_len": 2, "share_embedding": "a"},
        "a": dict(ids),
        "c": {**ids, "share_embedding": "b"},
        "x": {"type": "numeric"},
        "d": {**ids, "vocab_size": 4},
    }
    for name, change in changes.items():
        feature_map.features[name].update(change)
    return feature_map


def inputs() -> dict[str, torch.Tensor]:
    tokens = torch.tensor([1, 2, 3])
    return {
        "a": tokens,
        "c": tokens,
        "d": tokens,
        "b": tokens[:, None] * torch.tensor([0, 1]),
        "x": torch.ones(3),
    }


def share_a_table(layer, names) -> bool:
    """Whether the same token has the same vector, and one gradient, in all these fields."""
    for table in layer.parameters():
        torch.nn.init.normal_(table)
    found = layer(inputs())
    vectors = [found[name] for name in names]
    return all(torch.equal(vectors[0], vector) for vector in vectors)


def test_a_chain_ends_in_one_table():
    layer = FeatureEmbeddingDict(make_map(), D)
    assert layer.table.shape == (5 + 4, D)
    assert share_a_table(layer, "abc")
    assert not share_a_table(layer, "ad")
    found = layer(inputs())
    (found["a"] + found["b"] + found["c"]).sum().backward()
    assert layer.table.grad[1].tolist() == [3.0] * D


def test_without_sharing_each_field_has_a_table():
    layer = FeatureEmbeddingDict(make_map(), D, use_sharing=False)
    assert layer.table.shape == (3 * 5 + 4, D)
    assert not share_a_table(layer, "ab")


@pytest.mark.parametrize(
    ("chosen", "sharing"),
    [(["c", "b", "x"], "cb"), (["c", "d"], "c"), (["a", "c"], "ac"), (["b", "a"], "ab")],
)
def test_sharing_outlives_the_choice_of_fields(chosen, sharing):
    feature_map = make_map().select(chosen)
    layer = FeatureEmbeddingDict(feature_map, D)
    assert len(layer.table) == 5 + 4 * ("d" in chosen)
    assert share_a_table(layer, sharing)
    whole = make_map()
    assert list(feature_map.features) == chosen
    assert whole.features["c"]["share_embedding"] == "b"


def test_an_heir_has_width_and_vectors_of_the_field_that_is_left_out():
    given = {"pretrained_emb": "v.npy", "pretrain_dim": 2, "freeze_emb": False, "embedding_dim": 2}
    feature_map = make_map(a=given)
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2)
    feature_map.pretrained["a"] = vectors
    chosen = feature_map.select(["c", "b"])
    assert chosen.embedding_dims(D) == [2, 2]
    layer = FeatureEmbeddingDict(chosen, D)
    (table,) = layer.parameters()
    np.testing.assert_array_equal(table[1:].detach(), vectors[1:])
    found = layer(inputs())
    assert torch.equal(found["c"], table[[1, 2, 3]]) and torch.equal(found["b"], found["c"])
    assert set(feature_map.pretrained) == {"a"}


def test_the_table_has_the_owners_width_and_each_field_its_own_output():
    feature_map = make_map(a={"embedding_dim": 4, "emb_output_dim": D}, c={"emb_output_dim": 6})
    assert feature_map.embedding_dims(D) == [4, D, 6, D, D]
    layer = make_embedding(feature_map, D)
    weights = {name: tuple(w.shape) for name, w in layer.named_parameters()}
    assert weights == {
        "tables.3.table": (4, D),
        "tables.3.numeric_weight": (1, D),
        "tables.4.own.field_a.table": (5, 4),
        "tables.4.projections.field_a.weight": (D, 4),
        "tables.4.projections.field_c.weight": (6, 4),
    }
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    w = dict(layer.named_parameters())
    rows = w["tables.4.own.field_a.table"]
    expected = torch.cat(
        [
            rows[2],
            w["tables.4.projections.field_a.weight"] @ rows[2],
            w["tables.4.projections.field_c.weight"] @ rows[2],
            w["tables.3.numeric_weight"][0],
            w["tables.3.table"][2],
        ]
    )
    torch.testing.assert_close(layer(inputs())[1, 0], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c": {"share_embedding": "bb"}}, "column 'c'.*found 'bb'.*did you mean 'b'"),
        ({"c": {"share_embedding": "x"}}, "column 'c'.*found 'x', allowed"),
        ({"x": {"share_embedding": "a"}}, "column 'x'.*found 'a', allowed"),
        ({"a": {"share_embedding": "c"}}, "'share_embedding': a circle, b -> a -> c -> b"),
        ({"a": {"share_embedding": "a"}}, "a circle, b -> a -> a"),
        ({"a": {"vocab_size": 6}}, "'b' has vocab_size 5, 'a' 6"),
        ({"c": {"embedding_dim": 2}}, "column 'c'.*found 2, but the table of 'a'.*has 3"),
    ],
)
def test_what_cannot_be_shared(changes, message):
    with pytest.raises(ConfigError, match=message):
        FeatureEmbedding(make_map(**changes), D)
