"""The cost of a model, counted on the meta device, against counts by hand."""

import time

import numpy as np
import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.experiment.estimate.model_cost import (
    MachineRates,
    ModelCost,
    build_on_meta,
    count_cost,
    measure_rates,
)
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ZOO, backbones, find_folder, load_experiment
from fuxictr.features import FeatureMap

SIZES = {"a": 50, "b": 7, "c": 4}
F, D, B = 4, 8, 100
WIDTH = F * D
SMALL = [f"embedding_dim={D}", f"batch_size={B}"]


@pytest.fixture
def feature_map() -> FeatureMap:
    """Three categorical fields and a numeric one."""
    feature_map = FeatureMap("demo_x1")
    feature_map.features = {
        **{name: {"type": "categorical", "vocab_size": size} for name, size in SIZES.items()},
        "x": {"type": "numeric"},
    }
    feature_map.labels = ["click"]
    return feature_map


def cost_of(feature_map, expid, *overrides) -> ModelCost:
    folder = find_folder(expid.split("_")[0])
    return count_cost(*load_experiment(expid, folder, overrides=[*SMALL, *overrides]), feature_map)


@pytest.mark.parametrize(
    ("expid", "overrides", "flops"),
    [
        ("FM_demo", [], 0),
        ("FM_demo_gen", [], 2 * WIDTH**2),
        ("DeepFM_demo", ["hidden_units=[6,5]"], 2 * (WIDTH * 6 + 6 * 5 + 5)),
        ("DeepFM_demo_gen", ["hidden_units=[6]"], 2 * (WIDTH**2 + WIDTH * 6 + 6)),
        ("CrossNet_demo", ["num_cross_layers=3", "head=linear"], 2 * (3 * WIDTH**2 + WIDTH)),
        ("CrossNet_demo_gen", ["num_cross_layers=3", "head=linear"], 2 * (6 * WIDTH**2 + WIDTH)),
        (
            "xDeepFM_demo",
            ["cin_hidden_units=[3,2]", "dnn_hidden_units=[6]"],
            2 * (D * (F * F * 3 + F * 3 * 2) + 5 + WIDTH * 6 + 6),
        ),
        ("FwFM_demo", [], 2 * (F * F * D + WIDTH)),
        ("PNN_demo", ["hidden_units=[6]"], 2 * (F * F * D + (WIDTH + 6) * 6 + 6)),
    ],
)
def test_operations_are_those_counted_by_hand(feature_map, expid, overrides, flops):
    cost = cost_of(feature_map, expid, *overrides)
    assert cost.forward_flops == flops
    assert cost.training_flops == 3 * flops


@pytest.mark.parametrize("variant", ["", "_gen"])
@pytest.mark.parametrize("backbone", backbones("demo"))
def test_weights_are_those_of_the_built_model(feature_map, backbone, variant):
    config, model_class = load_experiment(f"{backbone}_demo{variant}", find_folder(backbone))
    state = torch.get_rng_state()
    cost = count_cost(config, model_class, feature_map)
    assert torch.equal(torch.get_rng_state(), state)
    model = build_model(config, model_class, feature_map)
    assert cost.parameters == model.count_parameters()
    assert cost.dense_parameters == model.count_parameters(count_embedding=False)
    assert cost.frozen_parameters == 0
    assert cost.checkpoint_bytes == sum(p.nbytes for p in model.parameters())


def test_bytes_of_fm_are_those_counted_by_hand(feature_map):
    cost = cost_of(feature_map, "FM_demo", "embedding_regularizer=0.1")
    rows = sum(SIZES.values())
    assert cost.table_parameters == rows * (D + 1)
    assert cost.dense_parameters == D + 1 + 1  # of the numeric field, and the bias
    assert cost.num_lookups == 2 * 3
    assert cost.lookup_bytes == 4 * 3 * (D + 1)
    # Ids with their offsets (int32) of both tables; the embeddings and their sum; the values twice,
    # and the label, as columns of the batch; the logit.
    kept = 2 * 3 * 4 + 4 * (F * D + D) + 4 * 2 + 4 * 1
    assert cost.activation_bytes == pytest.approx(B * kept, rel=0.05)
    weights, penalized = cost.parameters, cost.parameters - 1  # the bias is no embedding
    assert cost.step_bytes == 4 * (11 * weights + 3 * penalized)
    assert cost.state_bytes == 4 * 4 * weights


