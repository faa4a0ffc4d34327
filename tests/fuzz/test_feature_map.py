"""Damaged feature maps: a DataError or ConfigError, or a map that a model trains from."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.zoo.models import load_model_class
from fuxictr.features import FeatureMap
from fuxictr.preprocess import prepare_dataset
from fuxictr.pytorch.dataloaders import from_arrays
from fuxictr.pytorch.torch_utils import seed_everything
from tests.fuzz.mutations import case_counts, cases, mutated, no_hang
from tests.preprocess.tables import categorical, config, numeric, write_csv

ROWS = "a,b,s,t,v,x,u,click\n" + "".join(
    f"a{i % 4},b{i % 3},a{i % 4}^a{i % 2},w{i % 5}^w1,{i}^1.5,{i}.5,{i % 2},{i % 2}\n"
    for i in range(12)
)
COLUMNS = [
    categorical("a", pretrained_emb="vectors.npz", pretrain_usage="sum"),
    categorical("b", embedding_dim=3, emb_output_dim=4),
    categorical("s", type="sequence", share_embedding="a"),
    categorical("t", type="sequence", pooling="sum", max_len=3),
    {"name": "v", "dtype": "str", "type": "embedding"},
    numeric("x", normalizer="MinMaxScaler"),
    {"name": "u", "dtype": "str", "type": "meta"},
]
# As FuxiCTR 2.3 writes it.
OF_FUXICTR = {
    "dataset_id": "tiny",
    "num_fields": 4,
    "total_features": 22,
    "input_length": 7,
    "labels": ["click"],
    "features": [
        {"a": {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": 12}},
        {"x": {"source": "user", "type": "numeric"}},
        {"u": {"type": "meta"}},
        {
            "s": {
                "source": "",
                "type": "sequence",
                "feature_encoder": "layers.MaskedSumPooling()",
                "share_embedding": "a",
                "padding_idx": 0,
                "max_len": 3,
                "vocab_size": 12,
            }
        },
        {"t": {"type": "categorical", "vocab_size": 9, "padding_idx": 0}},
    ],
}
TOKENS = (
    *(b'"vocab_size": ', b'"max_len": ', b'"share_embedding": "', b'"embedding_dim": ', b"true"),
    *(b'"categorical"', b'"sequence"', b'"embedding"', b'"numeric"', b'"meta"', b"NaN", b"[[[["),
    *(b"-Infinity", b"null,", b"{}", b"[]", b'"": ', b"\\ud800", b"\\u0000", b"1e5", b"0.5"),
)
# What a model is built from: no case may take long.
MOST_ROWS, MOST_WIDTH = 10_000, 64


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a dataset that was encoded here."""
    folder = tmp_path_factory.mktemp("built")
    write_csv(folder / "train.csv", ROWS)
    np.savez(folder / "vectors.npz", key=["a0", "a3", "zz"], value=np.ones((3, 2)))
    return prepare_dataset(config(folder, COLUMNS), folder, verbose=0).paths["train"].parent


@pytest.fixture
def folder(built, tmp_path) -> Path:
    for path in built.glob("*.npy"):
        shutil.copy(path, tmp_path)
    return tmp_path


def real_maps(built: Path) -> list[bytes]:
    return [(built / "feature_map.json").read_bytes(), json.dumps(OF_FUXICTR, indent=4).encode()]


def check(path: Path) -> str:
    """Returns what becomes of a file: refused, read, built; checks that it is as it is written."""
    try:
        with no_hang():
            feature_map = FeatureMap.load(path, "tiny")
    except DataError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
        return "refused"
    content = json.loads(path.read_bytes())
    written = {name: spec for entry in content["features"] for name, spec in entry.items()}
    assert list(feature_map.features) == list(written) and feature_map.labels == content["labels"]
    for name, spec in written.items():
        kept = feature_map.features[name]
        assert repr(dict(sorted({"feature_encoder": None, **spec}.items()))) == repr(
            dict(sorted({"feature_encoder": None, **kept}.items()))
        )
    again = path.with_name("again.json")
    feature_map.save(again)
    assert FeatureMap.load(again, "tiny").features == feature_map.features
    if not is_small(feature_map):
        return "read"
    try:
        with no_hang():
            train_on(feature_map)
    except (ConfigError, DataError):
        return "read"
    return "built"


