"""Every backbone on data that mixes all types of fields."""

import numpy as np
import pytest
import torch

from fuxictr.errors import ConfigError
from fuxictr.experiment.run.run import build_model
from fuxictr.features import FeatureMap
from fuxictr.pytorch.checkpoint.weights import load_weights, save_weights
from fuxictr.pytorch.dataloaders import from_arrays
from fuxictr.pytorch.layers.embeddings import FieldBlocks
from tests.zoo.cases import EXPIDS, NUM_ROWS, Case, load

D = 4  # embedding_dim of the cases
DEMO = [
    Case(model, expid)
    for model, expids in EXPIDS.items()
    for expid in expids
    if expid.removesuffix("_gen").endswith("_demo")
]
CASES = [
    *DEMO,
    *(Case("FwFM", "FwFM_demo_gen", (f"linear_type={kind}",)) for kind in ("LW", "FeLV")),
]
MIXED = [case for case in DEMO if case.model == "DCNv2"]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def mixed_map(seed: int = 0) -> FeatureMap:
    """All types of fields in no particular order; each comes out D wide."""
    categorical = {"type": "categorical", "vocab_size": 6}
    sequence = {"type": "sequence", "vocab_size": 6, "max_len": 3}
    given = {"pretrained_emb": "vectors.npy", "pretrain_dim": 3}
    feature_map = FeatureMap("d")
    feature_map.features = {
        "clicks": {**sequence, "share_embedding": "item"},
        "vector": {"type": "embedding", "pretrain_dim": 5},
        "item": {**categorical},
        "price": {"type": "numeric"},
        "tags": {**sequence, "max_len": 2, "feature_encoder": "layers.MaskedSumPooling()"},
        "day": {"type": "meta"},
        "narrow": {**categorical, "embedding_dim": 2, "emb_output_dim": D},
        "text": {**categorical, **given, "pretrain_usage": "init", "freeze_emb": True},
        "texts": {**sequence, "share_embedding": "text"},
        "title": {**categorical, **given, "pretrain_usage": "sum", "freeze_emb": False},
        "words": {**sequence, **given, "pretrain_usage": "concat", "freeze_emb": True},
    }
    feature_map.labels = ["click"]
    rng = np.random.default_rng(seed)
    for name in ("text", "title", "words"):
        vectors = rng.normal(size=(6, 3)).astype(np.float32)
        vectors[[0, 4]] = np.nan
        feature_map.pretrained[name] = vectors
    return feature_map


def mixed_data(feature_map: FeatureMap):
    rng = np.random.default_rng(1)
    columns = {"click": rng.integers(0, 2, NUM_ROWS)}
    for name, spec in feature_map.fields.items():
        if spec["type"] == "categorical":
            columns[name] = rng.integers(1, 6, NUM_ROWS)
        elif spec["type"] == "sequence":
            columns[name] = rng.integers(0, 6, (NUM_ROWS, spec["max_len"]))
        else:
            width = (spec["pretrain_dim"],) if spec["type"] == "embedding" else ()
            columns[name] = rng.normal(size=(NUM_ROWS, *width))
    return from_arrays(columns, feature_map)


def build(case: Case, feature_map: FeatureMap):
    config, model_class = load(case)
    torch.manual_seed(0)
    model = build_model(config, model_class, feature_map)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    return model


def check_gradients(model, batch):
    model.train()
    for _ in range(8):  # dropout may leave one out in a single batch
        logit = model(batch)["logit"]
        assert logit.shape == (NUM_ROWS, 1)
        logit.square().mean().backward()
    named = list(model.named_parameters())
    assert [n for n, p in named if not p.requires_grad and p.grad is not None] == []
    assert [n for n, p in named if p.requires_grad and (p.grad is None or not p.grad.any())] == []


@each_case
def test_every_trainable_parameter_receives_a_gradient(case):
    feature_map = mixed_map()
    model = build(case, feature_map)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert {n.split(".", 1)[1] for n in frozen} == {
        "own.field_text.vectors",
        "own.field_words.vectors",
    }
    check_gradients(model, mixed_data(feature_map).rows(slice(None)))


@each_case
def test_a_row_does_not_depend_on_what_stands_at_padding(case):
    feature_map = mixed_map()
    model = build(case, feature_map).eval()
    batch = mixed_data(feature_map).rows(slice(None))
    with torch.inference_mode():
        expected = model(batch)["logit"]
        for layer in (m for m in model.modules() if isinstance(m, FieldBlocks)):
            for table in layer.tables():
                table[0] = 1e3  # no categorical field has id 0
            if layer.table is not None:
                layer.table[layer.offsets.long()] = 1e3
        assert torch.equal(model(batch)["logit"], expected)


@pytest.mark.parametrize("case", DEMO, ids=str)
def test_a_checkpoint_holds_the_given_vectors(tmp_path, case):
    model = build(case, mixed_map())
    other = build(case, mixed_map(seed=1))
    save_weights(model.state_dict(), tmp_path / "m.model")
    load_weights(other, tmp_path / "m.model")
    batch = mixed_data(mixed_map()).rows(slice(None))
    with torch.inference_mode():
        assert torch.equal(model.eval()(batch)["logit"], other.eval()(batch)["logit"])


@pytest.mark.parametrize("case", MIXED, ids=str)
def test_cross_networks_take_all_types_at_different_widths(case):
    feature_map = mixed_map()
    for name, width in {"vector": 3, "item": 2, "words": 7, "price": 1}.items():
        feature_map.features[name]["embedding_dim"] = width
    feature_map.features["clicks"]["emb_output_dim"] = 3  # reads the table of item, 2 wide
    model = build(case, feature_map)
    assert feature_map.embedding_dims(D) == [3, 3, 2, 1, D, D, D, D, D, 7]
    batch = mixed_data(feature_map).rows(slice(None))
    assert model.embedding_layer(batch).shape == (NUM_ROWS, 1, 36)
    check_gradients(model, batch)


@pytest.mark.parametrize("case", DEMO, ids=str)
def test_a_sequence_needs_a_pooling_in_every_backbone(case):
    feature_map = mixed_map()
    feature_map.features["tags"]["feature_encoder"] = None
    with pytest.raises(ConfigError, match="'tags'.*found null, allowed: average, sum; this model"):
        build(case, feature_map)
