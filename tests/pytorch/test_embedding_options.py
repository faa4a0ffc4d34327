"""Widths of single fields, dropout on embeddings."""

import numpy as np
import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import load_model_class
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import from_arrays
from fuxictr.pytorch.layers import FeatureEmbedding, MixedEmbedding, make_embedding

GEN = {"concat_emb": True, "emb_activation": "relu", "gamma": 2}


@pytest.fixture
def feature_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 5, "embedding_dim": 2},
        "x": {"type": "numeric"},
        "b": {"type": "categorical", "vocab_size": 6},
        "c": {"type": "categorical", "vocab_size": 7, "embedding_dim": 2},
    }
    feature_map.labels = ["click"]
    return feature_map


@pytest.fixture
def batch(feature_map):
    rng = np.random.default_rng(0)
    columns = {"a": rng.integers(1, 5, 8), "b": rng.integers(1, 6, 8), "c": rng.integers(1, 7, 8)}
    columns |= {"x": rng.normal(size=8), "click": rng.integers(0, 2, 8)}
    return from_arrays(columns, feature_map).rows(slice(None))


def test_mixed_embedding_concatenates_in_field_order(feature_map, batch):
    layer = make_embedding(feature_map, 3)
    assert isinstance(layer, MixedEmbedding)
    out = layer(batch)
    assert out.shape == (8, 1, 2 + 3 + 3 + 2)
    narrow, wide = layer.tables["2"], layer.tables["3"]
    for row in range(8):
        expected = torch.cat(
            [
                narrow.table[batch["a"][row]],
                batch["x"][row] * wide.numeric_weight[0],
                wide.table[batch["b"][row]],
                narrow.table[5 + batch["c"][row]],
            ]
        )
        torch.testing.assert_close(out[row, 0], expected)
    assert layer.as_fields()[1] == feature_map.sum_emb_out_dim(3) == 10


def test_equal_widths_need_no_mixed_embedding(feature_map):
    for spec in feature_map.features.values():
        spec["embedding_dim"] = 3
    assert isinstance(make_embedding(feature_map, 3), FeatureEmbedding)


def test_emb_output_dim_brings_a_field_to_the_width_of_the_model(feature_map, batch):
    for name in "ac":
        feature_map.features[name]["emb_output_dim"] = 3
    feature_map.features["x"] |= {"embedding_dim": 4, "emb_output_dim": 3}
    layer = make_embedding(feature_map, 3)
    assert isinstance(layer, FeatureEmbedding)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    weights = dict(layer.named_parameters())
    out = layer(batch)
    for row in range(8):
        narrow = {name: weights[f"own.field_{name}.table"][batch[name][row]] for name in "ac"}
        wide = batch["x"][row] * weights["own.field_x.weight"][:, 0]
        expected = {
            name: weights[f"projections.field_{name}.weight"] @ narrow[name] for name in "ac"
        }
        expected["x"] = weights["projections.field_x.weight"] @ wide
        expected["b"] = layer.table[batch["b"][row]]
        torch.testing.assert_close(out[row], torch.stack([expected[name] for name in "axbc"]))
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        "table": (6, 3),
        "own.field_a.table": (5, 2),
        "own.field_x.weight": (4, 1),
        "own.field_c.table": (7, 2),
        "projections.field_a.weight": (3, 2),
        "projections.field_x.weight": (3, 4),
        "projections.field_c.weight": (3, 2),
    }


def test_initial_values_of_every_kind_of_weight():
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "sequence", "vocab_size": 500, "max_len": 2},
        "b": {"type": "categorical", "vocab_size": 500, "embedding_dim": 40, "emb_output_dim": 60},
        "e": {"type": "embedding", "pretrain_dim": 90},
    }
    layer = FeatureEmbedding(feature_map, 60)
    own = layer.own["field_b"].table
    for table in (layer.table, own):
        assert not table[0].any()
        assert 0.95e-4 < table[1:].std() < 1.05e-4
    for linear, fans in ((layer.own["field_e"], 150), (layer.projections["field_b"], 100)):
        assert linear.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.05)


@pytest.mark.parametrize("generator", [{}, {**GEN, "use_gen_rst": True, "gen_residual": True}])
@pytest.mark.parametrize("structure", ["crossnet_only", "parallel"])
def test_dcnv2_takes_fields_of_different_widths(feature_map, batch, generator, structure):
    model = load_model_class("DCNv2")(
        feature_map, embedding_dim=3, model_structure=structure, **generator
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model(batch)["logit"].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", ["FM", "FwFM", "FmFM", "PNN", "DeepFM", "xDeepFM"])
def test_other_backbones_say_that_they_cannot(feature_map, name):
    with pytest.raises(ConfigError, match=r"need embedding_dim 3 in this model, found {'a': 2"):
        load_model_class(name)(feature_map, embedding_dim=3)


@pytest.mark.parametrize(
    "option", [{"source": "high"}, {"encoder": "self_attention"}, {"target": "masked"}]
)
def test_options_by_field_need_equal_widths(feature_map, option):
    with pytest.raises(ConfigError, match="needs several fields of one embedding_dim"):
        load_model_class("DCNv2")(feature_map, embedding_dim=3, **{**GEN, **option})


@pytest.mark.parametrize("name", ["FM", "FwFM", "FmFM", "PNN", "DeepFM", "xDeepFM", "DCNv2"])
def test_embedding_dropout_acts_in_training_only(feature_map, batch, name):
    for spec in feature_map.features.values():
        spec.pop("embedding_dim", None)
    model = load_model_class(name)(feature_map, embedding_dim=4, embedding_dropout=0.5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.train()
    assert len({model(batch)["logit"].sum().item() for _ in range(4)}) > 1
    model.eval()
    assert len({model(batch)["logit"].sum().item() for _ in range(4)}) == 1