def is_small(feature_map: FeatureMap) -> bool:
    """Whether its tables can be built in no time; not so where none can be."""
    try:
        widths = [feature_map.input_length, *feature_map.embedding_dims(4)]
    except ConfigError:
        return False
    return max(widths) <= MOST_WIDTH and feature_map.total_features <= MOST_ROWS


def train_on(feature_map: FeatureMap) -> None:
    """Takes a gradient of DCN V2 on rows that hold each field's smallest and largest id."""
    seed_everything(0)
    params = {"model_structure": "crossnet_only", "num_cross_layers": 1}
    model = load_model_class("DCNv2")(feature_map, embedding_dim=4, **params)
    columns: dict[str, np.ndarray] = {name: np.array([0, 1]) for name in feature_map.labels}
    for name, spec in feature_map.fields.items():
        if spec["type"] == "numeric":
            columns[name] = np.array([0.5, -1])
        elif spec["type"] == "embedding":
            columns[name] = np.ones((2, spec["pretrain_dim"]))
        else:
            shape = (2, spec["max_len"]) if spec["type"] == "sequence" else (2,)
            columns[name] = np.zeros(shape, int)
            columns[name][1] = spec["vocab_size"] - 1
    batch = from_arrays(columns, feature_map).rows(slice(0, 2))
    predicted = model(batch)["y_pred"]
    assert predicted.shape == (2, 1) and torch.isfinite(predicted).all()
    predicted.sum().backward()


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yields the path of every value in a JSON tree."""
    yield path
    if isinstance(content, (dict, list)):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in pairs:
            yield from places(value, (*path, key))


@functools.cache
def any_json() -> st.SearchStrategy[Any]:
    sizes = [0, 1, -1, 2, 7, 12, 10**5, 10**9, 2**31, 2**63, 10**30, -(2**31), 1.0, 0.5, 1e308]
    words = ["a", "b", "s", "x", "zz", "", "meta", "sequence", "categorical", "numeric", "sum"]
    words += ["embedding", "init", "concat", "layers.MaskedAveragePooling()", "other.npy", "\0"]
    scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(sizes), st.sampled_from(words))
    keys = st.sampled_from(["type", "vocab_size", "max_len", "share_embedding", "pretrained_emb"])
    return st.recursive(
        scalars | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
        max_leaves=3,
    )


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """Draws a JSON tree with one or two values replaced, removed, repeated or added."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from([*places(content)][1:] or [()]))
        if not path:
            return draw(any_json())
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "replace":
            parent[path[-1]] = draw(any_json())
        elif action == "remove":
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.append(draw(st.just(parent[path[-1]]) | any_json()))
        else:
            name = draw(st.sampled_from(["embedding_dim", "emb_output_dim", "share_embedding"]))
            parent[name] = draw(any_json())
    return content


@pytest.mark.parametrize("count", case_counts)
def test_damaged_bytes(built, folder, count):
    @cases(count)
    @given(st.one_of(*(mutated(real, TOKENS) for real in real_maps(built))))
    def check_bytes(data):
        (folder / "feature_map.json").write_bytes(data)
        outcomes.append(check(folder / "feature_map.json"))

    outcomes = []
    check_bytes()
    assert outcomes.count("built") > count / 50 and outcomes.count("refused") > count / 4


@pytest.mark.parametrize("count", case_counts)
def test_changed_values(built, folder, count):
    real = [json.loads(data) for data in real_maps(built)]

    @cases(count)
    @given(st.one_of(*map(changed, real)))
    def check_content(content):
        (folder / "feature_map.json").write_text(json.dumps(content))
        outcomes.append(check(folder / "feature_map.json"))

    outcomes = []
    check_content()
    assert outcomes.count("built") > count / 50 and outcomes.count("refused") > count / 4


def test_the_real_maps_are_built_from(built, folder):
    for data in real_maps(built):
        (folder / "feature_map.json").write_bytes(data)
        assert check(folder / "feature_map.json") == "built"
