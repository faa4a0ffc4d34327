"""Layers against plain-loop float64 references."""

import numpy as np
import pytest
import torch

from fuxictr.config import GeneratorConfig
from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap
from fuxictr.pytorch import GEN, build_generators
from fuxictr.pytorch.batch import Batch, ColumnLayout
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression, MLP_Block, pair_sum

B, F, D = 5, 4, 3

ACTIVATIONS = {
    "relu": lambda x: max(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: x if x > 0 else np.exp(x) - 1,
    "prelu": lambda x: x if x > 0 else 0.25 * x,
    "linear": lambda x: x,
}


def random_embeddings(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, F, D, generator=torch.Generator().manual_seed(seed))


def mixed_map() -> FeatureMap:
    """Two runs of categorical fields around a numeric one, so that the order matters."""
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 4},
        "x": {"type": "numeric"},
        "b": {"type": "categorical", "vocab_size": 3},
        "y": {"type": "numeric"},
    }
    feature_map.labels = ["click"]
    return feature_map


def mixed_inputs() -> dict[str, torch.Tensor]:
    return {
        "a": torch.tensor([0, 1, 2, 3, 3]),
        "b": torch.tensor([2, 1, 0, 1, 2]),
        "x": torch.tensor([0.5, -1.0, 0.0, 2.0, 1.5]),
        "y": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]),
    }


def test_pair_sum_is_the_sum_over_lower_index_left():
    left, right = random_embeddings(1), random_embeddings(2)
    expected = np.zeros((B, D))
    for b in range(B):
        for j in range(F):
            for i in range(j):
                for d in range(D):
                    expected[b, d] += left[b, i, d].item() * right[b, j, d].item()
    np.testing.assert_allclose(pair_sum(left, right).numpy(), expected, rtol=1e-5, atol=1e-5)
    swapped = pair_sum(right, left).numpy()
    assert np.abs(swapped - expected).max() > 0.1, "the sides must matter"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("source", ["all", "own", "none"])
def test_gen_equals_its_formula(activation, residual, source):
    config = GeneratorConfig(
        concat_emb=source == "all",
        small_transformation=source == "own",
        emb_activation=activation,
        gamma=2.5,
        gen_residual=residual,
    )
    gen = GEN(mixed_map(), D, config)
    v = random_embeddings(3)
    act = ACTIVATIONS[activation]
    expected = np.zeros((B, F, D))
    for b in range(B):
        flat = [v[b, i, d].item() for i in range(F) for d in range(D)]
        for i in range(F):
            for d in range(D):
                if source == "all":
                    weights = gen.encoder.weight[i * D + d].tolist()
                    x = sum(w * u for w, u in zip(weights, flat, strict=True))
                elif source == "own":
                    x = sum(
                        gen.encoder.weight[i, e, d].item() * v[b, i, e].item() for e in range(D)
                    )
                else:
                    x = v[b, i, d].item()
                expected[b, i, d] = 2.5 * act(x) + (v[b, i, d].item() if residual else 0.0)
    np.testing.assert_allclose(gen(v).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["masked", "field_masked", "hard_masked"])
@pytest.mark.parametrize("source", ["all", "high"])
def test_the_residual_adds_the_field_that_a_mask_hides_from_the_encoder(target, source):
    keys = {"source": source, "target": target, "num_target": 2, "num_source": 2}
    torch.manual_seed(0)
    plain = GEN(mixed_map(), D, GeneratorConfig(**keys, emb_activation="relu")).eval()
    residual = GEN(
        mixed_map(), D, GeneratorConfig(**keys, emb_activation="relu", gen_residual=True)
    )
    residual.load_state_dict(plain.state_dict())
    v = random_embeddings(3)
    added = v.clone()
    if source == "high":  # the others are raw already
        others = [i for i in range(F) if i not in plain.generated.tolist()]
        added[:, others] = 0
    torch.testing.assert_close(residual.eval()(v), plain(v) + added)


def test_gen_with_identity_weights_is_dis():
    gen = GEN(mixed_map(), D, GeneratorConfig(concat_emb=True))
    torch.nn.init.eye_(gen.encoder.weight)
    v = random_embeddings()
    assert torch.equal(gen(v), v)


