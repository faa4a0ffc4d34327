"""One suite over the whole zoo: every model folder, every shipped expid, and variants of them.

A new model folder is picked up by itself and must pass every test. Only the comparison with a plain
reference is skipped for a model that tests/zoo/references.py does not know.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from fuxictr.analysis.recorder import Recorder
from fuxictr.config import GeneratorConfig, TrainConfig
from fuxictr.experiment.zoo.models import ZOO, load_experiment, zoo_models
from fuxictr.pytorch.checkpoint.weights import load_weights, save_weights
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.layers.encoders import AllFieldsEncoder
from fuxictr.pytorch.training.trainer import Trainer
from tests.zoo.cases import CASES, EXPIDS, NUM_ROWS, SHIPPED, Case, build, expected_logits
from tests.zoo.references import REFERENCES

NUM_REFERENCE_ROWS = 4
# Criteo and Avazu expids differ from the demo's in widths alone, which the suite shrinks.
GRADCHECKED = [case for case in CASES if "_demo" in case.expid or case.model not in REFERENCES]
PAIRS = [
    (Case(model, expid), Case(model, f"{expid}_gen"))
    for model, expids in EXPIDS.items()
    for expid in expids
    if f"{expid}_gen" in expids
]
GENERATOR_KEYS = {*GeneratorConfig.keys(), "use_gen_rst", "cross_drop"}
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_shipped = pytest.mark.parametrize("case", SHIPPED, ids=str)
each_pair = pytest.mark.parametrize(("dis", "gen"), PAIRS, ids=[str(gen) for _, gen in PAIRS])


@each_shipped
def test_shipped_expid_parses_strictly(case):
    config, _ = load_experiment(case.expid, ZOO / case.model)
    assert config.run.model_id == case.expid
    if case.model in REFERENCES:
        assert config.variant == ("gen" if "_gen" in case.expid else "dis")


@each_pair
def test_gen_is_dis_plus_the_generator(dis, gen):
    configs = [load_experiment(case.expid, ZOO / case.model)[0] for case in (dis, gen)]
    assert [config.variant for config in configs] == ["dis", "gen"]
    first, second = (config.params() for config in configs)
    differing = {key for key in first | second if first.get(key) != second.get(key)}
    assert differing - {"model_id"} <= GENERATOR_KEYS


def test_every_backbone_of_the_paper_has_a_reference():
    backbones = {"DCNv2", "DeepFM", "FM", "FmFM", "FwFM", "PNN", "xDeepFM"}
    assert backbones == set(REFERENCES) & set(zoo_models())


@each_case
def test_output_equals_the_plain_reference(case):
    model, _, data = build(case)
    batch = data.rows(slice(0, NUM_REFERENCE_ROWS))
    expected = expected_logits(case, model, batch)
    with torch.inference_mode():
        found = model.double().eval()(batch)
    np.testing.assert_allclose(found["logit"][:, 0], expected, rtol=1e-9, atol=1e-9)
    chances = 1 / (1 + np.exp(-np.clip(expected, -500, 500)))
    np.testing.assert_allclose(found["y_pred"][:, 0], chances, rtol=0, atol=1e-9)


@each_case
def test_every_layer_has_weights_of_its_own(case):
    if case.model not in REFERENCES:
        pytest.skip("only the paper's backbones are known to share no weight between layers")
    model, _, _ = build(case)
    named = model.named_parameters(remove_duplicate=False)
    assert len(list(named)) == len(list(model.parameters()))


@each_shipped
def test_float32_output_equals_the_plain_reference(case):
    model, _, data = build(case, std=0.2)
    batch = data.rows(slice(0, NUM_REFERENCE_ROWS))
    expected = expected_logits(case, model, batch)
    with torch.inference_mode():
        found = model.eval()(batch)
    np.testing.assert_allclose(found["logit"][:, 0], expected, rtol=1e-5, atol=1e-5)


@each_case
def test_every_parameter_receives_a_gradient(case):
    model, _, data = build(case)
    model.train()
    for _ in range(8):  # dropout and random targets may leave one out in a single batch
        model(data.rows(slice(None)))["logit"].square().mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("case", GRADCHECKED, ids=str)
def test_gradients_pass_gradcheck(case):
    model, _, data = build(case, std=0.3)
    model.double().eval()
    batch = data.rows(slice(0, NUM_REFERENCE_ROWS))
    names = [name for name, _ in model.named_parameters()]

    def logits(*weights: torch.Tensor) -> torch.Tensor:
        return functional_call(model, dict(zip(names, weights, strict=True)), (batch,))["logit"]

    assert torch.autograd.gradcheck(logits, tuple(model.parameters()), fast_mode=True)


@each_shipped
def test_save_and_load_give_the_same_outputs(tmp_path, case):
    built, _, data = build(case)
    other, _, _ = build(case, seed=6)
    save_weights(built.state_dict(), tmp_path / "m.model")
    load_weights(other, tmp_path / "m.model")
    batch = data.rows(slice(None))
    with torch.inference_mode():
        expected, found = built.eval()(batch)["logit"], other.eval()(batch)["logit"]
    assert torch.equal(expected, found)


@each_shipped
def test_same_seed_gives_the_same_training(case):
    def train() -> list[float]:
        model, _, data = build(case)
        trainer = Trainer(model, TrainConfig(batch_size=6, learning_rate=0.01), verbose=0)
        model.train()
        return [trainer.train_step(b).item() for b in BatchIterator(data, 6, True, seed=1)]

    losses = train()
    assert losses == train()
    assert all(np.isfinite(losses))


@each_shipped
def test_permuting_rows_permutes_outputs(case):
    model, _, data = build(case)
    model.double().eval()
    order = torch.randperm(NUM_ROWS)
    with torch.inference_mode():
        straight = model(data.rows(slice(None)))["logit"]
        permuted = model(data.rows(order))["logit"]
    torch.testing.assert_close(permuted, straight[order], rtol=1e-9, atol=1e-9)


def recorded(model, *batches) -> dict[str, np.ndarray]:
    with torch.inference_mode(), Recorder(model.eval()) as recorder:
        for batch in batches:
            model(batch)
        return recorder.collect()


@each_case
def test_records_are_present_and_cost_nothing_when_off(case):
    model, config, data = build(case)
    batch = data.rows(slice(None))
    arrays = recorded(model, batch, batch)
    assert all(len(array) == 2 * NUM_ROWS for array in arrays.values())
    assert arrays["model/final_representation"].ndim == 2
    raw = arrays["model/feature_emb"]
    gen = next(array for key, array in arrays.items() if key.endswith("/gen"))
    assert np.array_equal(raw, gen) == (config.variant == "dis")
    model(batch)
    lists = [v for m in model.modules() for n, v in vars(m).items() if n.startswith("record_")]
    assert not any(lists)


@each_case
def test_records_hold_what_their_names_say(case):
    model, config, data = build(case)
    arrays = recorded(model, data.rows(slice(None)))
    raw = arrays["model/feature_emb"]
    paths = [key.removesuffix("/gen") for key in arrays if key.endswith("/gen")]
    names = ("left", "right") if case.model != "FmFM" else ("right", "left")
    for path in paths:
        gen, first = arrays[f"{path}/gen"], arrays.get(f"{path}/X_0", raw)
        assert np.array_equal(first, raw)
        sides = [arrays[f"{path}/{name}"] for name in names]
        assert any(np.array_equal(gen, side) for side in sides)
        if case.model not in REFERENCES:
            continue
        assert np.array_equal(gen, sides[0])
        if path == "model" and config.generator.target == "all":
            assert np.array_equal(gen if config.generator.symmetric else raw, sides[1])


@each_pair
def test_gen_with_an_identity_encoder_equals_dis(dis, gen):
    options = ["gamma=1", "emb_activation=linear"]
    keys = EXPIDS[gen.model][gen.expid]
    options += [f"{key}=false" for key in ("use_gen_rst", "gen_residual") if key in keys]
    expected, _, data = build(dis)
    found, _, _ = build(gen._replace(overrides=tuple(options)))
    found.load_state_dict({**found.state_dict(), **expected.state_dict()})
    encoders = [m for m in found.modules() if isinstance(m, AllFieldsEncoder)]
    assert encoders
    for encoder in encoders:
        torch.nn.init.eye_(encoder.weight)
        if encoder.bias is not None:
            torch.nn.init.zeros_(encoder.bias)
    batch = data.rows(slice(None))
    with torch.inference_mode():
        logits = [model.eval()(batch)["logit"] for model in (found, expected)]
    # Not to the bit: a pair sum of one side with itself takes Rendle's form.
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)
