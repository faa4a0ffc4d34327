"""Keys compile: true and auto. Graphs are fakes here, which replay by computing; see needs_gpu."""

import logging
import shutil

import pytest
import torch

from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.pytorch.batch import Batch
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.layers import CompressedInteractionNet, build_generators
from fuxictr.pytorch.layers.generation import generator_config
from fuxictr.pytorch.torch_utils import get_optimizer
from fuxictr.pytorch.training import step as training_step
from fuxictr.pytorch.training.compiled import (
    CompiledLoss,
    CudaGraphs,
    GraphedStep,
    make_graphed_step,
    why_no_graph,
)
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.tiny import make, tiny_data, tiny_map

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BATCH_SIZE = 90  # six full batches an epoch and one of 60 rows


class FakeGraphs:
    """Captures a step without doing it; a replay computes with the rates of the capture."""

    def __init__(self, optimizer, error=None):
        self.optimizer, self.error = optimizer, error
        self.num_warm, self.captured_rates, self.num_replays = 0, [], 0

    def warm_up(self, step):
        self.num_warm += 1
        return step()

    def capture(self, step):
        assert all(group["capturable"] for group in self.optimizer.param_groups)
        assert all(p.grad is None for g in self.optimizer.param_groups for p in g["params"])
        if self.error is not None:
            raise self.error
        rate = self.optimizer.param_groups[0]["lr"]
        self.captured_rates.append(rate)
        loss = torch.full((), torch.nan)

        def replay():
            self.num_replays += 1
            group = self.optimizer.param_groups[0]
            now, group["lr"] = group["lr"], rate
            loss.copy_(step())
            group["lr"] = now
            return loss

        return replay


class GraphedTrainer(Trainer):
    """A trainer whose graphs are fakes, and whose third evaluation is the best one."""

    error = None
    has_graphs = True

    def _make_step(self, train):
        if not self.has_graphs:
            return self.train_step
        self.graphs = FakeGraphs(self.optimizer, self.error)
        self.step = make_graphed_step(
            self.train_step, self.model, self.optimizer, self.graphs, train.batch_size
        )
        return self.step

    def evaluate(self, batches, description="Evaluate"):
        self.aucs = getattr(self, "aucs", [0.6, 0.7, 0.65])
        return super().evaluate(batches, description) | {"AUC": self.aucs.pop(0)}


def fit(kind, config, **attributes):
    feature_map = tiny_map()
    data = tiny_data(feature_map)
    trainer = kind(make(feature_map, net_regularizer=0.1), config, verbose=0)
    for name, value in attributes.items():
        setattr(trainer, name, value)
    batches = BatchIterator(data, BATCH_SIZE, True, seed=3)
    return trainer, trainer.fit(batches, BatchIterator(data, 128))


@pytest.fixture
def config():
    return TrainConfig(batch_size=BATCH_SIZE, learning_rate=0.05, epochs=3, save_best_only=False)


def assert_same_training(one, two):
    for first, second in zip(one[0].model.parameters(), two[0].model.parameters(), strict=True):
        assert torch.equal(first, second)
    assert one[1].history == two[1].history


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_graphs_change_no_bit_of_the_training(config, amp):
    config = TrainConfig(**{**vars(config), "amp": amp})
    graphed = fit(GraphedTrainer, config)
    assert_same_training(graphed, fit(GraphedTrainer, config, has_graphs=False))
    graphs = graphed[0].graphs
    # The rate is lowered after the third evaluation only, at the end.
    assert (graphs.num_warm, graphs.captured_rates) == (3, [0.05])
    assert graphs.num_replays == 3 * 6 - 3, "the last batch of an epoch has no graph"
    assert not any(group["capturable"] for group in graphed[0].optimizer.param_groups)


def test_a_new_rate_is_captured_anew(config):
    aucs = [0.7, 0.6, 0.5]
    config = TrainConfig(**{**vars(config), "early_stop_patience": 3})
    graphed = fit(GraphedTrainer, config, aucs=list(aucs))
    plain = fit(GraphedTrainer, config, aucs=list(aucs), has_graphs=False)
    assert_same_training(graphed, plain)
    assert graphed[0].graphs.captured_rates == pytest.approx([0.05, 0.005])
    assert graphed[0].graphs.num_warm == 3


@pytest.mark.parametrize("text", ["operation not permitted\nwhen stream is capturing", ""])
def test_a_failed_capture_is_a_warning_and_trains_on(config, text, caplog):
    graphed = fit(GraphedTrainer, config, error=RuntimeError(text))
    assert_same_training(graphed, fit(GraphedTrainer, config, has_graphs=False))
    reason = "operation not permitted" if text else "RuntimeError"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [f"compile: auto trains without a CUDA graph: {reason}"]
    assert graphed[0].graphs.num_warm == 3


