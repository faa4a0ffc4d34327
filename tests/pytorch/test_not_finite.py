"""Which value, weight, module or gradient stopped being finite first, and that looking is free."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fuxictr.config import TrainConfig
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.debug.forward_walk import measure
from fuxictr.pytorch.debug.not_finite import explain_not_finite, find_not_finite
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.losses import cross_entropy
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.precision import autocast
from fuxictr.pytorch.training.step import NotFiniteError
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.tiny import make, tiny_data, tiny_map
from tests.zoo.cases import Case, build

HUGE = 3e38


def bits_of(model: nn.Module) -> dict:
    """All that looking at a model must leave as it is."""
    random_bits = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return {
        "weights": copy.deepcopy(model.state_dict()),
        "buffers": [buffer.clone() for buffer in model.buffers()],
        "gradients": gradients,
        "random": random_bits,
        "hooks": hooks,
        "attributes": [
            {key: value for key, value in vars(m).items() if not key.startswith("_")}
            for m in model.modules()
        ],
        "modes": [m.training for m in model.modules()],
    }


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


def is_same(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return first.shape == second.shape and bytes_of(first) == bytes_of(second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(is_same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(is_same, first, second))
    return first is second or first == second


def look(model: BaseModel, batch, **options) -> str | None:
    """What is found, where looking changed nothing."""
    before = bits_of(model)
    found = find_not_finite(model, batch, **options)
    assert is_same(before, bits_of(model))
    return found


def advice(model: BaseModel, batch) -> str:
    """The last part of the message."""
    text = explain_not_finite(model, batch, "epoch 2, step 57", float("nan"), 0.25)
    assert text.startswith("epoch 2, step 57: the training loss is nan; ")
    return text.rpartition("; ")[2]


def zoo_model(expid: str, *overrides: str):
    model, _, data = build(Case(expid.split("_")[0], expid, overrides))
    return model.train(), data.rows(slice(None))


PLANTED = [
    ("FM_demo_gen", (), "generator.encoder.weight", "'generator.encoder' (AllFieldsEncoder)"),
    ("FM_demo", (), "embedding_layer.table", "the FM"),
    ("DeepFM_demo_gen", (), "mlp.mlp.0.weight", "'mlp.mlp.0' (Linear)"),
    ("DeepFM_demo_gen", ("batch_norm=true",), "mlp.mlp.0.weight", "'mlp.mlp.0' (Linear)"),
    ("DeepFM_demo_gen", ("net_dropout=0.5",), "mlp.mlp.6.weight", "'mlp.mlp.6' (Linear)"),
    ("DCNv2_demo", (), "cross_net.layers.1.weight.weight", "'cross_net.layers.1.weight' (Linear)"),
    ("DCNv2_demo_gen", (), "head.mlp.2.weight", "'head.mlp.2' (Linear)"),
    (
        "DCNv2_demo_gen",
        ("encoder=stacked", "target=masked"),
        "cross_net.layers.0.generator.encoder.second.weight",
        "'cross_net.layers.0.generator.encoder.second' (EncoderMap)",
    ),
]


@pytest.mark.parametrize(("expid", "overrides", "weight", "culprit"), PLANTED)
def test_an_overflow_in_one_layer(expid, overrides, weight, culprit):
    model, batch = zoo_model(expid, *overrides)
    assert look(model, batch) is None
    with torch.no_grad():
        model.get_parameter(weight).fill_(HUGE)
        model.embedding_layer.table.abs_()  # terms of both signs could cancel
    for is_training in (True, False):
        found = look(model.train(is_training), batch)
        assert f"the first output that is not finite is that of {culprit}: " in found
        assert found.endswith("and weights up to 3e+38") or expid == "FM_demo"


def test_a_huge_value_in_a_numeric_column():
    model, batch = zoo_model("DeepFM_demo_gen", "gamma=2")
    batch["x"][3] = HUGE
    with torch.no_grad():
        model.embedding_layer.numeric_weight.fill_(2)
    assert look(model, batch) == (
        "the first output that is not finite is that of 'embedding_layer' (FeatureEmbedding): "
        "4 of 240 values are NaN or infinite, made of inputs up to 3e+38 and weights up to 2, "
        "before it calls 'embedding_layer.dropout' (Identity)"
    )
    assert advice(model, batch) == (
        "lower learning_rate (0.25) or gamma (2), and scale column 'x', which reaches 3e+38 in "
        "this batch (normalizer: StandardScaler)"
    )
    batch["x"][3] = float("nan")
    assert look(model, batch) == (
        "column 'x' of the batch: 1 of 12 values are NaN or infinite, the first is nan in row 4"
    )


def test_a_huge_gamma():
    model, batch = zoo_model("FM_demo_gen", "gamma=1e38")
    with torch.no_grad():
        model.generator.encoder.weight.fill_(1)
        model.embedding_layer.table.abs_()
    found = look(model, batch)
    assert "the first output that is not finite is that of 'generator' (GEN): " in found
    assert advice(model, batch) == "lower learning_rate (0.25) or gamma (1e+38)"
    assert advice(*zoo_model("FM_demo")) == "lower learning_rate (0.25)"


def test_weights_are_named_before_modules():
    model, batch = zoo_model("DeepFM_demo")
    with torch.no_grad():
        model.mlp.mlp[2].weight[1, 2:4] = torch.inf
        model.mlp.mlp[4].bias.fill_(torch.nan)
    found = look(model, batch)
    assert found.startswith("weight 'mlp.mlp.2.weight': 2 of 30 values are NaN or infinite")
    assert "some of 1 more weights" in found and found == look(model, {}, may_call=False)


def test_buffers_count_as_weights():
    model, batch = zoo_model("DeepFM_demo", "batch_norm=true")
    model.mlp.mlp[1].running_var[2] = torch.nan
    assert look(model, batch).startswith("buffer 'mlp.mlp.1.running_var': 1 of 6 values")


class Logarithm(nn.Module):
    def forward(self, x):
        return {"log": x.log(), "parts": [x, (x, None, 3)]}


class Twice(nn.Module):
    """Calls one layer twice, in place, and hands its result over in nested structures."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x, *, again):
        return [{"x": self.layer(self.relu(self.layer(x)) * again)}]


