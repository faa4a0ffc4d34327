"""LazyAdam against torch.optim.Adam on the whole table."""

import copy
import io

import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.optim.lazy_adam import LazyAdam
from fuxictr.pytorch.torch_utils import seed_everything
from tests.pytorch.lazy_layers import LR, assert_same, inputs, loss_of, make_layer


@pytest.mark.parametrize(
    ("dtype", "dim", "scale"),
    [
        (torch.float32, 16, 1.0),
        (torch.float32, 1, 1e-9),
        (torch.float64, 1, 1.0),
        (torch.float64, 16, 1e-9),
    ],
)
def test_500_steps_are_those_of_adam(dtype, dim, scale):
    """Rows never touched, once, always, after 480 steps; with small gradients eps dominates."""
    layer = make_layer(dim, dtype)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    dense = torch.optim.Adam(plain.parameters(), lr=LR)
    start = plain.table.detach().clone()
    for step in range(1, 501):
        for optimizer, model in ((lazy, layer), (dense, plain)):
            optimizer.zero_grad()
            loss_of(model, step, scale).backward()
            optimizer.step()
        assert layer.table.grad is None
        if step == 300:
            assert_same(lazy, dense, layer, plain)  # a flush on the way
    assert_same(lazy, dense, layer, plain)
    assert torch.equal(layer.table[50:60], start[50:60])
    assert (layer.table[:10] - start[:10]).abs().amax(1)[[1, 2, 3, 4]].min() > 1e-4 * min(scale, 1)


def test_clip_and_changing_rates_are_those_of_adam():
    """The norm of all gradients is that of the dense ones, and each step counts at its own rate."""
    layer = make_layer(5, torch.float64)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    dense = torch.optim.Adam(plain.parameters(), lr=LR)
    for step in range(1, 251):
        for optimizer in (lazy, dense):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = LR * (0.1 if 100 < step < 200 else 1 + step / 100)
        loss_of(layer, step, 1.0).backward()
        loss_of(plain, step, 1.0).backward()
        norm = clip_grad_norm_([*layer.parameters(), *lazy.row_gradients()], 0.5)
        expected = clip_grad_norm_(plain.parameters(), 0.5)
        assert expected > 0.5
        assert norm.item() == pytest.approx(expected.item(), rel=1e-14)
        lazy.step()
        dense.step()
    assert_same(lazy, dense, layer, plain)


