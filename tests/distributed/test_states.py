"""A training that is cut off goes on, on as many processes or on another number of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.distributed.launcher import launch
from tests.distributed.state_worker import CUT_AT, KINDS, do

WORKER = "tests.distributed.state_worker"
CALM = [name for name, kind in KINDS.items() if "net_dropout=0.3" not in kind.overrides]


def run(folder, num_ranks, *tasks):
    launch([str(folder), *tasks], num_ranks, folder, timeout=300, module=WORKER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds what two processes gave: undisturbed, cut off, and gone on."""
    folder = tmp_path_factory.mktemp("states")
    run(folder, 2, *(f"{verb}:{kind}" for kind in KINDS for verb in ("straight", "cut")))
    run(folder, 2, *(f"go_on:{kind}:2" for kind in KINDS), "bad_number:rows_cut")
    return folder


def read(folder, task, num_ranks, rank=0):
    name = f"{task.replace(':', '.')}.{num_ranks}.rank{rank}.npz"
    with np.load(folder / name) as arrays:
        return dict(arrays)


def distance(found, expected):
    assert found.keys() == expected.keys()
    return max(np.abs(found[key].astype(float) - expected[key]).max(initial=0) for key in found)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_processes_go_on_to_the_same_bits(folder, kind):
    straight, cut = read(folder, f"straight:{kind}", 2), read(folder, f"cut:{kind}", 2)
    weights = [key for key in cut if key.startswith("weight.")]
    assert any(not np.array_equal(cut[key], straight[key]) for key in weights)
    found = read(folder, f"go_on:{kind}:2", 2)
    assert len(found["losses"]) > 2 and found.keys() == straight.keys()
    for key in found:
        np.testing.assert_array_equal(found[key], straight[key], err_msg=key)


@pytest.mark.parametrize("kind", CALM)
def test_one_process_goes_on_with_what_two_left(folder, kind):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        do(f"go_on:{kind}:2", folder)
    finally:
        torch.set_num_threads(threads)
    found = read(folder, f"go_on:{kind}:2", 1)
    assert distance(found, read(folder, f"straight:{kind}", 2)) <= 1e-5


def test_three_processes_go_on_with_what_one_left_and_what_two_left(folder):
    kinds = ["lazy_whole", "lazy_cut", "rows_cut", "tiny_cut"]
    for kind in kinds:
        do(f"cut:{kind}", folder)
    run(folder, 3, *(f"go_on:{kind}:{number}" for kind in kinds for number in (1, 2)))
    for kind in kinds:
        for number in (1, 2):
            found = read(folder, f"go_on:{kind}:{number}", 3)
            assert distance(found, read(folder, f"straight:{kind}", 2)) <= 1e-5


@pytest.mark.parametrize("kind", ["lazy_whole", "lazy_cut", "rows_cut"])
def test_a_state_holds_whole_tables(folder, kind):
    content = torch.load(folder / f"{kind}.2.state", weights_only=True)
    weights, optimizer = content["tensors"]["weights"], content["tensors"]["optimizer"]
    model, _ = KINDS[kind].build()
    expected = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    assert {name: tuple(weights[name].shape) for name in expected} == expected
    entries = optimizer.get("adam", optimizer)["state"]
    shapes = [
        tuple(value.shape)
        for entry in entries.values()
        for value in entry.values()
        if isinstance(value, torch.Tensor) and value.ndim == 2
    ]
    tables = {shape for name, shape in expected.items() if name.endswith("embedding_layer.table")}
    assert tables <= set(shapes)
    assert content["tensors"]["random_of_ranks"][0].keys() == {"torch", "numpy", "python"}
    assert CUT_AT == 13


def test_a_bad_number_of_one_rank_ends_all_before_the_weights_change(folder):
    first, second = (read(folder, "bad_number:rows_cut", 2, rank) for rank in (0, 1))
    assert first["error"].item().startswith("RankError: rank 1: NotFiniteError: epoch 1, step ")
    assert "column 'x' of the batch: 1 of " in first["error"].item()
    assert second["error"].item() == "SystemExit: 1"
    assert np.isfinite(first["weight.embedding_layer.table"]).all()