def test_numbers_moved_by_fm_are_those_counted_by_hand(feature_map):
    del feature_map.features["x"]
    fields, numbers = 3, 3 * D
    moved = [
        2 * 2 * fields,  # ids + offsets, for both tables
        fields + 2 * fields * D,  # the lookups of embeddings
        fields + 2 * fields,  # and of first-order weights
        numbers + D + 2 * D,  # the sum of the embeddings, and its square
        2 * numbers + numbers + D,  # their squares, and the sum of these
        3 * D + 2 * D,  # half the difference
        D + 1,  # the sum over D
        fields + 1 + 2,  # the sum of the first-order weights, plus the bias
        3 + 2 + 2,  # the sum of both, the sigmoid, the loss
    ]
    assert cost_of(feature_map, "FM_demo").forward_bytes == pytest.approx(4 * sum(moved), rel=0.01)


def test_a_penalty_and_the_optimiser_change_the_step(feature_map):
    plain = cost_of(feature_map, "FM_demo", "embedding_regularizer=0", "optimizer=sgd")
    assert plain.step_bytes == 4 * 7 * plain.parameters
    assert plain.state_bytes == 4 * 2 * plain.parameters


def test_activations_and_operations_grow_as_they_should(feature_map):
    one = cost_of(feature_map, "DCNv2_demo_gen")
    two = cost_of(feature_map, "DCNv2_demo_gen", f"batch_size={2 * B}")
    assert two.activation_bytes == pytest.approx(2 * one.activation_bytes, rel=1e-3)
    assert two.forward_flops == one.forward_flops
    assert two.num_operations == one.num_operations
    deeper = cost_of(feature_map, "DCNv2_demo_gen", "num_cross_layers=4")
    assert deeper.activation_bytes > one.activation_bytes
    assert deeper.num_operations > one.num_operations
    assert deeper.forward_bytes > one.forward_bytes


def test_sequences_and_given_vectors_are_counted_without_a_file(feature_map):
    feature_map.features["tags"] = {"type": "sequence", "vocab_size": 20, "max_len": 5}
    assert cost_of(feature_map, "FM_demo").num_lookups == 2 * (3 + 5)
    feature_map.features["a"] |= {
        "pretrained_emb": "nowhere.npy", "pretrain_dim": 6, "pretrain_usage": "sum",
    }  # fmt: skip
    cost = cost_of(feature_map, "FM_demo")
    assert cost.frozen_parameters == SIZES["a"] * 6
    assert feature_map.pretrained == {}


def test_no_weight_has_memory(feature_map):
    feature_map.features["a"]["vocab_size"] = 10**10
    config, model_class = load_experiment("DCNv2_demo_gen", ZOO / "DCNv2")
    model = build_on_meta(config, model_class, feature_map)
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert count_cost(config, model_class, feature_map).parameters > 10**11


def test_a_config_that_does_not_fit_is_an_error(feature_map):
    with pytest.raises(ConfigError, match="self_attention needs an embedding_dim divisible by 4"):
        cost_of(feature_map, "FM_demo_gen", "embedding_dim=6", "encoder=self_attention")


def test_seconds_add_up():
    cost = ModelCost(
        table_parameters=0, dense_parameters=0, frozen_parameters=0, forward_flops=10,
        num_lookups=3, lookup_bytes=0, forward_bytes=100, step_bytes=7000, activation_bytes=0,
        state_bytes=0, num_operations=5, batch_size=50,
    )  # fmt: skip
    rates = MachineRates(flops=1e3, bytes=1e4, lookups=1e2, operations=1e1)
    forward = 120 * 10 / 1e3 + 120 * 100 / 1e4 + 3 * 5 / 1e1
    assert cost.forward_seconds(rates, 120) == pytest.approx(forward)
    training = 3 * forward + 120 * 3 / 1e2 + 3 * 7000 / 1e4
    assert cost.training_seconds(rates, 120) == pytest.approx(training)
    assert cost.training_bytes == 3 * 100 + 7000 / 50


def test_rates_are_measured_fast_and_draw_no_number():
    state = torch.get_rng_state()
    start = time.process_time()
    rates = measure_rates(torch.device("cpu"), seconds=0.02)
    assert time.process_time() - start < 5
    assert all(np.isfinite(rate) and rate > 0 for rate in vars(rates).values())
    assert rates.flops > rates.operations
    assert torch.equal(torch.get_rng_state(), state)
