"""Feature maps that once ended in a traceback or in another model, each as small as it can be."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.features import FeatureMap
from fuxictr.features.reading import MAX_BYTES
from tests.fuzz.mutations import no_hang

MAP = {
    "dataset_id": "d",
    "num_fields": 3,
    "total_features": 15,
    "input_length": 5,
    "labels": ["click"],
    "features": [
        {"a": {"type": "categorical", "vocab_size": 5}},
        {"x": {"type": "numeric"}},
        {"s": {"type": "sequence", "vocab_size": 9, "max_len": 2}},
        {"u": {"type": "meta"}},
    ],
}


def with_spec(name: str, **keys) -> dict:
    content = copy.deepcopy(MAP)
    for entry in content["features"]:
        entry.get(name, {}).update(keys)
    return content


def load(folder, content) -> FeatureMap:
    path = folder / "feature_map.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with no_hang():
        return FeatureMap.load(path, "d")


def test_the_map_is_sound(tmp_path):
    assert load(tmp_path, MAP).num_fields == 3
    without = {k: v for k, v in MAP.items() if k not in ("total_features", "input_length")}
    assert load(tmp_path, without).total_features == 15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MAP | {"labels": "click"}, "labels 'click', allowed: list"),
        (MAP | {"labels": ["click", "click"]}, "allowed: names, each once"),
        (MAP | {"labels": ["a"]}, "that are no field's"),
        (MAP | {"labels": [None]}, "allowed: names"),
        (MAP | {"dataset_id": 1}, "dataset_id 1, allowed: str"),
        (MAP | {"features": {"a": {"type": "numeric"}}}, "features .*allowed: list"),
        (MAP | {"features": [{"a": None}]}, "'a': None, allowed: a mapping"),
        (MAP | {"features": [None]}, "found None, allowed: {name: spec}"),
        (MAP | {"features": []}, "none is a field"),
        (MAP | {"features": [{"u": {"type": "meta"}}]}, "none is a field"),
        (MAP | {"features": MAP["features"][:1] * 2}, "'a' is listed twice"),
        (MAP | {"features": MAP["features"][:2]}, "num_fields 3, but the listed features have 2"),
        (MAP | {"total_features": 14}, "total_features 14, but the listed features have 15"),
        (MAP | {"total_features": True}, "total_features True"),
        (with_spec("a", vocab_size=10**9), "total_features 15, but .* have 1000000010"),
        (with_spec("a", vocab_size=2**31), "vocab_size 2147483648, allowed: int from 1 to"),
        (
            with_spec("a", vocab_size=2**31 - 5) | {"total_features": 2**40},
            "its tables have 2147483653 rows, allowed: 2147483647 at most",
        ),
        (with_spec("a", vocab_size=True), "vocab_size True, allowed: int"),
        (with_spec("a", vocab_size=5.0), "vocab_size 5.0, allowed: int"),
        (with_spec("s", max_len=10**6), "input_length 5, but"),
        (with_spec("s", max_len=10**9), "max_len 1000000000, allowed: int from 1 to"),
        (
            with_spec("a", embedding_dim=-1),
            "embedding_dim -1, allowed: int from 1 to 1000000, null",
        ),
        (with_spec("a", embedding_dim="4"), "embedding_dim '4'"),
        (with_spec("x", embedding_dim=10**12), "embedding_dim 1000000000000"),
        (with_spec("x", type="embedding", pretrain_dim=10**12), "pretrain_dim 1000000000000"),
        (with_spec("a", share_embedding=["s"]), "share_embedding ..s.., allowed: text, null"),
        (with_spec("a", pretrain_usage="mean"), "pretrain_usage 'mean', allowed: init, sum, con"),
        (with_spec("a", freeze_emb=1), "freeze_emb 1, allowed: true, false"),
        (with_spec("a", source={}), "source {}, allowed: text"),
        (with_spec("x", type=["numeric"]), "type .*allowed: categorical, "),
        (with_spec("a", pretrained_emb="v.npy"), "'pretrain_dim' is missing"),
        (with_spec("a", note=float("nan")), "NaN is no number"),
        (json.dumps(MAP).replace("15", "1e999"), "total_features|JSON"),
        (json.dumps(MAP).replace('"click"', '"\\ud800"'), "surrogates not allowed"),
        (json.dumps(MAP).replace('"vocab_size": 5', '"vocab_size": 5, "vocab_size": 7'), "twice"),
        ("[" * 10_000, "nested too deep|Expecting"),
        ("[" * 10_000 + "]" * 10_000, "nested too deep"),
        (with_spec("a", note=json.loads("[" * 60 + "]" * 60)), "nested too deep"),
        ("9" * 5000, "is missing|digits"),
        (" " * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
        ("null", "key 'dataset_id' is missing"),
    ],
)
def test_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=f"feature_map.json: not a feature map .*({message})") as e:
        load(tmp_path, content)
    assert len(str(e.value)) < 1000


def test_a_folder_is_no_feature_map(tmp_path):
    with pytest.raises(DataError, match="not a feature map .Is a directory"):
        FeatureMap.load(tmp_path)


def test_an_encoder_of_another_kind_is_named_where_it_is_used(tmp_path):
    feature_map = load(tmp_path, with_spec("s", feature_encoder=["layers.Sum()"]))
    with pytest.raises(ConfigError, match="column 's': key 'feature_encoder': found 'layers.S"):
        feature_map.pooling("s")
    assert feature_map.select(feature_specs={"s": {"pooling": "sum"}}).pooling("s") == "sum"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_dim": 0}, "'feature_specs': feature 'x': embedding_dim 0, allowed: int from"),
        ({"type": "categorical"}, "'feature_specs': feature 'x': key 'vocab_size' is missing"),
        ({"source": 3}, "'feature_specs': feature 'x': source 3, allowed: text, null"),
    ],
)
def test_feature_specs_keep_to_what_a_spec_may_hold(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, MAP).select(feature_specs={"x": change})


def npy(header_shape: str, descr: str = "<f4", data: bytes = bytes(40)) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {header_shape}, }}"
    header += " " * (117 - len(header)) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(1000000000000, 2)"), "not readable"),
        (npy("(5, 3)"), "not readable"),
        (npy("(5, 1)"), "found vectors of shape"),
        (npy("(5, 2)", "<U1"), "found <U1, allowed: finite numbers"),
        (npy("(5, 2)", "|O", bytes(80)), "not readable"),
        (npy("(5, 2)", data=np.full(10, np.inf, np.float32).tobytes()), "allowed: finite numbers"),
        (b"PK\x05\x06" + bytes(18), "not readable"),
        (b"", "not readable"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path, content, message):
    feature_map = load(tmp_path, with_spec("a", pretrained_emb="v.npy", pretrain_dim=2))
    (tmp_path / "v.npy").write_bytes(npy("(5, 2)"))
    assert feature_map.pretrained_vectors("a").tolist() == [[0, 0]] * 5
    (tmp_path / "v.npy").write_bytes(content)
    with no_hang(), pytest.raises(DataError, match=f"v.npy: .*{message}"):
        feature_map.pretrained_vectors("a")
