"""Weights on disk."""

import pytest
import torch
from torch import nn

from fuxictr.errors import CheckpointError
from fuxictr.files import file_sha256
from fuxictr.pytorch.checkpoint.weights import load_weights, save_weights


def test_round_trip_and_nothing_else_is_left(tmp_path):
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / "deep" / "m.model"
    save_weights(one.state_dict(), path)
    load_weights(two, path)
    assert torch.equal(one.weight, two.weight)
    assert list(path.parent.iterdir()) == [path]
    assert len(file_sha256(path)) == 64


def test_a_failed_save_keeps_the_last_good_file(tmp_path, monkeypatch):
    path = tmp_path / "m.model"
    save_weights(nn.Linear(3, 2).state_dict(), path)
    before = path.read_bytes()

    def broken(state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="No space"):
        save_weights(nn.Linear(3, 2).state_dict(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_weights_remember_the_encoders_of_their_data(tmp_path):
    path, model = tmp_path / "m.model", nn.Linear(3, 2)
    save_weights(model.state_dict(), path, {"encoders_hash": "abc"})
    load_weights(model, path)
    load_weights(model, path, "abc")
    with pytest.raises(CheckpointError, match="encoded in another way .encoders abc, now abd."):
        load_weights(model, path, "abd")
    (tmp_path / "m.model.json").write_text("[")
    with pytest.raises(CheckpointError, match="m.model.json: not readable"):
        load_weights(model, path, "abc")
    save_weights(model.state_dict(), path)
    load_weights(model, path, "abd")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(4, 2), r"weight 'weight' has shape \(2, 3\) of float32, .* \(2, 4\) of float32"),
        (nn.Linear(3, 2).double(), "'weight' has .* of float32, the model has .* of float64"),
        (nn.Linear(3, 2, bias=False), "unexpected weight 'bias'"),
        (nn.Sequential(nn.Linear(3, 2)), "weight '0.weight' is missing"),
    ],
)
def test_weights_of_another_model(tmp_path, other, message):
    path = tmp_path / "m.model"
    save_weights(nn.Linear(3, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=message):
        load_weights(other, path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04K\x01."])
def test_foreign_bytes(tmp_path, content):
    path = tmp_path / "m.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_weights(nn.Linear(3, 2), path)


def test_missing_and_truncated(tmp_path):
    path = tmp_path / "m.model"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_weights(nn.Linear(3, 2), path)
    save_weights(nn.Linear(300, 20).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_weights(nn.Linear(300, 20), path)