class Masked(nn.Module):
    """Makes infinite values, as for a softmax, that are gone when it returns."""

    def __init__(self):
        super().__init__()
        self.mask, self.softmax = Logarithm(), nn.Softmax(dim=1)

    def forward(self, x):
        return self.softmax(self.mask(torch.cat([torch.zeros_like(x), x.exp()], dim=1))["log"])


class Unnamed(nn.Module):
    """What its own function computes is not seen as a call of it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def encode(self, x):
        return self.layer(x / 0)


@dataclass
class Outputs:
    hidden: torch.Tensor


class UserModel(BaseModel):
    """A model of a user's own: its part may be any module."""

    def __init__(self, feature_map, part=None, use=None, **params):
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.part = part
        self.use = use
        self.reset_parameters()
        self.num_passes = 0
        self.last = None

    def forward(self, inputs):
        self.num_passes += 1
        first = self.embedding_layer(inputs)[:, 0, :1]
        self.last = self.use(self.part, first)
        self.record("last", self.last)
        return Returned(**self.output(self.last.mean(1, keepdim=True)))


class Returned(dict):
    pass


def user_model(part, use):
    feature_map = tiny_map()
    model = make(feature_map, kind=UserModel, part=part, use=use)
    with torch.no_grad():
        model.embedding_layer.table.abs_().add_(1)
    return model.train(), tiny_data(feature_map).rows(slice(50))


def test_the_logarithm_of_a_negative_number():
    model, batch = user_model(nn.Sequential(Logarithm()), lambda part, x: part(-x)["log"])
    found = look(model, batch)
    assert "that of 'part.0' (Logarithm): 50 of 150 values are NaN or infinite" in found


def test_a_module_that_is_called_twice_by_name_and_in_place():
    model, batch = user_model(Twice(), lambda part, x: part(x, again=x * 2)[0]["x"])
    with torch.no_grad():
        model.part.layer.weight.fill_(1e25)
    found = look(model, batch)
    assert "that of 'part.layer' (Linear), in its call number 2: 50 of 50" in found
    assert "made of inputs up to 2e+25 and weights up to 1e+25" in found


def test_infinite_values_that_a_softmax_takes_away():
    model, batch = user_model(Masked(), lambda part, x: part(x))
    assert look(model, batch) is None
    model, batch = user_model(Masked(), lambda part, x: part(x) / 0)
    assert "that of the UserModel: " in look(model, batch)
    assert "before it calls" not in look(model, batch)


