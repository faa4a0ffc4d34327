"""Key compile: true and auto."""

import logging
import shutil

import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.layers import GenerativeCIN
from fuxictr.pytorch.layers.generation import generator_config
from fuxictr.pytorch.training.compiled import compile_loss
from fuxictr.pytorch.training.trainer import Trainer
from tests.needs_gpu import needs_gpu
from tests.pytorch.tiny import make, tiny_data, tiny_map

BATCH_SIZE = 90  # six full batches an epoch and one of 60 rows


def fit(config):
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    trainer = Trainer(make(feature_map, net_regularizer=0.1), config, verbose=0)
    batches = BatchIterator(data, BATCH_SIZE, True, seed=3)
    return trainer, trainer.fit(batches, BatchIterator(data, 128))


def compiled_as(setting, device, model=None):
    """Returns the loss for a setting; nothing is compiled here, see the fixture ``modes``."""
    model = make(tiny_map()) if model is None else model
    return compile_loss(lambda batch: "plain", model, setting, torch.device(device), BATCH_SIZE)


@pytest.fixture
def modes(monkeypatch):
    """Notes the mode of each use of torch.compile, which compiles nothing and gives 0.5."""
    noted = []

    def compile_nothing(function, **options):
        noted.append(options.get("mode"))
        return lambda *args: torch.tensor(0.5)

    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *args, device=None: ones(*args))
    monkeypatch.setattr(torch, "compile", compile_nothing)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    return noted


@pytest.fixture
def no_compiler(monkeypatch, modes):
    def compile_nothing(function, **options):
        def call(*args):
            raise ValueError("no g++ found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)


@pytest.fixture
def config():
    return TrainConfig(batch_size=BATCH_SIZE, learning_rate=0.05, epochs=3, save_best_only=False)


def assert_same_training(one, two):
    for first, second in zip(one[0].model.parameters(), two[0].model.parameters(), strict=True):
        assert torch.equal(first, second)
    assert one[1].history == two[1].history


def test_auto_does_nothing_on_the_cpu(config, modes):
    plain = fit(config)
    assert_same_training(plain, fit(TrainConfig(**{**vars(config), "compile": "auto"})))
    assert not modes


def test_auto_compiles_with_cuda_graphs_on_cuda_only(modes):
    batch = next(iter(BatchIterator(tiny_data(tiny_map()), BATCH_SIZE)))
    for device, setting, mode in (("cuda:1", "auto", "reduce-overhead"), ("cuda:1", True, None)):
        assert compiled_as(setting, device)(batch).item() == 0.5
        assert modes == [None, mode], "the trial, then the loss"
        modes.clear()
    for device, setting in (("cuda:1", False), ("cpu", False), ("cpu", "auto")):
        assert compiled_as(setting, device)(batch) == "plain"
        assert not modes


def test_a_graph_does_not_write_over_losses_that_were_returned(modes, monkeypatch):
    held = torch.zeros(())
    steps = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda *args: held.add_(1))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(1))
    batch = next(iter(BatchIterator(tiny_data(tiny_map()), BATCH_SIZE)))
    loss = compiled_as("auto", "cuda")
    held.zero_()
    assert [value.item() for value in [loss(batch), loss(batch)]] == [1, 2]
    assert len(steps) == 2


def test_without_a_compiler_true_is_an_error_before_training(config, no_compiler):
    message = r"key 'compile': found true, .*\(no g\+\+ found\); it needs a C\+\+ compiler"
    with pytest.raises(ConfigError, match=message):
        fit(TrainConfig(**{**vars(config), "compile": True}))


def test_without_a_compiler_auto_is_a_warning(no_compiler, caplog):
    batch = next(iter(BatchIterator(tiny_data(tiny_map()), BATCH_SIZE)))
    assert compiled_as("auto", "cuda")(batch) == "plain"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "compile: auto compiles nothing: torch.compile does not work here (no g++ found); it "
            "needs triton; install that",
        )
    ]


@pytest.mark.parametrize(("setting", "device"), [(True, "cpu"), ("auto", "cuda")])
def test_batches_of_another_size_are_not_compiled(monkeypatch, modes, setting, device):
    monkeypatch.setattr(torch.compiler, "disable", lambda function: "disabled")
    feature_map = tiny_map()
    model = make(feature_map)
    model.cin = GenerativeCIN(feature_map, 4, [3], generator_config({}))
    loss = compiled_as(setting, device, model)
    found = [loss(batch) for batch in BatchIterator(tiny_data(feature_map), BATCH_SIZE)]
    assert found == [0.5] * 6 + ["plain"]
    assert [layer.forward for layer in model.cin.layers] == ["disabled"]
    assert callable(model.head.forward)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_training_is_close_to_plain_training(config):
    plain = fit(config)
    compiled = fit(TrainConfig(**{**vars(config), "compile": True}))
    weights = [run[0].model.state_dict() for run in (plain, compiled)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-3, atol=1e-4)
    losses = [[entry["train_loss"] for entry in run[1].history] for run in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2, "one of the trial, one of the loss"


@needs_gpu
@pytest.mark.filterwarnings("ignore")  # compilers warn of what they could do better
@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_cuda_graphs_train_as_without(config, amp):
    device = torch.device("cuda")
    found = []
    for word in (False, "auto"):
        settings = TrainConfig(**{**vars(config), "amp": amp, "compile": word})
        feature_map = tiny_map()
        data = tiny_data(feature_map)
        trainer = Trainer(make(feature_map), settings, device, verbose=0)
        batches = BatchIterator(data, BATCH_SIZE, True, seed=3, device=device)
        trainer.fit(batches, BatchIterator(data, 128, device=device))
        found.append(trainer.model.state_dict())
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-3, atol=1e-4)
