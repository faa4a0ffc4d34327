"""Texts of feature_encoder: what the parser takes, and that it runs nothing."""

import pytest

from fuxictr.errors import ConfigError
from fuxictr.features import FeatureMap, parse_encoder

SUM, AVERAGE = "layers.MaskedSumPooling()", "layers.MaskedAveragePooling()"


def make_map(**specs) -> FeatureMap:
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 5},
        "e": {"type": "embedding", "pretrain_dim": 3},
        "s": {"type": "sequence", "vocab_size": 9, "max_len": 6, "feature_encoder": None},
    }
    for name, change in specs.items():
        feature_map.features[name] |= change
    return feature_map


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (None, []),
        ("sum", [("layers.MaskedSumPooling", {})]),
        (AVERAGE, [("layers.MaskedAveragePooling", {})]),
        ("MaskedAveragePooling", [("layers.MaskedAveragePooling", {})]),
        ("layers.KMaxPooling(3, 1)", [("layers.KMaxPooling", {"k": 3, "dim": 1})]),
        ("layers.KMaxPooling(dim=-1, k=2)", [("layers.KMaxPooling", {"k": 2, "dim": -1})]),
        (
            "torch.nn.Linear(64, 32)",
            [("nn.Linear", {"in_features": 64, "out_features": 32, "bias": True})],
        ),
        (
            " nn.Linear(64,out_features = 32 , bias=False) ",
            [("nn.Linear", {"in_features": 64, "out_features": 32, "bias": False})],
        ),
        (["nn.ReLU()", SUM], [("nn.ReLU", {}), ("layers.MaskedSumPooling", {})]),
    ],
)
def test_allowed_texts(value, steps):
    assert [(step.name, step.arguments) for step in parse_encoder(value, "c")] == steps


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("layers.MaskedMeanPooling()", "did you mean 'layers.MaskedAveragePooling'|did you mean"),
        ("nn.Linear(64)", "argument 'out_features' is missing"),
        ("nn.Linear(64, 32, 16, 8)", "bias is '16'|too many"),
        ("nn.Linear(64, 32, True, 8)", "too many arguments"),
        ("nn.Linear(64, 32, in_features=3)", "'in_features' is unknown, or given twice"),
        ("nn.Linear(64, 32, bais=True)", "'bais' is unknown"),
        ("nn.Linear(0, 32)", "in_features is 0, allowed: int from 1 to"),
        ("nn.Linear(64, 32, bias=1)", "bias is '1', allowed: True, False"),
        ("nn.Linear(8*8, 32)", "'8.8' is no whole number"),
        ("nn.Linear(64, __import__('os').getpid())", "no whole number"),
        ("__import__('os').system('true')", "found .__import__"),
        ("lambda x: x", "allowed: null, average, sum, "),
        (True, "found True .bool."),
        ([], "an empty list"),
        ([SUM, None], "found None"),
        ("", "found ''"),
    ],
)
def test_other_texts_are_errors(value, message):
    with pytest.raises(ConfigError, match=f"column 'c': key 'feature_encoder': .*({message})") as e:
        parse_encoder(value, "c")
    assert "nn.Linear(in_features, out_features, bias)" in str(e.value)


@pytest.mark.parametrize(
    ("name", "value", "width", "vectors"),
    [
        ("a", "nn.Linear(4, 7, bias=False)", 7, None),
        ("e", "nn.Linear(3, 5, bias=False)", 5, None),
        ("s", None, 4, 6),
        ("s", [AVERAGE, "nn.Linear(4, 2)"], 2, None),
        ("s", ["nn.Linear(4, 2)", SUM], 2, None),
        ("s", "layers.KMaxPooling(2, 1)", 4, 2),
        ("s", "layers.KMaxPooling(2, -1)", 2, 6),
        ("s", ["nn.Linear(4, 2)", "layers.KMaxPooling(3, -2)"], 2, 3),
    ],
)
def test_widths_count_the_encoder(name, value, width, vectors):
    feature_map = make_map(**{name: {"feature_encoder": value}})
    assert feature_map.output_dim(name, 4) == width
    assert feature_map.num_vectors(name) == vectors
    feature_map.default_emb_dim = 4
    assert feature_map.sum_emb_out_dim() == feature_map.sum_emb_out_dim(4) == 8 + width


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a", {"feature_encoder": "nn.Linear(8, 4)"}, "takes vectors of width 8, not 4"),
        ("e", {"feature_encoder": "nn.Linear(4, 4)"}, "takes vectors of width 4, not 3"),
        ("a", {"feature_encoder": SUM}, "pools positions, and here are none"),
        ("s", {"feature_encoder": [SUM, SUM]}, "pools positions, and here are none"),
        ("s", {"feature_encoder": "layers.KMaxPooling(7, 1)"}, r"keeps 7 along dim 1 of \(B, 6, 4"),
        ("s", {"feature_encoder": "layers.KMaxPooling(1, 0)"}, "along dim 0"),
        ("a", {"feature_encoder": "nn.Linear(4, 4)", "emb_output_dim": 3}, "found 3, .* gives 4"),
    ],
)
def test_an_encoder_that_does_not_fit_is_an_error(name, change, message):
    with pytest.raises(ConfigError, match=f"column '{name}': .*feature_encoder.*{message}"):
        make_map(**{name: change}).embedding_dims(4)


def test_feature_specs_take_encoders():
    chosen = make_map().select(feature_specs=[{"name": "a", "feature_encoder": "nn.Linear(4, 2)"}])
    assert chosen.embedding_dims(4) == [2, 4, 4]
    with pytest.raises(ConfigError, match="'feature_specs': .*'feature_encoder': found 'os.ge"):
        make_map().select(feature_specs={"a": {"feature_encoder": "os.getcwd()"}})