def test_a_function_other_than_forward_is_part_of_its_caller():
    model, batch = user_model(Unnamed(), lambda part, x: part.encode(x))
    found = look(model, batch)
    assert "that of the UserModel: 50 of 100 values" in found  # all logits, no y_pred
    assert found.endswith(", before it calls 'part.layer' (Linear)")


def test_dataclasses_and_complex_numbers():
    class Part(nn.Module):
        def forward(self, x):
            return Outputs(torch.fft.fft(x * HUGE * 2, dim=0))

    model, batch = user_model(nn.ModuleList([Part()]), lambda part, x: part[0](x).hidden.abs())
    assert "that of 'part.0' (Part): " in look(model, batch)


def test_an_error_that_nan_leads_to():
    class Strict(nn.Module):
        def forward(self, x):
            if x.isnan().any():
                raise ValueError("found nan")
            return x

    part = nn.Sequential(nn.Linear(1, 1), Strict())
    model, batch = user_model(part, lambda part, x: part(x * 2) * 1)
    with torch.no_grad():
        part[0].weight.fill_(HUGE)
        part[0].bias.fill_(-torch.inf)
    assert look(model, batch).startswith("weight 'part.0.bias'")
    part[0].bias = None
    model.use = lambda part, x: part(torch.cat([x, -x]) * 2) * (0 * part[0](x * 9))[0]
    assert "that of 'part.0' (Linear)" in look(model, batch)
    model.use = lambda part, x: part[1](x * torch.nan)
    with pytest.raises(ValueError, match="found nan"):
        look(model, batch)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of what torch itself does
def test_what_torch_compiled_is_looked_into():
    part = nn.Sequential(nn.Linear(1, 1), nn.Softplus())
    model, batch = user_model(torch.compile(part, backend="eager"), lambda part, x: part(x))
    model(batch)
    assert look(model, batch) is None
    with torch.no_grad():
        part[0].weight.fill_(HUGE)
        part[0].bias.fill_(HUGE)
    assert "that of 'part.0' (Linear)" in look(model, batch)


def test_the_loss_of_finite_outputs():
    model, batch = zoo_model("FM_demo")
    with torch.no_grad():
        model.lr_layer.bias.fill_(HUGE)
    assert look(model, batch) == "the loss is that of finite outputs, which reach 3e+38"


def test_a_penalty_that_overflows():
    model, batch = zoo_model("FM_demo", "net_regularizer=0.1")
    with torch.no_grad():
        model.embedding_layer.table.zero_()
        model.lr_layer.bias.fill_(-1e25)
    found = look(model, batch)
    assert found.startswith("the penalty on the weights (regularizer) is infinite")
    assert (
        found.endswith("'lr_layer.bias' reaches 1e+25") and look(model, {}, may_call=False) == found
    )


def test_a_gradient_of_a_finite_loss():
    model, batch = user_model(nn.Linear(1, 1), lambda part, x: part(x).mul(0).sqrt())
    cross_entropy(model(batch), model.get_labels(batch)).backward()
    found = look(model, batch)
    assert found.startswith("the loss is finite, the gradient of 'embedding_layer.")
    model.use = lambda part, x: part(x)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e10)
    assert look(model, batch) is None
    model.part.weight.grad.fill_(-1e25)
    found = look(model, batch)
    assert found.startswith("the norm of all gradients is infinite, they are not")
    assert found.endswith("that of 'part.weight' reaches 1e+25")


@pytest.mark.parametrize("penalty", [None, 0.1])
def test_tables_that_are_read_by_rows_stay_as_they_are(penalty):
    feature_map = tiny_map()
    model = make(feature_map, embedding_regularizer=penalty).train()
    data = tiny_data(feature_map)
    blocks = [model.embedding_layer, model.lr_layer.embedding_layer]
    optimizer = LazyAdam(model.parameters(), 0.1, blocks, model.penalized_parameters())
    for start in range(0, 40, 5):  # most rows lie behind now
        optimizer.zero_grad()
        batch = data.rows(slice(start, start + 5))
        cross_entropy(model(batch), model.get_labels(batch)).backward()
        optimizer.step()
    optimizer.zero_grad()
    (cross_entropy(model(batch), model.get_labels(batch)) * torch.inf).backward()
    readers = [block.reader for block in blocks]
    behind = [reader.is_behind for reader in readers]
    tables = [block.table.detach().clone() for block in blocks]
    found = find_not_finite(model, batch)
    assert found.startswith("the loss is finite, the gradient of 'embedding_layer.table' is not: ")
    assert behind == [reader.is_behind for reader in readers] == [penalty is None] * 2
    for block, table in zip(blocks, tables, strict=True):
        assert torch.equal(block.table, table)