def test_build_generators_gives_identity_for_dis():
    feature_map = mixed_map()
    assert isinstance(build_generators(feature_map, D, {}), torch.nn.Identity)
    params = {"concat_emb": True, "gamma": 6, "emb_activation": "relu", "batch_size": 7}
    layers = build_generators(feature_map, D, params, num_layers=3)
    assert [type(layer) for layer in layers] == [GEN] * 3
    assert layers[0].encoder.weight is not layers[1].encoder.weight
    assert layers[0].encoder.weight.shape == (F * D, F * D)
    assert layers[0].encoder.bias is None
    with pytest.raises(ConfigError, match="emb_activation.*did you mean 'relu'"):
        build_generators(feature_map, D, {"emb_activation": "rellu"})


def test_embedding_of_mixed_fields_keeps_their_order():
    layer, inputs = FeatureEmbedding(mixed_map(), D), mixed_inputs()
    expected = np.zeros((B, F, D))
    for b in range(B):
        expected[b, 0] = layer.table[inputs["a"][b]].detach()
        expected[b, 1] = inputs["x"][b].item() * layer.numeric_weight[0].detach()
        expected[b, 2] = layer.table[4 + inputs["b"][b]].detach()
        expected[b, 3] = inputs["y"][b].item() * layer.numeric_weight[1].detach()
    np.testing.assert_allclose(layer(inputs).detach().numpy(), expected, rtol=1e-6)


def test_batch_and_mapping_give_the_same_embeddings():
    layer, inputs = FeatureEmbedding(mixed_map(), D), mixed_inputs()
    layout = ColumnLayout(("a", "b"), ("x", "y", "click"))
    ids = torch.stack([inputs["a"], inputs["b"]], dim=1).int()
    values = torch.stack([inputs["x"], inputs["y"], torch.zeros(B)], dim=1)
    batch = Batch(layout, ids, values)
    assert torch.equal(layer(batch), layer(inputs))
    assert torch.equal(batch["b"], ids[:, 1])
    assert set(batch) == {"a", "b", "x", "y", "click"}
    reordered = Batch(ColumnLayout(("b", "a"), ("click", "y", "x")), ids.flip(1), values.flip(1))
    assert torch.equal(layer(reordered), layer(inputs))


def test_padding_rows_start_at_zero_and_others_do_not():
    table = FeatureEmbedding(mixed_map(), D).table
    assert torch.all(table[[0, 4]] == 0)
    assert torch.all(table[[1, 2, 3, 5, 6]] != 0)
    assert table[[1, 2, 3, 5, 6]].abs().max() < 1e-3


def test_logistic_regression():
    layer, inputs = LogisticRegression(mixed_map()), mixed_inputs()
    torch.nn.init.constant_(layer.bias, 0.25)
    embedding = layer.embedding_layer
    for b in range(B):
        expected = 0.25
        expected += embedding.table[inputs["a"][b], 0].item()
        expected += embedding.table[4 + inputs["b"][b], 0].item()
        expected += embedding.numeric_weight[0, 0].item() * inputs["x"][b].item()
        expected += embedding.numeric_weight[1, 0].item() * inputs["y"][b].item()
        assert layer(inputs)[b, 0].item() == pytest.approx(expected, rel=1e-5)


def test_mlp_block():
    block = MLP_Block(3, [4, 2], ["relu", "tanh"], output_dim=1, dropout_rates=[0.5, 0])
    names = [type(layer).__name__ for layer in block.mlp]
    assert names == ["Linear", "ReLU", "Dropout", "Linear", "Tanh", "Linear"]
    block.eval()
    x = torch.randn(6, 3)
    hidden = x
    for linear, act in ((block.mlp[0], torch.relu), (block.mlp[3], torch.tanh)):
        hidden = act(hidden @ linear.weight.T + linear.bias)
    expected = hidden @ block.mlp[5].weight.T + block.mlp[5].bias
    torch.testing.assert_close(block(x), expected)
    assert "BatchNorm1d" in str(MLP_Block(3, [4], batch_norm=True))
    assert (block.output_dim, MLP_Block(3, [4, 2]).output_dim) == (1, 2)
    assert MLP_Block(3, []).output_dim == 3, "no hidden layer is not the default of three"
    assert MLP_Block(3, None).output_dim == 64
    assert MLP_Block(3).output_dim == 3
    with pytest.raises(ConfigError, match="dropout_rates.*3 values for 2"):
        MLP_Block(3, [4, 2], dropout_rates=[0.1, 0.1, 0.1])
