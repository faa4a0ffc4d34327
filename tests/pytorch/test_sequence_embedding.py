"""Sequences, vectors, shared tables: against plain loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import from_arrays
from fuxictr.pytorch.layers import (
    FeatureEmbedding,
    FeatureEmbeddingDict,
    LogisticRegression,
    MaskedAveragePooling,
    MaskedSumPooling,
    MixedEmbedding,
    make_embedding,
)

B, D = 6, 3
# First rows in the common table: categorical fields come first; "t" reads the rows of "a".
OFFSETS = {"a": 0, "b": 5, "s": 9, "t": 0, "u": 16}


def make_map(pooling_of_u: str | None = "average") -> FeatureMap:
    sequence = {"type": "sequence", "max_len": 4}
    feature_map = FeatureMap("d")
    feature_map.features = {
        "s": {**sequence, "vocab_size": 7, "feature_encoder": "layers.MaskedAveragePooling()"},
        "a": {"type": "categorical", "vocab_size": 5, "source": "item"},
        "x": {"type": "numeric", "source": "item"},
        "e": {"type": "embedding", "pretrain_dim": 2},
        "t": {**sequence, "vocab_size": 5, "share_embedding": "a", "feature_encoder": "sum"},
        "b": {"type": "categorical", "vocab_size": 4, "source": "user"},
        "u": {**sequence, "vocab_size": 3, "max_len": 2, "feature_encoder": pooling_of_u},
    }
    feature_map.labels = ["click"]
    return feature_map


def make_inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    ids = {"s": (7, 4), "t": (5, 4), "u": (3, 2)}
    inputs = {n: torch.tensor(rng.integers(0, v, (B, length))) for n, (v, length) in ids.items()}
    inputs["s"][1] = inputs["t"][2] = inputs["u"][3] = 0  # no element at all
    inputs["a"], inputs["b"] = (torch.tensor(rng.integers(1, v, B)) for v in (5, 4))
    inputs["x"], inputs["e"] = (
        torch.tensor(rng.normal(size=B)),
        torch.tensor(rng.normal(size=(B, 2))),
    )
    return inputs


def make_layer(layer_class=FeatureEmbedding, **options) -> torch.nn.Module:
    """A layer in float64 whose padding rows are not zero, so that reading one is seen."""
    torch.manual_seed(0)
    layer = layer_class(make_map(**options), D).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def pooled(rows: np.ndarray, ids: np.ndarray, pooling: str | None) -> np.ndarray:
    """The pooling of one row, element by element; all positions (L, D) without one."""
    total, positions = np.zeros(rows.shape[1]), []
    for token in ids:
        positions.append(rows[token] if token != 0 else np.zeros(rows.shape[1]))
        total = total + positions[-1]
    if pooling is None:
        return np.array(positions)
    num_tokens = sum(1 for token in ids if token != 0)
    return total / num_tokens if pooling == "average" and num_tokens else total


def reference(layer, inputs) -> dict[str, np.ndarray]:
    weights = {n: w.detach().numpy() for n, w in layer.state_dict().items()}
    feature_map = layer.feature_map
    expected: dict[str, list] = {name: [] for name in feature_map.fields}
    for b in range(B):
        for name, spec in feature_map.fields.items():
            value = inputs[name][b].numpy()
            if spec["type"] == "numeric":
                vector = value * weights["numeric_weight"][0]
            elif spec["type"] == "embedding":
                vector = [
                    sum(w * v for w, v in zip(row, value, strict=True))
                    for row in weights[f"own.field_{name}.weight"]
                ]
            else:
                rows = weights["table"][OFFSETS[name] : OFFSETS[name] + spec["vocab_size"]]
                is_id = spec["type"] == "categorical"
                vector = rows[value] if is_id else pooled(rows, value, feature_map.pooling(name))
            expected[name].append(vector)
    return {name: np.array(vectors) for name, vectors in expected.items()}


def as_batch(inputs):
    columns = {name: column.numpy() for name, column in inputs.items()}
    return from_arrays({**columns, "click": np.zeros(B)}, make_map()).rows(slice(None))


def test_feature_embedding_equals_the_loops():
    layer, inputs = make_layer(), make_inputs()
    expected = np.stack(list(reference(layer, inputs).values()), axis=1)
    found = layer(inputs)
    assert found.shape == (B, 7, D)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    assert layer.table.shape == (19, D)
    assert not found[1, 0].any() and not found[2, 4].any() and not found[3, 6].any()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32])
def test_a_batch_and_a_mapping_of_any_dtype_give_the_same(dtype):
    layer, inputs = make_layer().float(), make_inputs()
    columns = {n: c.float() if n in "xe" else c.to(dtype) for n, c in inputs.items()}
    expected = layer(columns)
    assert expected.dtype == torch.float32
    assert torch.equal(layer(as_batch(inputs)), expected)


def test_a_batch_lists_the_fields_in_the_order_of_the_feature_map():
    batch = as_batch(make_inputs())
    assert list(batch) == list(make_map().fields) and len(batch) == 7
    assert "click" in batch, "a label is there, but not listed"
    assert torch.equal(torch.stack([*batch.values()][1:3]), torch.stack([batch["a"], batch["x"]]))


def test_a_batch_may_have_no_rows():
    layer = make_layer().float()
    empty = from_arrays(
        {n: c.numpy()[:0] for n, c in {**make_inputs(), "click": torch.zeros(B)}.items()},
        make_map(),
    ).rows(slice(None))
    assert layer(empty).shape == (0, 7, D)


class Operators(TorchDispatchMode):
    """Records the operators that run inside."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names = [*getattr(self, "names", []), func.overloadpacket.__name__]
        return func(*args, **(kwargs or {}))


