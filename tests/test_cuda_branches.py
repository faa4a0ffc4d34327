"""Every branch that only CUDA takes is reached by some test, without a GPU."""

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fuxictr.analysis import sampling
from fuxictr.config import TrainConfig
from fuxictr.experiment.estimate.model_cost import measure_rates
from fuxictr.experiment.run.memory import PeakMemory
from fuxictr.experiment.run.run import device_name
from fuxictr.experiment.verify import repeat
from fuxictr.experiment.verify.compare import Difference
from fuxictr.pytorch.checkpoint.training_state import load_random_state, random_state
from fuxictr.pytorch.dataloaders import BatchIterator
from fuxictr.pytorch.debug.forward_walk import unchanged
from fuxictr.pytorch.distributed import ranks
from fuxictr.pytorch.layers.embeddings.lookup import look_up
from fuxictr.pytorch.losses import LossMean
from fuxictr.pytorch.sharding import tables
from fuxictr.pytorch.training.trainer import NotFiniteError, Trainer
from tests.pytorch.pretended_cuda import CUDA, pretended_cuda
from tests.pytorch.tiny import make, tiny_data, tiny_map

ROOT = Path(__file__).resolve().parents[1]
HERE = "tests/test_cuda_branches.py"
META_STEP = "tests/pytorch/test_meta_step.py"
THREADS = "tests/pytorch/test_threads.py"
PAIRS = "tests/pytorch/test_pair_interactions.py"
STEPS = "test_every_backbone_steps_on_the_device_alone"
# Files with branches that depend on the kind of device -> how many lines, and a test of them.
BRANCHES = {
    "analysis/sampling.py": (1, HERE, "test_records_keep_the_random_numbers_of_the_gpu"),
    "experiment/estimate/estimate.py": (4, "tests/experiment/test_estimate.py", "mem_get_info"),
    "experiment/estimate/model_cost.py": (3, HERE, "test_rates_are_measured_on_the_gpu"),
    "experiment/results/environment.py": (2, "tests/experiment/test_environment.py", "12.4"),
    "experiment/run/launch.py": (1, "tests/experiment/test_launching.py", "CUDA out of memory"),
    "experiment/run/memory.py": (4, HERE, "test_peaks_of_the_gpu_are_followed"),
    "experiment/run/run.py": (2, HERE, "test_a_gpu_has_its_name"),
    "experiment/sweep/reproduce.py": (1, "tests/experiment/test_sweep.py", "device_count"),
    "experiment/verify/repeat.py": (1, HERE, "test_verify_says_what_a_gpu_does_to_bits"),
    "metrics/evaluate.py": (1, "tests/test_device_metrics.py", "_is_on_gpu"),
    "pytorch/checkpoint/training_state.py": (4, HERE, "test_states_hold_the_gpus_generator"),
    "pytorch/dataloaders/iterators.py": (3, META_STEP, "test_rows_that_do_not_fit"),
    "pytorch/debug/forward_walk.py": (1, HERE, "test_a_walk_leaves_the_gpus_generator"),
    "pytorch/distributed/ranks.py": (3, HERE, "test_processes_with_gpus_join_over_nccl"),
    "pytorch/distributed/sync_batch_norm.py": (1, "tests/distributed/test_alone.py", "SyncBatch"),
    "pytorch/layers/embeddings/lookup.py": (1, HERE, "test_a_gpu_looks_up_with_torchs_own"),
    "pytorch/layers/interactions/generative_cin.py": (1, META_STEP, "in_larger_pieces"),
    "pytorch/layers/interactions/pair_interactions.py": (2, PAIRS, "_gpu_multiplies_with_all"),
    "pytorch/losses.py": (1, HERE, "test_losses_stay_on_the_gpu_for_a_hundred_steps"),
    "pytorch/optim/lazy_adam.py": (1, "tests/pytorch/test_lazy_models.py", '"cuda"'),
    "pytorch/precision.py": (1, META_STEP, STEPS),
    "pytorch/sharding/tables.py": (2, HERE, "test_the_memory_of_a_gpu_decides_on_sharding"),
    "pytorch/torch_utils.py": (1, "tests/experiment/test_launching.py", "device_count"),
    "pytorch/training/compiled.py": (2, "tests/pytorch/test_compiled.py", "cuda:1"),
    "pytorch/training/spinning.py": (1, THREADS, "test_nothing_is_watched"),
    "pytorch/training/step.py": (1, META_STEP, STEPS),
    "pytorch/training/trainer.py": (3, HERE, "test_a_loss_that_is_not_finite_is_found_later"),
    "pytorch/training/work.py": (1, THREADS, "test_small_steps_get_one_thread"),
}
_DEPENDS = re.compile(
    r"""\.type [!=]= "c(uda|pu)"|\.is_c(uda|pu)\b|torch\.cuda\.|\.device\.type\b"""
)


