"""Options of the zoo's models: dropout, targets in training, the paper's settings, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fuxictr.analysis.recorder import Recorder
from fuxictr.errors import ConfigError
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.pytorch.layers.interactions import generative_cin
from tests.zoo.cases import EXPIDS, Case, build, expected_logits, load, small_data

# paper.md's gamma of each backbone on Avazu and on Criteo.
PAPER_GAMMAS = {
    "FM": (6, 0.1),
    "FwFM": (6, 6),
    "FmFM": (36, 6),
    "PNN": (6, 0.005),
    "DeepFM": (6, 0.1),
    "xDeepFM": (6, 0.01),
    "CrossNet": (8, 0.01),
    "DCNv2": (8, 0.01),
}
# paper.md's training settings that all backbones share: embedding_dim, batch_size, seed.
PAPER_SETTINGS = {"avazu": (16, 10000, 2019), "criteo": (10, 4096, 2021)}


def folder_of(backbone: str) -> str:
    return "DCNv2" if backbone == "CrossNet" else backbone


def recorded(model: torch.nn.Module, data) -> dict[str, np.ndarray]:
    with torch.no_grad(), Recorder(model) as recorder:
        model(data.rows(slice(None)))
        return recorder.collect()


@pytest.mark.parametrize("backbone", PAPER_GAMMAS)
@pytest.mark.parametrize(("position", "dataset"), list(enumerate(PAPER_SETTINGS)))
def test_shipped_expids_hold_the_papers_settings(backbone, position, dataset):
    gen = EXPIDS[folder_of(backbone)][f"{backbone}_{dataset}_gen"]
    assert gen["gamma"] == PAPER_GAMMAS[backbone][position]
    assert (gen["concat_emb"], gen["emb_activation"]) == (True, "relu")
    assert (gen["embedding_dim"], gen["batch_size"], gen["seed"]) == PAPER_SETTINGS[dataset]
    if folder_of(backbone) == "DCNv2":
        assert gen["cross_drop"] == (0.1 if dataset == "criteo" else 0)
        assert (gen["use_gen_rst"], gen["gen_residual"], gen["head"]) == (True, True, "mlp")


@pytest.mark.parametrize(
    ("model", "expid", "option"),
    [
        ("DCNv2", "CrossNet_demo_gen", "cross_drop=0.5"),
        ("DCNv2", "DCNv2_demo", "net_dropout=0.5"),
        ("DeepFM", "DeepFM_demo", "net_dropout=0.5"),
        ("PNN", "PNN_demo", "net_dropout=0.5"),
        ("xDeepFM", "xDeepFM_demo", "net_dropout=0.5"),
        ("FM", "FM_demo_gen", "encoder=self_attention"),
    ],
)
def test_dropout_acts_in_training_only(model, expid, option):
    built, _, data = build(Case(model, expid, (option,)))
    batch = data.rows(slice(None))
    with torch.no_grad():
        drawn = [built.train()(batch)["logit"] for _ in range(2)]
        kept = [built.eval()(batch)["logit"] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*kept)


def test_cross_dropout_covers_the_whole_layer():
    built, _, data = build(Case("DCNv2", "CrossNet_criteo_gen", ("cross_drop=0.6",)))
    final = recorded(built.train(), data)["model/final_representation"]
    assert 0.4 < (final == 0).mean() < 0.8


@pytest.mark.parametrize(
    "case",
    [
        Case("DCNv2", "DCNv2_demo"),
        Case("DCNv2", "DCNv2_demo_gen"),
        Case("DCNv2", "DCNv2_demo_gen", ("encoder=stacked",)),
        Case("DCNv2", "DCNv2_demo_gen", ("symmetric=true",)),
        Case("DCNv2", "CrossNet_demo_gen"),
    ],
    ids=str,
)
def test_fields_of_different_widths_equal_the_plain_reference(case):
    model, _, data = build(case, widths={"b": 3, "x": 3, "c": 2})
    batch = data.rows(slice(0, 4))
    with torch.inference_mode():
        found = model.double().eval()(batch)["logit"][:, 0]
    np.testing.assert_allclose(found, expected_logits(case, model, batch), rtol=1e-9, atol=1e-9)


def test_recorded_sides_of_the_cross_layers_add_up_to_their_output():
    built, _, data = build(Case("DCNv2", "CrossNet_demo_gen"))
    arrays = recorded(built.eval(), data)
    total = arrays["model/feature_emb"].astype(np.float64)
    for layer in ("cross_net.layers.0", "cross_net.layers.1"):
        total += arrays[f"{layer}/left"] * arrays[f"{layer}/right"]
    final = arrays["model/final_representation"].reshape(total.shape)
    np.testing.assert_allclose(total, final, rtol=1e-4)


def test_recorded_sides_of_a_cin_layer_give_the_next_ones_right_side():
    built, _, data = build(Case("xDeepFM", "xDeepFM_demo_gen", ("cin_hidden_units=[3,2]",)))
    arrays = recorded(built.eval(), data)
    layer = built.cin.layers[0]
    left, right = (arrays[f"cin.layers.0/{side}"] for side in ("left", "right"))
    maps = np.einsum("ihj,bid,bjd->bhd", layer.weight.detach(), left, right)
    expected = maps + layer.bias.detach().numpy()[:, None]
    np.testing.assert_allclose(arrays["cin.layers.1/right"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["random", "masked", "field_masked", "hard_masked"])
def test_targets_are_drawn_anew_for_each_training_batch(target):
    built, _, data = build(Case("FM", "FM_demo_gen", (f"target={target}",)))

    def predicted(model: torch.nn.Module) -> tuple[bool, ...]:
        return tuple(recorded(model, data)["model/right"].any(axis=(0, 2)))

    drawn = {predicted(built.train()) for _ in range(60)}
    assert {sum(fields) for fields in drawn} == {2}
    assert len(drawn) > 5
    assert {predicted(built.eval()) for _ in range(5)} == {(False, True, False, False, True)}


@pytest.mark.parametrize("target", ["random", "hard_masked"])
def test_in_training_the_encoder_sees_targets_unless_they_are_masked(target):
    built, _, data = build(Case("FM", "FM_demo_gen", (f"target={target}", "num_target=5")))
    raw, _, _ = build(Case("FM", "FM_demo_gen"))
    raw.load_state_dict(built.state_dict())
    found, expected = (recorded(m, data)["model/gen"] for m in (built.train(), raw))
    assert np.array_equal(found, expected if target == "random" else np.zeros_like(expected))


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (Case("xDeepFM", "xDeepFM_demo_gen", ("target=random",)), "CIN needs target: all"),
        (Case("xDeepFM", "xDeepFM_demo_gen", ("symmetric=true",)), "symmetric: false"),
        (
            Case("FM", "FM_demo_gen", ("encoder=self_attention", "embedding_dim=6")),
            "embedding_dim divisible by 4, found 6",
        ),
        (
            Case("FM", "FM_demo_gen", ("encoder=self_attention", "source=high")),
            "needs source: all",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused(case, text):
    with pytest.raises(ConfigError, match=text):
        build(case)


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
    configs = [load(Case("DCNv2", "DCNv2_demo_gen", (option,)))[0] for option in (alias, word)]
    assert configs[0].generator == configs[1].generator
    assert configs[0].config_hash() == configs[1].config_hash()


def test_small_transformation_is_the_alias_of_source_own():
    options = [("concat_emb=false", key) for key in ("small_transformation=true", "source=own")]
    configs = [load(Case("FM", "FM_demo_gen", overrides))[0] for overrides in options]
    assert configs[0].generator == configs[1].generator


def test_cin_is_the_same_in_chunks_of_rows(monkeypatch):
    built, _, data = build(Case("xDeepFM", "xDeepFM_demo_gen", ("cin_hidden_units=[5,4,3]",)))
    built.double()

    def outputs() -> list[torch.Tensor]:
        built.zero_grad()
        logit = built(data.rows(slice(None)))["logit"]
        logit.square().sum().backward()
        return [logit.detach(), *(p.grad.clone() for p in built.parameters())]

    whole = outputs()
    monkeypatch.setattr(generative_cin, "_CHUNK_NUMBERS", 7 * 25)
    torch.testing.assert_close(outputs(), whole, rtol=1e-9, atol=1e-9)
