"""The encoders and arms as the paper's code has them: how they start and what they compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fuxictr.config import GeneratorConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.ablations import find_arms
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import GEN
from fuxictr.pytorch.torch_utils import seed_everything

NUM_FIELDS, WIDTH = 24, 16  # of Avazu
FULL = math.sqrt(2 / (2 * NUM_FIELDS * WIDTH))  # xavier-normal of FD -> FD: 0.0510
ONE_TENSOR = math.sqrt(2 / (WIDTH * WIDTH + NUM_FIELDS * WIDTH))  # of (F, D, D): 0.0559
# Arm -> deviation of its encoder as the paper's code starts it, and by the shape of the map.
ARMS = {
    "source_own": (ONE_TENSOR, 1 / math.sqrt(WIDTH)),
    "source_own_reference": (ONE_TENSOR, 1 / math.sqrt(WIDTH)),
    "source_high": (FULL, math.sqrt(2 / ((NUM_FIELDS + 10) * WIDTH))),
    "source_high_reference": (FULL, math.sqrt(2 / ((NUM_FIELDS + 10) * WIDTH))),
    "source_low": (FULL, math.sqrt(2 / ((NUM_FIELDS + 10) * WIDTH))),
    "source_low_reference": (FULL, math.sqrt(2 / ((NUM_FIELDS + 10) * WIDTH))),
    "encoder_field_shared": (FULL, math.sqrt(2 / ((NUM_FIELDS + 1) * WIDTH))),
    "encoder_linear": (FULL, FULL),
}


def avazu_map() -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        f"f{i}": {"type": "categorical", "vocab_size": 5 + i} for i in range(NUM_FIELDS)
    }
    feature_map.labels = ["click"]
    return feature_map


def encoders(expid: str, *overrides: str) -> list[nn.Module]:
    small = ["parallel_dnn_hidden_units=[3]", "num_cross_layers=2", *overrides]
    config, kind = load_experiment(expid, ZOO / "DCNv2", overrides=small)
    seed_everything(3)
    model = build_model(config, kind, avazu_map())
    return [module.encoder for module in model.modules() if isinstance(module, GEN)]


@pytest.mark.parametrize("arm", ARMS)
def test_the_encoders_of_the_arms_start_as_in_the_reference(arm):
    for number, init in enumerate(("reference", "default")):
        found = encoders(f"DCNv2_avazu_gen_{arm}", f"encoder_init={init}")
        assert len(found) == 2
        for encoder in found:
            assert encoder.weight.std().item() == pytest.approx(ARMS[arm][number], rel=0.03)


@pytest.mark.parametrize("dataset", ["avazu", "criteo"])
def test_the_papers_arms_are_set_to_start_so(dataset):
    for arm in ARMS.keys() - {"encoder_linear"}:
        if dataset == "criteo" and arm.endswith("_reference"):
            continue
        config, _ = load_experiment(f"DCNv2_{dataset}_gen_{arm}", ZOO / "DCNv2")
        assert config.generator.encoder_init == "reference"
    assert round(ONE_TENSOR, 4) == 0.0559 and round(FULL, 4) == 0.0510


def test_a_full_map_starts_alike_under_both_words():
    weights = [
        encoders("DCNv2_avazu_gen", f"encoder_init={init}")[0].weight
        for init in ("default", "reference")
    ]
    assert torch.equal(*weights)
    generator = GEN(avazu_map(), WIDTH, GeneratorConfig(source="high", encoder_init="reference"))
    assert generator.encoder.weight.std().item() == pytest.approx(FULL, rel=0.03)
    config = GeneratorConfig(source="low", encoder="stacked", encoder_init="reference")
    second = GEN(avazu_map(), WIDTH, config).encoder.second.weight
    assert second.std().item() == pytest.approx(FULL, rel=0.03)


@pytest.mark.parametrize("source", ["high", "low"])
@pytest.mark.parametrize("word", ["generated", "all"])
def test_fields_that_are_not_generated_are_kept_or_doubled(source, word):
    config = GeneratorConfig(
        source=source,
        num_source=3,
        emb_activation="relu",
        gamma=8,
        gen_residual=True,
        residual_fields=word,
    )
    feature_map = avazu_map()  # field i has the i-th smallest vocabulary
    chosen = range(NUM_FIELDS - 3, NUM_FIELDS) if source == "high" else range(3)
    generator = GEN(feature_map, WIDTH, config).double()
    v = torch.randn(2, NUM_FIELDS, WIDTH, dtype=torch.float64)
    found = generator(v).detach().numpy()
    weight, raw = generator.encoder.weight.detach().numpy(), v.numpy()
    for b in range(2):
        for i in range(NUM_FIELDS):
            expected = raw[b, i] * (2.0 if word == "all" else 1.0)
            if i in chosen:
                rows = weight[list(chosen).index(i) * WIDTH :][:WIDTH]
                expected = 8 * np.maximum(rows @ raw[b].reshape(-1), 0) + raw[b, i]
            np.testing.assert_allclose(found[b, i], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "other",
    [{"source": "high"}, {"concat_emb": True, "gen_residual": True}, {"gen_residual": True}, {}],
)
def test_the_residual_of_all_fields_needs_some_that_are_not_generated(other):
    with pytest.raises(ConfigError, match=r"residual_fields: all needs source: high or low and"):
        GeneratorConfig(residual_fields="all", **other)


def test_the_arms_of_the_paper_have_its_settings():
    arms = {}
    for group in ("source", "encoder", "activation"):
        for arm in find_arms("DCNv2", "avazu", group):
            config, _ = load_experiment(arm.expid, ZOO / "DCNv2")
            arms[f"{group}_{arm.word}"] = (config.generator, config.model_params.get("use_gen_rst"))
            arms[f"{group}_{arm.word}_published"] = arm.published
    assert arms["activation_sigmoid"][0].gamma == 1
    assert arms["encoder_stacked"][0].gamma == 6
    assert arms["encoder_self_attention"][0].gamma == 1
    ours, theirs = arms["source_own"], arms["source_own_reference"]
    for (generator, use_gen_rst), expected in (
        (ours, ("own", "relu", 8, True, True)),
        (theirs, ("own", "tanh", 12, False, False)),
    ):
        found = (generator.source, generator.emb_activation, generator.gamma)
        assert (*found, generator.gen_residual, use_gen_rst) == expected
    assert arms["source_own_published"] == "source=own_ours"
    assert arms["source_own_reference_published"] == "source=own"
    assert arms["source_high"][0].residual_fields == "generated"
    assert arms["source_high_reference"][0].residual_fields == "all"


def test_pnn_on_criteo_stops_after_two_evaluations():
    for expid in ("PNN_criteo", "PNN_criteo_gen"):
        assert load_experiment(expid, ZOO / "PNN")[0].train.early_stop_patience == 2
