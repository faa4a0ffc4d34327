"""Embedding layers of many kinds, built and called by names that FuxiCTR and this project have.

``record_embeddings.py`` runs them with FuxiCTR and keeps weights and results;
``tests/pytorch/test_embeddings_as_fuxictr.py`` runs them here with the same weights.
"""

import json
from collections import OrderedDict

import numpy as np
import torch

B = 5
IDS = {"type": "categorical", "padding_idx": 0}
LIST = {"type": "sequence", "padding_idx": 0, "max_len": 3}
UNPOOLED = {"source": "item", "feature_encoder": None}
SPECS = {
    "user": {**IDS, "source": "user", "vocab_size": 6},
    "item": {**IDS, "source": "item", "vocab_size": 7},
    "age": {"type": "numeric", "source": "user"},
    "day": {"type": "meta", "source": ""},
    "price": {"type": "numeric", "source": "item"},
    "clicks": {
        **LIST,
        "source": "item",
        "vocab_size": 7,
        "share_embedding": "item",
        "feature_encoder": "layers.MaskedAveragePooling()",
    },
    "tags": {
        **LIST,
        "source": "item",
        "vocab_size": 5,
        "feature_encoder": "layers.MaskedSumPooling()",
    },
    "image": {"type": "embedding", "source": "item", "pretrain_dim": 5},
    "text": {
        "type": "embedding",
        "source": "item",
        "pretrain_dim": 3,
        "feature_encoder": "nn.Linear(3, 4, bias=False)",
    },
    "hist": {**LIST, **UNPOOLED, "vocab_size": 7, "share_embedding": "item"},
    "brands": {**LIST, **UNPOOLED, "vocab_size": 5},
    "wide": {**IDS, "source": "context", "vocab_size": 4, "embedding_dim": 6},
    "narrow": {"type": "numeric", "source": "context", "embedding_dim": 2},
    "mapped": {
        **IDS,
        "source": "context",
        "vocab_size": 5,
        "feature_encoder": ["nn.Linear(4, 4, bias=True)", "nn.ReLU()"],
    },
    "scaled": {"type": "numeric", "source": "context", "feature_encoder": "nn.Sigmoid()"},
    "cut": {
        **LIST,
        "source": "context",
        "vocab_size": 5,
        "feature_encoder": [
            "nn.Linear(4, 4, bias=False)",
            "nn.Tanh()",
            "layers.MaskedSumPooling()",
        ],
    },
    "kept": {
        **LIST,
        "source": "context",
        "vocab_size": 5,
        "feature_encoder": ["layers.KMaxPooling(2, 1)"],
    },
    "given": {
        **IDS,
        "source": "context",
        "vocab_size": 8,
        "oov_idx": 6,
        "pretrained_emb": "v.npz",
        "pretrain_usage": "init",
        "freeze_emb": True,
        "pretrain_dim": 3,
    },
}
PLAIN = ["user", "item", "age", "price", "clicks", "tags", "image", "text"]
VECTORS = [*PLAIN, "mapped", "scaled", "cut"]
GIVEN = [
    (usage, freeze, dim)
    for usage in ("init", "sum", "concat")
    for freeze in (True, False)
    for dim in (3, 4)
]


def make_inputs(names, num_rows=B, length=3):
    """Returns the columns of some fields, floats as FuxiCTR's loaders give them."""
    columns = {}
    for number, (name, spec) in enumerate(SPECS.items()):
        rng = np.random.default_rng(number)
        if spec["type"] == "sequence":
            ids = rng.integers(0, spec["vocab_size"], (num_rows, length))
            ids[1] = 0
            columns[name] = torch.tensor(ids).float()
        elif spec["type"] == "embedding":
            columns[name] = torch.tensor(rng.normal(size=(num_rows, spec["pretrain_dim"]))).float()
        elif spec["type"] == "categorical":
            top = spec.get("oov_idx", spec["vocab_size"] - 1)
            columns[name] = torch.tensor(rng.integers(1, top + 1, num_rows)).float()
        else:
            columns[name] = torch.tensor(rng.normal(size=num_rows)).float()
    return {name: columns[name] for name in names}