def test_each_branch_for_a_device_has_a_test():
    """A new one turns this red: reach it in a test, and name that here."""
    counts = {}
    for path in sorted((ROOT / "fuxictr").rglob("*.py")):
        code = (line.partition("#")[0] for line in path.read_text().splitlines())
        lines = [line for line in code if _DEPENDS.search(line)]
        if lines:
            counts[path.relative_to(ROOT / "fuxictr").as_posix()] = len(lines)
    known = {name: count for name, (count, *_) in BRANCHES.items()}
    changed = {name for name, _ in counts.items() ^ known.items()}
    assert not changed, f"reach the branches of these in a test, and list it: {sorted(changed)}"
    for _, file, word in BRANCHES.values():
        assert word in (ROOT / file).read_text(), f"{file} has no {word}"


def test_rates_are_measured_on_the_gpu(monkeypatch):
    with pretended_cuda():
        waits = []
        monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
        rates = measure_rates(CUDA, seconds=0.001)
    assert len(waits) >= 8 and set(waits) == {CUDA}
    assert min(rates.flops, rates.bytes, rates.lookups, rates.operations) > 0


def test_peaks_of_the_gpu_are_followed(monkeypatch):
    peaks, resets = [30, 50, 20], []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks.pop(0))
    peak = PeakMemory(CUDA)
    with peak.paused():
        assert peak._gpu == 30
    assert [peak.read()[1] for _ in range(2)] == [50, 30]
    assert resets == [CUDA, CUDA]


def test_a_gpu_has_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name(torch.device("cuda:1")) == "cuda:1 (card 1)"


@pytest.mark.parametrize("is_cuda", [False, True])
def test_verify_says_what_a_gpu_does_to_bits(capsys, is_cuda):
    differing = [Difference("test.AUC", 0.7, 0.8, 0.1)]
    assert repeat._conclude(differing, None, [], 0.0, is_cuda) == 2
    assert ("CUDA atomics" in capsys.readouterr().out) == is_cuda


