"""One suite over the whole zoo: every model folder, every shipped expid, and variants of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fuxictr.analysis.recorder import Recorder
from fuxictr.config import TrainConfig, list_expids
from fuxictr.errors import ConfigError
from fuxictr.experiment.run import build_model
from fuxictr.experiment.zoo import ZOO, load_experiment, zoo_models
from fuxictr.features import FeatureMap
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.checkpoint import load_weights, save_weights
from fuxictr.pytorch.dataloaders import BatchIterator, from_arrays
from fuxictr.pytorch.layers.encoders import AllFieldsEncoder
from fuxictr.pytorch.layers.generation import GEN
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.pytorch.trainer import Trainer
from tests.zoo.references import REFERENCES

NUM_ROWS = 12
SMALL = {
    "embedding_dim": 4,
    "hidden_units": [6, 5],
    "dnn_hidden_units": [6, 5],
    "parallel_dnn_hidden_units": [6, 5],
    "cin_hidden_units": [3, 2],
    "num_cross_layers": 2,
    "num_source": 2,
    "num_target": 2,
    "gamma": 2,
}
SHIPPED = [
    (model, expid, ()) for model in zoo_models() for expid in list_expids(ZOO / model / "config")
]
# What no shipped expid has: (model, expid, overrides).
VARIANTS = [
    ("FwFM", "FwFM_demo_gen", ("linear_type=LW",)),
    ("FwFM", "FwFM_demo", ("linear_type=LW",)),
    ("FmFM", "FmFM_demo_gen", ("field_interaction_type=vectorized",)),
    ("FmFM", "FmFM_demo", ("field_interaction_type=vectorized",)),
    *(
        ("DCNv2", f"DCNv2_demo{gen}", (f"model_structure={structure}", f"head={head}"))
        for gen in ("", "_gen")
        for structure in ("crossnet_only", "stacked", "parallel", "stacked_parallel")
        for head in ("mlp", "linear")
    ),
    ("DCNv2", "DCNv2_demo_gen", ("use_gen_rst=false",)),
    ("DCNv2", "DCNv2_demo_gen", ("gen_residual=false",)),
    *(
        (model, f"{model}_demo_gen", (option,))
        for model in ("FM", "FmFM", "FwFM", "PNN", "DeepFM", "DCNv2")
        for option in ("symmetric=true", "target=field_masked", "target=random")
    ),
    *(
        (model, f"{model}_demo_gen", (option,))
        for model in ("FM", "FmFM", "xDeepFM")
        for option in (
            "gen_residual=true",
            "source=high",
            "source=low",
            "encoder=stacked",
            "encoder=self_attention",
        )
    ),
    ("FM", "FM_demo_gen", ("concat_emb=false", "small_transformation=true")),
    ("FM", "FM_demo_gen", ("concat_emb=false", "emb_activation=relu")),
]
CASES = [*SHIPPED, *VARIANTS]
IDS = ["-".join([expid, *overrides]) for _, expid, overrides in CASES]
each_case = pytest.mark.parametrize(("model", "expid", "overrides"), CASES, ids=IDS)


def small_data() -> tuple[FeatureMap, dict[str, np.ndarray]]:
    """Categorical fields of different sizes with a numeric one between them."""
    rng = np.random.default_rng(3)
    feature_map = FeatureMap("d")
    columns = {}
    for name, size in (("a", 4), ("b", 6), ("x", None), ("c", 3), ("d", 5)):
        if size is None:
            feature_map.features[name] = {"type": "numeric"}
            columns[name] = rng.normal(size=NUM_ROWS)
        else:
            feature_map.features[name] = {"type": "categorical", "vocab_size": size}
            columns[name] = rng.integers(1, size, NUM_ROWS)
    feature_map.labels = ["click"]
    columns["click"] = rng.integers(0, 2, NUM_ROWS)
    return feature_map, columns


def load(model: str, expid: str, overrides: tuple[str, ...]):
    """A shipped expid with shrunk networks; everything else as shipped."""
    keys = list_expids(ZOO / model / "config")[expid]
    is_unscaled = "emb_activation" in keys or any("activation" in o for o in overrides)
    small = {k: v for k, v in SMALL.items() if k in keys or k == "embedding_dim"}
    small.pop("gamma", None)
    if is_unscaled:
        small |= {"num_source": 2, "num_target": 2}
    texts = [f"{key}={value}" for key, value in small.items()]
    return load_experiment(expid, ZOO / model, overrides=[*texts, *overrides])


def build(model: str, expid: str, overrides: tuple[str, ...] = (), seed: int = 5):
    """The model on small data, all weights drawn so that every term of the logit counts."""
    config, model_class = load(model, expid, overrides)
    feature_map, columns = small_data()
    seed_everything(seed)
    built = build_model(config, model_class, feature_map)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(std=0.3)
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2.0)
    return built, config, from_arrays(columns, feature_map)


@pytest.mark.parametrize(("model", "expid", "_"), SHIPPED)
def test_shipped_expid_parses_strictly(model, expid, _):
    config, _ = load_experiment(expid, ZOO / model)
    assert config.variant == ("gen" if "_gen" in expid else "dis")
    assert config.run.model_id == expid


@each_case
def test_output_equals_the_plain_reference(model, expid, overrides):
    if model not in REFERENCES:
        pytest.skip(f"tests/zoo/references.py holds no plain reference of {model} yet")
    built, config, data = build(model, expid, overrides)
    batch = data.rows(slice(0, 4))
    with torch.inference_mode():
        single = built.eval()(batch)
        double = built.double()(batch)
    weights = {n: t.double().numpy() for n, t in built.state_dict().items()}
    params = {**config.params(), "num_cross_layers": config.model_params.get("num_cross_layers")}
    params.setdefault("use_gen_rst", False)
    params.setdefault("head", "mlp")
    params.setdefault("linear_type", "FiLV")
    fields = built.feature_map.fields
    for index in range(batch.num_rows):
        row = {name: batch[name][index].item() for name in fields}
        expected = REFERENCES[model](weights, fields, row, params)
        assert double["logit"][index].item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert single["logit"][index].item() == pytest.approx(expected, rel=1e-5, abs=1e-4)
        chance = 1 / (1 + np.exp(-np.clip(expected, -500, 500)))
        assert double["y_pred"][index].item() == pytest.approx(chance, abs=1e-6)


@each_case
def test_every_parameter_receives_a_gradient(model, expid, overrides):
    built, _, data = build(model, expid, overrides)
    built.train()
    for _ in range(8):  # dropout and random targets may leave one out in a single batch
        built(data.rows(slice(None)))["logit"].square().mean().backward()
    without = [n for n, p in built.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize(
    ("model", "expid", "overrides"),
    [case for case, name in zip(CASES, IDS, strict=True) if "_demo" in name],
    ids=[name for name in IDS if "_demo" in name],
)
def test_gradients_are_those_of_the_output(model, expid, overrides):
    """A step in float64 changes the output as the gradient says.

    A step may cross a kink of ReLU; a wrong gradient would fail for all three draws of weights.
    """
    wrong = [wrong_gradients(model, expid, overrides, seed) for seed in (5, 6, 7)]
    assert [] in wrong, wrong


def wrong_gradients(model, expid, overrides, seed) -> list[str]:
    built, _, data = build(model, expid, overrides, seed)
    built.double().eval()
    batch = data.rows(slice(None))
    built(batch)["logit"].sum().backward()
    generator = torch.Generator().manual_seed(0)
    step, wrong = 1e-6, []
    for name, parameter in built.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        expected = (parameter.grad * direction).sum().item()
        with torch.no_grad():
            parameter += step * direction
            above = built(batch)["logit"].sum().item()
            parameter -= 2 * step * direction
            below = built(batch)["logit"].sum().item()
            parameter += step * direction
        found = (above - below) / (2 * step)
        if found != pytest.approx(expected, rel=1e-4, abs=1e-5):
            wrong.append(f"{name}: {found} instead of {expected}")
    return wrong


@each_case
def test_save_and_load_give_the_same_outputs(tmp_path, model, expid, overrides):
    built, _, data = build(model, expid, overrides)
    other, _, _ = build(model, expid, overrides, seed=6)
    save_weights(built, tmp_path / "m.model")
    load_weights(other, tmp_path / "m.model")
    batch = data.rows(slice(None))
    with torch.inference_mode():
        expected, found = built.eval()(batch)["logit"], other.eval()(batch)["logit"]
    assert torch.equal(expected, found)


@each_case
def test_same_seed_gives_the_same_training(model, expid, overrides):
    def train() -> list[float]:
        built, _, data = build(model, expid, overrides)
        trainer = Trainer(built, TrainConfig(batch_size=6, learning_rate=0.01), verbose=0)
        built.train()
        return [trainer.train_step(b).item() for b in BatchIterator(data, 6, True, seed=1)]

    losses = train()
    assert losses == train()
    assert all(np.isfinite(losses))


@each_case
def test_permuting_rows_permutes_outputs(model, expid, overrides):
    built, _, data = build(model, expid, overrides)
    order = torch.randperm(NUM_ROWS)
    with torch.inference_mode():
        straight = built.eval()(data.rows(slice(None)))["logit"]
        permuted = built(data.rows(order))["logit"]
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-4)


@each_case
def test_records_are_present_and_cost_nothing_when_off(model, expid, overrides):
    built, config, data = build(model, expid, overrides)
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
    lists = [v for m in built.modules() for n, v in vars(m).items() if n.startswith("record_")]
    assert not any(lists)


@pytest.mark.parametrize(
    ("model", "backbone"), [*((m, m) for m in zoo_models()), ("DCNv2", "CrossNet")]
)
def test_gen_with_an_identity_encoder_equals_dis(model, backbone):
    options = ("gamma=1", "emb_activation=linear")
    if model == "DCNv2":
        options += ("use_gen_rst=false", "gen_residual=false")
    dis, _, data = build(model, f"{backbone}_demo")
    gen, _, _ = build(model, f"{backbone}_demo_gen", options)
    state = gen.state_dict()
    state.update(dis.state_dict())
    gen.load_state_dict(state)
    encoders = [m for m in gen.modules() if isinstance(m, AllFieldsEncoder)]
    assert encoders
    assert any(isinstance(m, GEN) for m in gen.modules())
    for encoder in encoders:
        torch.nn.init.eye_(encoder.weight)
        if encoder.bias is not None:
            torch.nn.init.zeros_(encoder.bias)
    batch = data.rows(slice(None))
    with torch.inference_mode():
        assert torch.equal(gen.eval()(batch)["logit"], dis.eval()(batch)["logit"])


def test_random_targets_change_from_batch_to_batch_in_training_only():
    built, _, data = build("FM", "FM_demo_gen", ("target=random",))
    batch = data.rows(slice(None))
    with torch.no_grad():
        built.train()
        assert len({built(batch)["logit"][0].item() for _ in range(12)}) > 3
        built.eval()
        assert len({built(batch)["logit"][0].item() for _ in range(12)}) == 1


def test_cin_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="CIN needs target: all"):
        build("xDeepFM", "xDeepFM_demo_gen", ("target=random",))
    with pytest.raises(ConfigError, match="embedding_dim divisible by 4, found 6"):
        build("FM", "FM_demo_gen", ("encoder=self_attention", "embedding_dim=6"))


def test_a_model_without_a_generator_cannot_be_asked_for_gen(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "config").mkdir()
    text = (ZOO / "FM" / "src" / "FM.py").read_text()
    text = text.replace(
        "build_generators(feature_map, embedding_dim, params)", "torch.nn.Identity()"
    )
    (tmp_path / "src" / "FM.py").write_text(text)
    config_text = (ZOO / "FM" / "config" / "model_config.yaml").read_text()
    (tmp_path / "config" / "model_config.yaml").write_text(config_text)
    dataset_text = (ZOO / "dataset_config.yaml").read_text()
    (tmp_path / "config" / "dataset_config.yaml").write_text(dataset_text)
    config, model_class = load_experiment("FM_demo_gen", tmp_path, tmp_path / "config")
    with pytest.raises(ConfigError, match="builds no generator"):
        build_model(config, model_class, small_data()[0])


@pytest.mark.parametrize(
    ("alias", "word"),
    [
        ("more_layers=true", "encoder=stacked"),
        ("use_att=true", "encoder=self_attention"),
        ("field_share=true", "encoder=field_shared"),
        ("exp_group_idx=0", "source=high"),
        ("exp_group_idx=1", "source=low"),
        ("use_random_predict=true", "target=random"),
        ("use_masked_predict=true", "target=masked"),
        ("use_hard_mask_predict=true", "target=hard_masked"),
    ],
)
def test_aliases_are_the_same_config(alias, word):
    configs = [load("DCNv2", "DCNv2_demo_gen", (option,))[0] for option in (alias, word)]
    assert configs[0].generator == configs[1].generator
    assert configs[0].config_hash() == configs[1].config_hash()