def make_map(folder, names, **changes):
    """Returns a feature map of some of the fields, in their order above."""
    from fuxictr.features import FeatureMap

    vocab = {"__PAD__": 0, **{str(i): i for i in range(1, 6)}, "__OOV__": 6, "x": 7}
    (folder / "feature_vocab.json").write_text(json.dumps({"given": vocab, "other": vocab}))
    keys, values = np.array(["2", "3", "5"]), np.arange(9.0).reshape(3, 3)
    np.savez(folder / "v.npz", key=keys, value=values)
    feature_map = FeatureMap("d", str(folder))
    feature_map.features = OrderedDict(
        (name, {"source": "", **spec, **changes.get(name, {})})
        for name, spec in SPECS.items()
        if name in names
    )
    feature_map.labels = ["click"]
    feature_map.default_emb_dim = 4
    if hasattr(feature_map, "pretrained"):  # the vectors come with the recorded weights
        feature_map.pretrained["given"] = np.zeros((8, 3))
    return feature_map


def prefixed(prefix, found):
    """Returns results under longer names."""
    return {f"{prefix}_{name}": value for name, value in found.items()}


def build(name, folder):
    """Returns a case's layer, and a function that returns its results as a dictionary."""
    from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict

    everything = list(SPECS)
    if name.startswith("given"):
        usage, freeze, dim = GIVEN[int(name.removeprefix("given"))]
        change = {"pretrain_usage": usage, "freeze_emb": freeze}
        layer = FeatureEmbeddingDict(make_map(folder, ["given"], given=change), dim)
        return layer, lambda: layer(make_inputs(["given"]))
    if name == "by_name":
        layer = FeatureEmbeddingDict(make_map(folder, everything), 4)
        return layer, lambda: layer(make_inputs([n for n in everything if n != "day"]))
    if name == "own_tables":
        layer = FeatureEmbeddingDict(
            make_map(folder, everything), 4, use_sharing=False, use_pretrain=False
        )
        return layer, lambda: layer(make_inputs([n for n in everything if n != "day"]))
    if name == "width_1":
        names = ["user", "item", "age", "clicks", "tags", "hist", "cut", "mapped", "wide"]
        layer = FeatureEmbedding(make_map(folder, names), 1, use_pretrain=False)
        return layer, lambda: {"stacked": layer(make_inputs(names))}
    if name == "filters":
        return _filters(FeatureEmbeddingDict(make_map(folder, everything), 4))
    if name == "stacked":
        layer = FeatureEmbedding(make_map(folder, VECTORS), 4)
        X = make_inputs(VECTORS)
        return layer, lambda: {
            "all": layer(X),
            "flat": layer(X, flatten_emb=True),
            "user": layer(X, feature_source="user"),
            "items": layer(X, feature_source=["item"], feature_type=["numeric", "sequence"]),
            "some": layer({n: X[n] for n in ("tags", "user", "age")}, flatten_emb=True),
            **{
                f"inner_{n}": v
                for n, v in layer.embedding_layer(X, feature_type="sequence").items()
            },
        }
    if name == "widths":
        names = ["user", "wide", "narrow", "item"]
        layer = FeatureEmbedding(make_map(folder, names), 4, not_required_feature_columns="item")
        return layer, lambda: {"flat": layer(make_inputs(names[:3]), flatten_emb=True)}
    raise KeyError(name)


def _filters(layer):
    X = make_inputs([n for n in SPECS if n != "day"])

    def results():
        found = layer(X)
        join = layer.dict2tensor
        longer = make_inputs(["item", "hist"], num_rows=3, length=6)
        only = {n: v for n, v in found.items() if n in PLAIN}
        return {
            "names": join(found, feature_list=["price", "item"]),
            "name": join(found, feature_list="clicks", flatten_emb=True),
            "source": join(only, feature_source="item"),
            "sources": join(only, feature_source=["user", "item"], feature_type="numeric"),
            "type": join(only, feature_type=["categorical", "sequence"], flatten_emb=True),
            "positions": join(found, feature_list=["hist", "brands"], flatten_emb=True),
            "stacked_positions": join(found, feature_list=["hist", "brands"]),
            "mixed_widths": join(found, feature_list=["user", "wide", "narrow"], flatten_emb=True),
            **{f"longer_{n}": v for n, v in layer(longer).items()},
            **{f"user_{n}": v for n, v in layer(X, feature_source="user").items()},
            **{
                f"item_{n}": v for n, v in layer({"item": torch.tensor([[1.0, 0], [3, 4]])}).items()
            },
        }

    return layer, results


CASES = [
    *(f"given{i}" for i in range(len(GIVEN))),
    *("by_name", "own_tables", "width_1", "filters", "stacked", "widths"),
]