def test_several_lookups_before_a_step_add_up():
    """Two forwards, one thrown away, gradients forgotten or left over from before a step."""
    layer = make_layer(4, torch.float64)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    dense = torch.optim.Adam(plain.parameters(), lr=LR)

    def run(optimizer, model, step):
        def loss(number):
            return loss_of(model, number, 1.0)

        (loss(step) + loss(step + 1000)).backward()  # two lookups, one backward
        optimizer.step()
        optimizer.zero_grad()
        loss(step + 2000)  # thrown away
        optimizer.step()  # without a gradient: no step
        kept = loss(step + 3000)
        loss(step + 4000).backward()
        optimizer.zero_grad()  # forgets the second one only
        kept.backward(retain_graph=True)
        optimizer.zero_grad()
        kept.backward(retain_graph=True)
        kept.backward(retain_graph=True)
        touched = optimizer.row_gradients() if isinstance(optimizer, LazyAdam) else []
        clip_grad_norm_([*model.parameters(), *touched], 1.0)
        loss(step + 5000).backward()
        kept.backward(retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()
        kept.backward()  # its rows have moved since they were looked up
        optimizer.step()
        optimizer.zero_grad()

    for step in range(1, 40):
        run(lazy, layer, step)
        run(dense, plain, step)
    assert dense.state_dict()["state"][0]["step"] == 3 * 39
    assert_same(lazy, dense, layer, plain)


def test_lookups_that_are_thrown_away_leave_nothing():
    layer = make_layer()
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    table = lazy._lazy_tables()[0]
    for step in range(1, 4):
        loss_of(layer, step, 1.0)
    assert table._blocks == [] and lazy.row_gradients() == []
    loss_of(layer, 1, 1.0).backward()
    lazy.step()
    assert table._blocks == []


def test_what_is_read_without_gradients_is_up_to_date():
    """Evaluation sees Adam's weights with and without a flush, and changes nothing."""
    layer = make_layer(4, torch.float64)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    dense = torch.optim.Adam(plain.parameters(), lr=LR)
    for step in range(1, 6):
        loss_of(layer, step, 1.0).backward()
        loss_of(plain, step, 1.0).backward()
        lazy.step(), dense.step()
        lazy.zero_grad(), dense.zero_grad()
    behind = layer.table.detach().clone()
    batch = inputs(1, np.random.default_rng(1))
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert lazy._lazy_tables()[0].is_behind
            torch.testing.assert_close(layer(batch), plain(batch), rtol=0, atol=1e-14)
    assert torch.equal(layer.table, behind)
    layer(batch).sum().backward()  # with what the finder remembers of the last lookup
    with torch.inference_mode():
        lazy.flush()
    assert not lazy._lazy_tables()[0].is_behind
    torch.testing.assert_close(layer.table, plain.table, rtol=0, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(layer(batch), plain(batch), rtol=0, atol=1e-14)
    lazy.step()
    plain(batch).sum().backward()
    dense.step()
    assert_same(lazy, dense, layer, plain)


def test_state_goes_to_adam_and_back():
    """A training that changes hands every 60 steps, through a file, is that of Adam."""
    layer = make_layer(4, torch.float64)
    plain = copy.deepcopy(layer)
    dense = torch.optim.Adam(plain.parameters(), lr=LR)
    optimizer: torch.optim.Adam = LazyAdam(layer.parameters(), LR, [layer])
    for step in range(1, 301):
        if step % 60 == 0:
            file = io.BytesIO()
            torch.save([layer.state_dict(), optimizer.state_dict()], file)
            file.seek(0)
            weights, state = torch.load(file, weights_only=True)
            layer = make_layer(4, torch.float64)
            is_lazy = step % 120 == 0
            optimizer = (
                LazyAdam(layer.parameters(), 1.0, [layer])
                if is_lazy
                else torch.optim.Adam(layer.parameters(), lr=1.0)
            )
            if is_lazy:  # what it has done before must not come through
                loss_of(layer, 7, 1.0).backward()
                optimizer.step()
                loss_of(layer, 8, 1.0).backward()
                optimizer.step()
                loss_of(layer, 9, 1.0).backward()
            layer.load_state_dict(weights)
            optimizer.load_state_dict(state)
            assert optimizer.state_dict()["state"].keys() == state["state"].keys()
        for chosen, model in ((optimizer, layer), (dense, plain)):
            chosen.zero_grad()
            loss_of(model, step, 1.0).backward()
            chosen.step()
    assert_same(optimizer, dense, layer, plain)


def test_an_older_state_for_the_weights_of_now():
    """The weights keep what they were due from the moments that are replaced."""
    layer = make_layer(4, torch.float64)
    plain = copy.deepcopy(layer)
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    dense = torch.optim.Adam(plain.parameters(), lr=LR)
    for optimizer, model in ((lazy, layer), (dense, plain)):
        for step in range(1, 12):
            if step == 4:
                state = copy.deepcopy(optimizer.state_dict())
            if step == 8:
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            loss_of(model, step, 1.0).backward()
            optimizer.step()
    assert dense.state_dict()["state"][0]["step"] == 7
    assert_same(lazy, dense, layer, plain)


def test_a_state_before_the_first_step_can_be_loaded():
    layer = make_layer()
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    empty = lazy.state_dict()
    assert empty["state"] == {}
    loss_of(layer, 1, 1.0).backward()
    lazy.step()
    lazy.load_state_dict(empty)
    assert lazy._lazy_tables()[0].num_steps == 0
    assert lazy.state_dict()["state"] == {}


def test_a_state_of_another_adam_is_refused():
    layer = make_layer()
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    other = torch.optim.Adam(layer.parameters(), betas=(0.8, 0.999))
    with pytest.raises(ValueError, match=r"betas \[\(0.8, 0.999\)\], allowed: .*\(0.9, 0.999\)"):
        lazy.load_state_dict(other.state_dict())


def test_a_gradient_of_the_table_itself_is_refused():
    layer = make_layer()
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    layer.table.square().sum().backward()
    with pytest.raises(RuntimeError, match="has a gradient of its own"):
        lazy.step()


def test_layers_are_as_before_but_for_their_reader():
    layer = make_layer()
    names = list(layer.state_dict()), [name for name, _ in layer.named_parameters()]
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    assert (list(layer.state_dict()), [n for n, _ in layer.named_parameters()]) == names
    for step in (1, 2):
        loss_of(layer, step, 1.0).backward()
        lazy.step()
    copied = copy.deepcopy(layer)
    assert copied.reader is None
    assert not lazy._lazy_tables()[0].is_behind and torch.equal(copied.table, layer.table)
    layer.read_rows_with(None)
    lazy.zero_grad()
    loss_of(layer, 3, 1.0).backward()
    assert layer.table.grad is not None


def test_saving_and_loading_weights_flushes_first():
    """Loaded weights are not moved by what happened before them."""
    layer = make_layer()
    lazy = LazyAdam(layer.parameters(), LR, [layer])
    loss_of(layer, 1, 1.0).backward()
    lazy.step()
    saved = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    for step in (2, 3, 4):
        lazy.zero_grad()
        loss_of(layer, step, 1.0).backward()
        lazy.step()
    layer.load_state_dict(saved)
    lazy.flush()
    assert torch.equal(layer.table, saved["table"])


def test_the_number_of_threads_changes_no_bit():
    """On a batch so large that torch does share its work among threads."""
    feature_map = FeatureMap("d")
    feature_map.features = {
        name: {"type": "categorical", "vocab_size": 200_000} for name in ("a", "b")
    }
    threads, tables = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            seed_everything(0)
            layer = FeatureEmbedding(feature_map, 16)
            lazy = LazyAdam(layer.parameters(), LR, [layer])
            for step in range(1, 5):
                lazy.zero_grad()
                rng = np.random.default_rng(step)
                ids = {n: torch.tensor(rng.zipf(1.2, 50_000) % 200_000) for n in ("a", "b")}
                vectors = layer(ids)
                wanted = torch.tensor(rng.normal(size=(50_000, 1, 1)), dtype=torch.float32)
                (vectors * wanted).sum().backward()
                lazy.step()
            tables.append([layer.state_dict()["table"], *lazy.state_dict()["state"][0].values()])
    finally:
        torch.set_num_threads(threads)
    assert all(
        torch.equal(*pair) for other in tables[1:] for pair in zip(tables[0], other, strict=True)
    )