def test_categorical_fields_alone_cost_one_addition_and_one_lookup():
    feature_map = make_map()
    feature_map = feature_map.select(["a", "b"])
    layer = FeatureEmbedding(feature_map, D)
    columns = {"a": np.ones(B), "b": np.ones(B), "click": np.ones(B)}
    batch = from_arrays({n: c.astype(np.int64) for n, c in columns.items()}, feature_map)
    with Operators() as operators:
        layer(batch.rows(slice(None)))
    assert [n for n in operators.names if n not in ("slice", "alias")] == ["add", "embedding"]


def test_sequences_take_part_in_the_one_lookup_of_the_batch():
    layer, batch = make_layer().float(), as_batch(make_inputs())
    with Operators() as operators:
        layer(batch)
    lookups = [n for n in operators.names if "embedding" in n or "index" in n or "gather" in n]
    assert lookups == ["_embedding_bag"]


@given(
    ids=st.integers(1, 5).flatmap(
        lambda length: st.lists(
            st.lists(st.integers(0, 4), min_size=length, max_size=length), min_size=1, max_size=6
        )
    ),
    pooling=st.sampled_from(["average", "sum"]),
)
def test_pooling_takes_any_pattern_of_padding(ids, pooling):
    feature_map = FeatureMap("d")
    spec = {"type": "sequence", "vocab_size": 5, "feature_encoder": pooling}
    feature_map.features = {"s": {**spec, "max_len": len(ids[0])}}
    layer = FeatureEmbedding(feature_map, D).double()
    torch.nn.init.normal_(layer.table)
    rows = layer.table.detach().numpy()
    expected = [pooled(rows, row, pooling) for row in ids]
    found = layer({"s": torch.tensor(ids)})[:, 0].detach()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer_class", [FeatureEmbedding, FeatureEmbeddingDict])
@pytest.mark.parametrize("pooling", ["average", "sum", None])
def test_padding_receives_no_gradient_and_an_element_its_share(layer_class, pooling):
    if pooling is None and layer_class is FeatureEmbedding:
        return
    feature_map = FeatureMap("d")
    spec = {"type": "sequence", "vocab_size": 5, "max_len": 4, "feature_encoder": pooling}
    feature_map.features = {"s": spec}
    layer = layer_class(feature_map, D)
    found = layer({"s": torch.tensor([[1, 1, 3, 0], [0, 0, 0, 0], [0, 4, 0, 0]])})
    (found if isinstance(found, torch.Tensor) else found["s"]).sum().backward()
    share = 1 / 3 if pooling == "average" else 1
    expected = torch.tensor([0.0, 2 * share, 0, share, 1]).unsqueeze(1).expand(5, D)
    torch.testing.assert_close(layer.table.grad, expected)


def test_gradients_pass_gradcheck():
    layer, inputs = make_layer(), make_inputs()
    names = [name for name, _ in layer.named_parameters()]

    def outputs(*weights):
        parameters = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, parameters, (inputs,))

    assert torch.autograd.gradcheck(outputs, tuple(layer.parameters()))


@pytest.mark.parametrize("pooling", ["average", None])
def test_dict_holds_each_field(pooling):
    layer = make_layer(FeatureEmbeddingDict, pooling_of_u=pooling)
    inputs = make_inputs()
    found, expected = layer(inputs), reference(layer, inputs)
    assert list(found) == list(inputs), "in the order of the inputs"
    assert list(layer.float()(as_batch(inputs))) == list(expected), "of a batch, the feature map's"
    assert found["u"].shape == ((B, 2, D) if pooling is None else (B, D))
    for name, vectors in expected.items():
        np.testing.assert_allclose(found[name].detach(), vectors, rtol=1e-12)


def test_dict_keeps_the_positions_of_a_sequence_of_one():
    feature_map = FeatureMap("d")
    spec = {"type": "sequence", "vocab_size": 5, "max_len": 1, "feature_encoder": None}
    feature_map.features = {"s": spec}
    assert FeatureEmbeddingDict(feature_map, D)({"s": torch.tensor([1, 2])})["s"].shape == (2, 1, D)