@pytest.fixture
def generator(monkeypatch):
    """The state of a GPU's generator, as torch.cuda reads and sets it."""
    held = {"state": torch.tensor([1], dtype=torch.uint8), "devices": []}

    def get(device="cuda"):
        held["devices"].append(device)
        return held["state"]

    def put(state, device="cuda"):
        held["devices"].append(device)
        held["state"] = state

    monkeypatch.setattr(torch.cuda, "get_rng_state", get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    return held


def test_states_hold_the_gpus_generator(generator):
    state = random_state(CUDA)
    generator["state"] = torch.tensor([2], dtype=torch.uint8)
    load_random_state({name: v for name, v in state.items() if name != "cuda"}, CUDA)
    assert generator["state"].item() == 2, "that of a run on a CPU says nothing of a GPU"
    load_random_state(state, CUDA)
    assert generator["state"].item() == 1 and set(generator["devices"]) == {CUDA}
    assert "cuda" not in random_state(torch.device("cpu"))


def test_a_walk_leaves_the_gpus_generator(generator):
    model = make(tiny_map())
    with pretended_cuda():
        model.to(CUDA)
        with unchanged(model):
            generator["state"] = torch.tensor([9], dtype=torch.uint8)
    assert generator["state"].item() == 1 and set(generator["devices"]) == {0}


def test_records_keep_the_random_numbers_of_the_gpu(generator, monkeypatch):
    class NoRecorder:
        def __init__(self, model):
            generator["state"] = torch.tensor([9], dtype=torch.uint8)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def collect(self):
            return {}

    monkeypatch.setattr(sampling, "Recorder", NoRecorder)
    model = make(tiny_map())
    with pretended_cuda():
        sampling.record_sample(model.to(CUDA), tiny_data(tiny_map()).rows(slice(9)), CUDA)
    assert generator["state"].item() == 1 and set(generator["devices"]) == {CUDA}


def test_processes_with_gpus_join_over_nccl(monkeypatch):
    calls = []
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(device))
    monkeypatch.setattr(ranks, "_rendezvous_store", lambda rank, size: "store")
    monkeypatch.setattr(ranks, "set_tcp_timeouts", lambda: None)
    monkeypatch.setattr(
        dist, "init_process_group", lambda backend, **keys: calls.append((backend, keys["timeout"]))
    )
    monkeypatch.setattr(dist, "new_group", lambda backend, timeout: f"group of {backend}")
    with ranks.joined("cuda:1") as joined:
        assert calls == [torch.device("cuda:1"), ("nccl", ranks._DEVICE_TIMEOUT)]
        with pretended_cuda():
            groups = [joined._group_of(torch.zeros(1, device=device)) for device in (CUDA, "cpu")]
        assert groups == [None, "group of gloo"]
    assert ranks.current_ranks() is ranks.ALONE


def test_a_gpu_looks_up_with_torchs_own_gradient():
    rows = torch.tensor([[1, 2]])
    table = torch.zeros(4, 3, requires_grad=True)
    assert "Embedding" not in type(look_up(table, rows).grad_fn).__name__
    with pretended_cuda():
        table = torch.zeros(4, 3, device=CUDA, requires_grad=True)
        assert "Embedding" in type(look_up(table, rows.to(CUDA)).grad_fn).__name__


def test_losses_stay_on_the_gpu_for_a_hundred_steps():
    with pretended_cuda():
        losses = LossMean(CUDA)
        assert [losses.add(torch.ones((), device=CUDA)) for _ in range(99)] == [None] * 99
        assert losses.num_kept == 99
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta"):
            losses.add(torch.ones((), device=CUDA))  # a hundred numbers come to the host at once


def test_the_memory_of_a_gpu_decides_on_sharding(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 7e9))
    assert tables._own_memory(ranks.Ranks(device="cuda:1")) == 7e9


def test_a_loss_that_is_not_finite_is_found_later(monkeypatch):
    """On a GPU the losses of a hundred steps are looked at together, and the step is named."""
    model, data = make(tiny_map()), tiny_data(tiny_map())
    batches = BatchIterator(data, 3, device="cpu")  # 200 steps
    trainer = Trainer(model, TrainConfig(batch_size=3, epochs=1), verbose=0)
    trainer.device = CUDA  # as it is on a GPU; the tensors are those of the CPU
    trainer._step._is_watched = False
    trainer._losses._kept = torch.zeros(100, dtype=torch.float64)
    step, count = trainer._step._loss, []

    def loss(batch):
        count.append(1)
        return step(batch) * (torch.nan if len(count) == 40 else 1)

    monkeypatch.setattr(trainer._step, "_loss", loss)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    with pytest.raises(NotFiniteError, match="epoch 1, step 40"):
        trainer._train_epoch(batches, None, 1)
    assert len(count) == 100