def test_a_graph_reads_each_batch_from_one_place():
    feature_map = tiny_map()
    batches = list(BatchIterator(tiny_data(feature_map), BATCH_SIZE))
    optimizer = get_optimizer("adam", make(feature_map).parameters(), 0.1)
    seen = []

    def step(batch: Batch) -> torch.Tensor:
        seen.append((batch.ids.data_ptr(), batch.values_matrix.data_ptr(), batch.num_rows))
        return batch.values_matrix.sum()

    graphed = GraphedStep(step, optimizer, FakeGraphs(optimizer), BATCH_SIZE, num_warmup=1)
    found = [graphed(batch).item() for batch in batches]
    assert found == [batch.values_matrix.sum().item() for batch in batches]
    assert len(set(seen[:-1])) == 1
    assert [rows for *_, rows in seen] == [BATCH_SIZE] * 6 + [60]


def test_what_cannot_be_a_graph_trains_without_one_and_says_why(caplog):
    caplog.set_level(logging.INFO)
    feature_map = tiny_map()
    model = make(feature_map)
    adam = get_optimizer("adam", model.parameters(), 0.1)
    assert why_no_graph(model, adam) is None
    model.generator = build_generators(feature_map, 4, {"concat_emb": True})
    assert why_no_graph(model, adam) is None
    model.generator = build_generators(feature_map, 4, {"concat_emb": True, "target": "masked"})

    def step(batch):
        raise AssertionError

    assert make_graphed_step(step, model, adam, None, BATCH_SIZE) is step
    adagrad = get_optimizer("adagrad", model.parameters(), 0.1)
    assert "Adagrad has no fused form" in why_no_graph(make(feature_map), adagrad)
    assert caplog.messages == [
        "compile: auto trains without a CUDA graph: target: masked draws the predicted fields on "
        "the host"
    ]


def test_auto_does_nothing_on_the_cpu(config):
    plain = fit(Trainer, config)
    assert_same_training(plain, fit(Trainer, TrainConfig(**{**vars(config), "compile": "auto"})))


def test_auto_asks_for_cuda_graphs_on_cuda(config, monkeypatch):
    asked = []
    monkeypatch.setattr(training_step, "CudaGraphs", asked.append)
    auto = TrainConfig(**{**vars(config), "compile": "auto"})
    for settings, device in ((auto, "cuda:1"), (config, "cuda:1"), (auto, "cpu")):
        trainer = Trainer(make(tiny_map()), settings, verbose=0)
        trainer._step.device = torch.device(device)
        step = trainer._make_step(BatchIterator(tiny_data(tiny_map()), BATCH_SIZE))
        assert isinstance(step, GraphedStep) == (settings is auto and "cuda" in device)
    assert asked == [torch.device("cuda:1")]


def test_a_missing_compiler_is_an_error_before_training(config, monkeypatch):
    def compile_nothing(function, **options):
        def call(*args):
            raise ValueError("no g++ found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    message = r"key 'compile': found true, .*\(no g\+\+ found\); it needs a C\+\+ compiler"
    with pytest.raises(ConfigError, match=message):
        fit(Trainer, TrainConfig(**{**vars(config), "compile": True}))


def test_batches_of_another_size_are_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda *args: "compiled")
    monkeypatch.setattr(torch.compiler, "disable", lambda function: "disabled")
    feature_map = tiny_map()
    model = make(feature_map)
    model.cin = CompressedInteractionNet(feature_map, 4, [3], generator_config({}))
    loss = CompiledLoss(lambda batch: "plain", model, torch.device("cpu"), BATCH_SIZE)
    found = [loss(batch) for batch in BatchIterator(tiny_data(feature_map), BATCH_SIZE)]
    assert found == ["compiled"] * 6 + ["plain"]
    assert [layer.forward for layer in model.cin.layers] == ["disabled"]
    assert callable(model.head.forward)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_training_is_close_to_plain_training(config):
    plain = fit(Trainer, config)
    compiled = fit(Trainer, TrainConfig(**{**vars(config), "compile": True}))
    weights = [run[0].model.state_dict() for run in (plain, compiled)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-3, atol=1e-4)
    losses = [[entry["train_loss"] for entry in run[1].history] for run in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2, "one of the trial, one of the loss"


@needs_gpu
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


@needs_gpu
def test_a_step_that_waits_for_the_device_cannot_be_captured():
    graphs = CudaGraphs(torch.device("cuda"))
    total = torch.zeros((), device="cuda")
    with pytest.raises(RuntimeError):
        graphs.capture(lambda: total + total.item())
    assert torch.rand(3, device="cuda").shape == (3,)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