def test_dict2tensor():
    layer, inputs = make_layer(FeatureEmbeddingDict, pooling_of_u=None), make_inputs()
    found = layer(inputs)
    with pytest.raises(ConfigError, match=r"'u': \(6, 2, 3\)"):
        layer.dict2tensor(found)
    found["u"] = found["u"].max(dim=1).values
    in_order = [found[name] for name in layer.feature_map.fields]
    assert torch.equal(layer.dict2tensor(found), torch.stack(in_order, dim=1))
    assert torch.equal(layer.dict2tensor(found, flatten_emb=True), torch.cat(in_order, dim=1))
    found["b"] = found["b"][:, :2]
    assert layer.dict2tensor(found, flatten_emb=True).shape == (B, 7 * D - 1)
    with pytest.raises(ConfigError, match="allowed.*one D for all"):
        layer.dict2tensor(found)
    some = layer.dict2tensor(found, feature_list=["u", "a"])
    assert torch.equal(some, torch.stack([found["a"], found["u"]], dim=1))
    with pytest.raises(ConfigError, match="found fields of shapes {}"):
        layer.dict2tensor({})


def test_fields_are_chosen_by_source_and_type():
    layer, inputs = make_layer(), make_inputs()
    whole = layer(inputs)
    assert torch.equal(layer(inputs, feature_source="item"), whole[:, [1, 2]])
    assert torch.equal(layer(inputs, ["item", "user"], "categorical"), whole[:, [1, 5]])
    assert torch.equal(layer(inputs, flatten_emb=True), whole.reshape(B, 7 * D))
    by_name = make_layer(FeatureEmbeddingDict)
    assert list(by_name(inputs, feature_type=["sequence"])) == ["s", "t", "u"]
    with pytest.raises(ConfigError, match="feature_source: no field has .*did you mean 'item'"):
        layer(inputs, feature_source="itme")


def test_only_the_required_fields_are_embedded():
    inputs = make_inputs()
    layer = FeatureEmbedding(make_map(), D, required_feature_columns=["b", "s"])
    assert layer({n: inputs[n] for n in "bs"}).shape == (B, 2, D)
    assert list(layer.as_fields()[0].fields) == ["s", "b"]
    layer = FeatureEmbedding(make_map(), D, not_required_feature_columns=["x", "e", "t"])
    assert list(layer.feature_map.fields) == ["s", "a", "b", "u"]
    with pytest.raises(ConfigError, match="'bb' is not a field"):
        FeatureEmbedding(make_map(), D, required_feature_columns=["bb"])


@pytest.mark.parametrize(
    "make", [lambda *args: FeatureEmbedding(*args).checked(), MixedEmbedding, make_embedding]
)
def test_one_vector_a_field_needs_a_pooling(make):
    message = r"column 'u'.*found null, allowed: average, sum; .*FeatureEmbeddingDict.*\(B, L, D\)"
    with pytest.raises(ConfigError, match=message):
        make(make_map(pooling_of_u=None), D)


def test_a_sequence_of_another_length_is_named():
    inputs = make_inputs()
    inputs["t"] = inputs["t"][:, :3]
    with pytest.raises(DataError, match="column 't': found 3 ids per row, the feature map says 4"):
        make_layer()(inputs)


@pytest.mark.parametrize("pooling", ["average", "sum", None])
def test_first_order_part_sums_over_a_sequence(pooling):
    feature_map = make_map(pooling_of_u=pooling)
    feature_map.features["a"]["embedding_dim"] = 7
    layer, inputs = LogisticRegression(feature_map).double(), make_inputs()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    own = layer.embedding_layer
    assert own.table.shape == (5 + 4 + 7 + 5 + 3, 1), "no table is shared"
    for b in range(B):
        expected = layer.bias.item()
        for name, offset in {"a": 0, "b": 5, "s": 9, "t": 16, "u": 21}.items():
            for token in np.atleast_1d(inputs[name][b].numpy()):
                expected += own.table[offset + token].item() if token else 0.0
        expected += inputs["x"][b].item() * own.numeric_weight.item()
        expected += (inputs["e"][b] * own.own["field_e"].weight[0]).sum().item()
        assert layer(inputs)[b, 0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["keys", "training", "a.b", "own%2E", "field_x"])
def test_a_field_may_have_any_name(name):
    feature_map = FeatureMap("d")
    feature_map.features = {
        name: {"type": "embedding", "pretrain_dim": 2},
        "c": {"type": "categorical", "vocab_size": 3},
    }
    found = FeatureEmbedding(feature_map, D)({name: torch.ones(B, 2), "c": torch.ones(B).long()})
    assert found.shape == (B, 2, D)


def test_pooling_afterwards_equals_pooling_in_the_lookup():
    ids = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 2, 4]])
    feature_map = FeatureMap("d")
    feature_map.features = {"s": {"type": "sequence", "vocab_size": 5, "max_len": 3}}
    for pooling, layer in (("average", MaskedAveragePooling()), ("sum", MaskedSumPooling())):
        specs = {"s": {"feature_encoder": pooling}}
        pooled = FeatureEmbedding(feature_map.select(feature_specs=specs), 4)
        specs = {"s": {"feature_encoder": None}}
        single = FeatureEmbeddingDict(feature_map.select(feature_specs=specs), 4)
        single.load_state_dict(pooled.state_dict())
        expected = pooled({"s": ids})[:, 0]
        torch.testing.assert_close(layer(single({"s": ids})["s"]), expected)
        assert not expected[1].any()