def test_the_same_dropout_is_drawn_again():
    class Half(nn.Module):
        def forward(self, x):
            return x * torch.where(torch.rand(()) < 0.5, torch.inf, 1.0)

    model, batch = user_model(Half(), lambda part, x: part(x))
    found = []
    for _ in range(20):
        state = torch.get_rng_state()
        is_finite = bool(model(batch)["logit"].isfinite().all())
        later = torch.get_rng_state()
        torch.set_rng_state(state)
        assert (look(model, batch) is None) == is_finite
        torch.set_rng_state(later)
        found.append(is_finite)
    assert set(found) == {True, False}


def test_what_is_given_by_keyword_is_an_input():
    model, batch = user_model(Twice(), lambda part, x: part(x, again=x / 0)[0]["x"])
    assert "that of the UserModel: " in look(model, batch)


def test_other_random_numbers_are_as_they_were():
    model, batch = user_model(None, lambda part, x: x * np.random.rand() * random.random())
    assert look(model, batch) is None
    assert model.num_passes == 0 and model.last is None


def test_recording_is_off():
    model, batch = user_model(Logarithm(), lambda part, x: part(x)["log"])
    model.analyzing, model.record_last = True, [torch.ones(1)]
    assert look(model, batch) is None
    assert model.analyzing and len(model.record_last) == 1


def test_bfloat16_overflows_where_the_training_does():
    model, batch = zoo_model("DeepFM_demo")
    with torch.no_grad():
        for layer in model.mlp.mlp:
            if isinstance(layer, nn.Linear):
                layer.weight.fill_(1.0)
        model.mlp.mlp[0].bias.fill_(3.3985e38)  # finite, but beyond bfloat16's largest when rounded
    assert look(model, batch) is not None
    with autocast("bf16", torch.device("cpu")):
        assert "that of 'mlp.mlp.0' (Linear)" in look(model, batch)


NESTED = st.recursive(
    st.lists(st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0]), max_size=5),
    lambda inner: (
        st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.tuples(inner, inner, st.just(None))
    ),
    max_leaves=6,
)


def as_tensors(tree):
    if isinstance(tree, list):
        return torch.tensor(tree, dtype=torch.float32)
    if isinstance(tree, dict):
        return {key: as_tensors(value) for key, value in tree.items()}
    return tuple(map(as_tensors, tree)) if isinstance(tree, tuple) else tree


def flat(tree):
    if isinstance(tree, list):
        return tree
    parts = tree.values() if isinstance(tree, dict) else tree or ()
    return [value for part in parts for value in flat(part)]


@given(NESTED)
def test_measure_counts_what_numpy_counts(tree):
    values = np.array(flat(tree), dtype=np.float32)
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    assert measure(as_tensors(tree)) == (values.size, values.size - finite.size, largest)


def test_measure_takes_large_tensors_in_parts(monkeypatch):
    monkeypatch.setattr("fuxictr.pytorch.debug.forward_walk._VALUES_AT_ONCE", 7)
    values = torch.arange(100.0).view(10, 10).t()
    values[3, 4] = values[9, 9] = torch.nan
    assert measure([values, torch.arange(5)]) == (100, 2, 98.0)


def test_a_training_names_epoch_step_and_module():
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    data.values[250:, 0] = HUGE  # in the third step
    model = make(feature_map)
    with torch.no_grad():
        model.embedding_layer.numeric_weight.fill_(2)
    config = TrainConfig(batch_size=100, epochs=1)
    trainer = Trainer(model, config, verbose=0)
    with pytest.raises(NotFiniteError) as caught:
        trainer.fit(BatchIterator(data, 100), None)
    text = str(caught.value)
    assert text.startswith("epoch 1, step 3: the training loss is ")
    assert "that of 'embedding_layer' (FeatureEmbedding): " in text
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
