"""One suite over the whole zoo: every model folder, every shipped expid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fuxictr.analysis.recorder import Recorder
from fuxictr.config import TrainConfig, list_expids
from fuxictr.experiment.run import build_model
from fuxictr.experiment.zoo import ZOO, load_experiment, zoo_models
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.checkpoint import load_weights, save_weights
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.pytorch.trainer import Trainer
from tests.zoo.references import REFERENCES

EXPIDS = [(m, expid) for m in zoo_models() for expid in list_expids(ZOO / m / "config")]
NUM_ROWS = 24
SMALL = ["embedding_dim=3"]


def small_data() -> tuple[FeatureMap, dict[str, np.ndarray]]:
    """Four categorical fields with a numeric one between them."""
    rng = np.random.default_rng(3)
    feature_map = FeatureMap("d")
    columns = {}
    for name in ("a", "b", "x", "c", "d"):
        if name == "x":
            feature_map.features[name] = {"type": "numeric"}
            columns[name] = rng.normal(size=NUM_ROWS)
        else:
            feature_map.features[name] = {"type": "categorical", "vocab_size": 4}
            columns[name] = rng.integers(1, 4, NUM_ROWS)
    feature_map.labels = ["click"]
    columns["click"] = rng.integers(0, 2, NUM_ROWS)
    return feature_map, columns


def small_overrides(model: str, expid: str) -> list[str]:
    """Overrides that shrink a shipped expid's networks and leave everything else as shipped."""
    keys = list_expids(ZOO / model / "config")[expid]
    return [*SMALL, *(["hidden_units=[6,5]"] if "hidden_units" in keys else [])]


def build(model: str, expid: str, seed: int = 5):
    """A shipped expid on small data, all weights drawn from N(0, 0.5) so that every term counts."""
    config, model_class = load_experiment(
        expid, ZOO / model, overrides=small_overrides(model, expid)
    )
    feature_map, columns = small_data()
    seed_everything(seed)
    built = build_model(config, model_class, feature_map)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(std=0.5)
    return built, config, from_arrays(columns, feature_map)


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_shipped_expid_parses_strictly(model, expid):
    config, _ = load_experiment(expid, ZOO / model)
    assert config.variant == ("gen" if "_gen" in expid else "dis")
    assert config.run.model_id == expid


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_output_equals_the_plain_reference(model, expid):
    built, config, data = build(model, expid)
    built.eval()
    batch = data.rows(slice(None))
    with torch.inference_mode():
        found = built(batch)
    weights = {n: t.double().numpy() for n, t in built.state_dict().items()}
    fields = built.feature_map.fields
    for index in range(NUM_ROWS):
        row = {name: batch[name][index].item() for name in fields}
        expected = REFERENCES[model](weights, fields, row, config.params())
        assert found["logit"][index].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        chance = 1 / (1 + np.exp(-expected))
        assert found["y_pred"][index].item() == pytest.approx(chance, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_every_parameter_receives_a_gradient(model, expid):
    built, _, data = build(model, expid)
    built.train()
    built(data.rows(slice(None)))["logit"].square().mean().backward()
    without = [n for n, p in built.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_save_and_load_give_the_same_outputs(tmp_path, model, expid):
    built, _, data = build(model, expid)
    other, _, _ = build(model, expid, seed=6)
    save_weights(built, tmp_path / "m.model")
    load_weights(other, tmp_path / "m.model")
    batch = data.rows(slice(None))
    with torch.inference_mode():
        expected, found = built.eval()(batch)["logit"], other.eval()(batch)["logit"]
    assert torch.equal(expected, found)


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_same_seed_gives_the_same_training(model, expid):
    def train() -> list[float]:
        built, config, data = build(model, expid)
        trainer = Trainer(built, TrainConfig(batch_size=8, learning_rate=0.01), verbose=0)
        return [trainer.train_step(b).item() for b in BatchIterator(data, 8, True, seed=1)]

    losses = train()
    assert losses == train()
    assert all(np.isfinite(losses))


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_permuting_rows_permutes_outputs(model, expid):
    built, _, data = build(model, expid)
    order = torch.randperm(NUM_ROWS)
    with torch.inference_mode():
        straight = built.eval()(data.rows(slice(None)))["logit"]
        permuted = built(data.rows(order))["logit"]
    torch.testing.assert_close(permuted, straight[order])


@pytest.mark.parametrize(("model", "expid"), EXPIDS)
def test_records_are_present_and_cost_nothing_when_off(model, expid):
    built, config, data = build(model, expid)
    batch: Batch = data.rows(slice(None))
    with torch.inference_mode(), Recorder(built.eval()) as recorder:
        built(batch)
        built(batch)
        arrays = recorder.collect()
    names = {key.rpartition("/")[2] for key in arrays}
    assert {"feature_emb", "gen", "left", "right", "final_representation"} <= names
    assert all(len(array) == 2 * NUM_ROWS for array in arrays.values())
    raw = arrays["model/feature_emb"]
    gen = next(array for key, array in arrays.items() if key.endswith("/gen"))
    assert np.array_equal(raw, gen) == (config.variant == "dis")
    built(batch)
    assert not [n for m in built.modules() for n in vars(m) if n.startswith("record_")]


@pytest.mark.parametrize("model", zoo_models())
def test_gen_with_an_identity_encoder_equals_dis(model):
    dis, _, data = build(model, f"{model}_demo")
    gen, _, _ = build(model, f"{model}_demo_gen")
    state = gen.state_dict()
    state.update(dis.state_dict())
    for name in state:
        if name.endswith("encoder.weight"):
            state[name] = torch.eye(len(state[name]))
    gen.load_state_dict(state)
    for module in gen.modules():
        if hasattr(module, "gamma"):
            module.gamma, module.activation = 1.0, torch.nn.Identity()
    batch = data.rows(slice(None))
    with torch.inference_mode():
        assert torch.equal(gen.eval()(batch)["logit"], dis.eval()(batch)["logit"])
