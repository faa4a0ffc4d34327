"""A layer whose rows are touched in all manners, and what the same training with Adam gives."""

from __future__ import annotations

import numpy as np
import torch

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.torch_utils import seed_everything

NUM_ROWS = 60
LR = 1e-2
# Of a weight, of exp_avg in parts of the largest, of exp_avg_sq in parts of itself.
TOLERANCES = {torch.float32: (1e-6, 2e-7, 4e-6), torch.float64: (1e-13, 1e-14, 1e-11)}


def make_layer(dim=3, dtype=torch.float32, kind=FeatureEmbedding) -> torch.nn.Module:
    """A categorical field, one that shares its table, and a sequence that does, too."""
    feature_map = FeatureMap("d")
    ids = {"type": "categorical", "vocab_size": NUM_ROWS}
    sequence = {"type": "sequence", "max_len": 4, "feature_encoder": "layers.MaskedSumPooling()"}
    feature_map.features = {
        "a": dict(ids),
        "b": {**ids, "share_embedding": "a"},
        "s": {**ids, **sequence, "share_embedding": "a"},
        "c": {**ids, "vocab_size": 9},
    }
    seed_everything(0)
    layer = kind(feature_map, dim).to(dtype)
    torch.nn.init.normal_(layer.table, std=0.1)
    return layer


def touch(step: int, rng: np.random.Generator) -> np.ndarray:
    """Rows (12,): 1 always, 2 at the first step, 3 then and after 480, 4 often; never above 49."""
    rows = rng.integers(10, 50, 12) if step % 7 else rng.integers(10, 13, 12)
    rows[0] = 1
    if step == 1:
        rows[1:4] = 2, 3, 2
    if step % 480 == 0:
        rows[1] = 3
    if step % 3 == 0:
        rows[2] = 4
    return rows


def inputs(step: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    columns = {name: torch.tensor(touch(step, rng)) for name in ("a", "b")}
    columns["s"] = torch.tensor(touch(step, rng).reshape(12, 1) * [1, 0, 1, 0])
    columns["s"][:, 3] = torch.tensor(touch(step, rng))
    columns["c"] = torch.tensor(rng.integers(0, 9, 12))
    return columns


def loss_of(layer, step: int, scale: float) -> torch.Tensor:
    """A loss whose gradients are random numbers of the given size."""
    rng = np.random.default_rng(step)
    vectors = layer(inputs(step, rng))
    wanted = torch.tensor(rng.normal(size=vectors.shape) * scale).to(vectors)
    return (vectors * wanted).sum()


def assert_same(lazy, dense, layer, plain) -> None:
    """Weights, moments and step count of both are the same up to rounding."""
    found, expected = lazy.state_dict(), dense.state_dict()
    assert found["state"].keys() == expected["state"].keys()
    for number, state in expected["state"].items():
        assert found["state"][number].keys() == state.keys()
        assert found["state"][number]["step"] == state["step"]
        for name in ("exp_avg", "exp_avg_sq"):
            assert_close(found["state"][number][name], state[name], name)
    for name, weights in plain.state_dict().items():
        assert_close(layer.state_dict()[name], weights, name)


def assert_close(found, expected, name) -> None:
    of_weight, of_largest, of_each = TOLERANCES[expected.dtype]
    if name == "exp_avg":
        allowed = of_largest * expected.abs().max()
    elif name == "exp_avg_sq":
        allowed = of_each * expected + 1e-35
    else:
        allowed = of_weight
    worst = ((found - expected).abs() / allowed).max().item()
    assert worst < 1, f"{name}: {worst} times what is allowed"
