"""How the processes of a run are named and started, and what each says where it ends."""

import json
import logging
import signal
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fuxictr.analysis.sampling import draw_sample, draw_shared_sample
from fuxictr.errors import CheckpointError, ConfigError, DataError, Interrupted
from fuxictr.experiment.results.config_record import gpu_option, repeat_command
from fuxictr.experiment.results.record import ConfigRecord, RunRecord
from fuxictr.experiment.run import launch as launching
from fuxictr.experiment.run import resume as resuming
from fuxictr.experiment.run.signals import stop_requests
from fuxictr.experiment.verify import describe as run_report
from fuxictr.features import FeatureMap
from fuxictr.pytorch.checkpoint.state_files import StateFiles
from fuxictr.pytorch.checkpoint.training_state import TrainingState
from fuxictr.pytorch.dataloaders import (
    BatchIterator,
    Share,
    StreamingIterator,
    from_arrays,
    open_parquet,
)
from fuxictr.pytorch.distributed.ranks import RankError, Ranks
from fuxictr.pytorch.torch_utils import get_device
from fuxictr.utils import set_rank_logger
from tests.pytorch.encoded_rows import write_encoded


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """Makes this process one that torchrun started; returns the file of its error."""

    def launch(rank: int, size: int, local_rank: int, num_local: int, num_machines: int = 1):
        values = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": local_rank}
        values |= {"LOCAL_WORLD_SIZE": num_local, "GROUP_WORLD_SIZE": num_machines}
        values |= {"TORCHELASTIC_ERROR_FILE": tmp_path / "error.json"}
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
        return tmp_path / "error.json"

    monkeypatch.setattr(launching, "_SECONDS_TO_REPORT", 0)
    return launch


def gpus(monkeypatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


def test_each_process_takes_the_gpu_of_its_number(launched, monkeypatch):
    launched(rank=5, size=8, local_rank=1, num_local=4, num_machines=2)
    gpus(monkeypatch, 4)
    assert get_device("auto") == torch.device("cuda:1")
    assert get_device(-1) == torch.device("cpu")
    gpus(monkeypatch, 0)
    assert get_device("auto") == torch.device("cpu")
    gpus(monkeypatch, 3)
    with pytest.raises(
        ConfigError, match=r"--gpu auto: .* 4 processes on this .* GPUs 0\.\.2; .*node=3 or fewer"
    ):
        get_device("auto")
    for wrong in (0, "1"):
        with pytest.raises(ConfigError, match=f"--gpu {wrong}: torchrun started 8 .*auto.*-1"):
            get_device(wrong)


def test_one_process_under_torchrun_may_name_its_gpu(launched, monkeypatch):
    launched(rank=0, size=1, local_rank=0, num_local=1)
    gpus(monkeypatch, 2)
    assert get_device(1) == torch.device("cuda:1")
    assert get_device("auto") == torch.device("cuda:0")


def test_the_command_that_goes_on_is_the_one_that_was_given(launched, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run_expid.py", "--set", "a=b c"])
    assert launching.start_command() == "python"
    assert launching.resume_command() == "python run_expid.py --set 'a=b c' --resume"
    launched(rank=3, size=4, local_rank=3, num_local=4)
    wanted = "torchrun --standalone --nproc_per_node=4 run_expid.py --set 'a=b c' --resume"
    assert launching.resume_command() == wanted
    monkeypatch.setattr(sys, "argv", ["run_expid.py", "--resume", "--set", "a=b c"])
    assert launching.resume_command().split().count("--resume") == 1
    launched(rank=3, size=8, local_rank=3, num_local=4, num_machines=2)
    assert launching.start_command() == "torchrun --nnodes=2 --nproc_per_node=4"
    assert launching.resume_command() == "the same torchrun commands with --resume"


def test_devices_of_several_processes_are_counted():
    cpu, gpu = "cpu (x86_64, 1 threads)", "cuda:{} (NVIDIA H200)"
    assert launching.describe_devices([gpu.format(3)]) == "cuda:3 (NVIDIA H200)"
    found = launching.describe_devices([gpu.format(i) for i in range(4)])
    assert found == "4 x cuda (NVIDIA H200)"
    found = launching.describe_devices([cpu, cpu, "cpu (aarch64, 1 threads)"])
    assert found == "2 x cpu (x86_64, 1 threads), 1 x cpu (aarch64, 1 threads)"


@pytest.mark.parametrize(
    ("device", "option"),
    [
        ("cpu (x86_64, 2 threads)", "-1"),
        ("cuda:1 (NVIDIA H200)", "1"),
        ("2 x cpu (x86_64, 1 threads)", "-1"),
        ("4 x cuda (NVIDIA H200)", "auto"),
        (None, "-1"),
    ],
)
def test_where_a_run_is_repeated(device, option):
    assert gpu_option(device) == option
    config = ConfigRecord("/c", "/z", [], {}, [])
    row = RunRecord(
        config=config, device=device, expid="e", dataset_id="d", seed=1, model="FM", seconds=3
    )
    command = repeat_command(replace(row, processes=4)).split()
    assert command[:3] == ["torchrun", "--standalone", "--nproc_per_node=4"]
    assert command[-2:] == ["--gpu", option]
    assert repeat_command(row).startswith("python ")
    assert run_report._took(replace(row, processes=4)) == "3 s, 4 processes"


def ends_with(error: BaseException) -> BaseException:
    with pytest.raises(BaseException) as ended, launching.report_errors_once():
        raise error
    return ended.value


def report(path) -> tuple[str, int]:
    message = json.loads(path.read_text())["message"]
    return message["extraInfo"]["py_callstack"], int(message["extraInfo"]["timestamp"])


def test_the_first_process_says_its_errors_and_others_name_themselves(launched):
    error = DataError("bad row")
    assert ends_with(error) is error
    path = launched(rank=0, size=2, local_rank=0, num_local=2)
    assert ends_with(error) is error
    assert report(path)[0] == "DataError: bad row"

    launched(rank=1, size=2, local_rank=1, num_local=2)
    found = ends_with(error)
    assert isinstance(found, RankError) and str(found) == "rank 1: DataError: bad row"
    text, moment = report(path)
    assert text == "RankError: rank 1: DataError: bad row"
    gone = RankError("rank 1: another process of the job is gone")
    assert ends_with(gone) is gone
    assert report(path)[1] > moment, "torchrun takes the earliest for the cause"


def test_what_ends_all_is_said_by_the_first(launched):
    interrupted = Interrupted("resume with: x", signal.SIGTERM)
    launched(rank=0, size=2, local_rank=0, num_local=2)
    for error in (interrupted, SystemExit(1)):
        assert ends_with(error) is error
    launched(rank=1, size=2, local_rank=1, num_local=2)
    for error, status in ((interrupted, 143), (KeyboardInterrupt(), 130), (SystemExit(1), 1)):
        found = ends_with(error)
        assert isinstance(found, SystemExit) and found.code == status


def test_errors_before_a_process_has_joined_are_said_once_a_machine(launched):
    error = ConfigError("no such GPU")
    for rank, local_rank, kind in ((0, 0, ConfigError), (1, 1, SystemExit), (2, 0, ConfigError)):
        launched(rank, size=4, local_rank=local_rank, num_local=2, num_machines=2)
        with pytest.raises(kind), launching.report_errors_once_per_machine():
            raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore"),
        RuntimeError("[alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_no_memory_is_one_line(launched, error):
    launched(rank=1, size=2, local_rank=1, num_local=2)
    found = ends_with(error)
    assert isinstance(found, RankError)
    assert str(found).startswith("rank 1: OutOfMemoryError: ") and "\n" not in str(found)
    assert "lower batch_size or embedding_dim" in str(found)


def test_defects_keep_their_traceback(launched):
    launched(rank=1, size=2, local_rank=1, num_local=2)
    for error in (RuntimeError("shapes differ"), KeyError("a")):
        assert ends_with(error) is error


class Texts(Ranks):
    """Ranks whose others have given texts."""

    def __init__(self, *others: dict) -> None:
        super().__init__(size=1 + len(others))
        self.others = [json.dumps(what) for what in others]

    def gather_texts(self, text: str) -> list[str]:
        return [text, *self.others]


def test_a_process_that_does_something_else_is_named():
    what = {"data_hash": "a", "seed": 1}
    launching.check_same(Texts(what, what), what)
    ranks = Texts(what, {"data_hash": "b", "seed": 1}, {"data_hash": "c", "seed": 2})
    with pytest.raises(RankError, match="^rank 2: data_hash b instead of a, which the first"):
        launching.check_same(ranks, what)


class Second(Ranks):
    """The second of two ranks, which hears texts of the first one."""

    def __init__(self, said: dict) -> None:
        super().__init__(rank=1, size=2)
        self.said = json.dumps(said)

    def raise_on_any_rank(self):
        return nullcontext()

    def gather_texts(self, text: str) -> list[str]:
        return [self.said, text]


def test_a_process_that_cannot_read_the_state_says_so(tmp_path, monkeypatch):
    files = StateFiles(tmp_path / "e", tmp_path / "e.model")
    run = {"run_id": "r", "resumes": [], "seconds": 1.0}
    progress = {"result": {"num_steps": 7}}
    TrainingState(progress, {"a": torch.ones(1)}, {"run": run}).save(files.path)

    def find(steps: int) -> TrainingState | None:
        said = {"run_id": "r", "step": steps, "lives": 0}
        monkeypatch.setattr(resuming, "current_ranks", lambda: Second(said))
        session = resuming.RunSession({}, "2 x cpu", 0.0)
        assert session.made_on["processes"] == 2
        return session.find_state(files, restart_on_error=True)

    assert find(7).progress == progress
    with pytest.raises(CheckpointError, match="e.state: is another state than .*'model_root'"):
        find(6)
    files.path.unlink()
    with pytest.raises(CheckpointError, match="e.state: is not there; to resume, all machines"):
        find(7)


def test_a_second_signal_changes_nothing_where_torchrun_hands_them_on(capfd):
    with stop_requests(is_launched=True) as request:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert request.signal == signal.SIGINT
    assert capfd.readouterr().err == "\nCtrl-C: finishing the step and saving the state\n"
    with stop_requests(is_launched=True, is_first=False):
        signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_other_processes_log_warnings_alone(capfd):
    set_rank_logger(3)
    logging.getLogger("a").info("a bar")
    logging.getLogger("a").warning("a hole")
    with launching.mute_warnings_unless(is_first=False):
        logging.getLogger("a").warning("the same as the first one's")
    with launching.mute_warnings_unless(is_first=True):
        logging.getLogger("a").warning("another")
    assert capfd.readouterr().err == "rank 3: WARNING a hole\nrank 3: WARNING another\n"


class Threads:
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, slots: list, barrier: threading.Barrier) -> None:
        self.rank, self.slots, self.barrier = rank, slots, barrier

    def raise_on_any_rank(self):
        return nullcontext()

    def gather_rows(self, rows: torch.Tensor) -> list[torch.Tensor]:
        self.slots[self.rank] = rows
        self.barrier.wait(30)
        found = list(self.slots)
        self.barrier.wait(30)
        return found


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_sample_is_that_of_one_process(tmp_path, streaming, size):
    feature_map = FeatureMap("d")
    feature_map.features = {
        "a": {"type": "categorical", "vocab_size": 900},
        "x": {"type": "numeric"},
    }
    feature_map.labels = ["click"]
    rng = np.random.default_rng(0)
    columns = {"a": rng.integers(0, 900, 640), "x": rng.normal(size=640)}
    columns["click"] = rng.integers(0, 2, 640).astype(np.float32)
    data = from_arrays(columns, feature_map)
    wanted = draw_sample(data, 300, seed=5)
    path = write_encoded(tmp_path / "valid.parquet", columns, row_group_size=50)
    slots, barrier, found = [None] * size, threading.Barrier(size), {}

    def draw(rank: int) -> None:
        share = Share(rank, size)
        if streaming:
            rows = open_parquet(path, feature_map)
            split = StreamingIterator(rows, 64, share=share, is_split_by_batch=True)
        else:
            split = BatchIterator(data, 64, share=share, is_split_by_batch=True)
        found[rank] = draw_shared_sample(split, Threads(rank, slots, barrier), 300, seed=5)

    threads = [threading.Thread(target=draw, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == size
    for sample in found.values():
        assert torch.equal(sample.ids, wanted.ids)
        assert torch.equal(sample.values_matrix, wanted.values_matrix)


def test_a_module_is_started_again_as_a_module(monkeypatch):
    path = str(Path("somewhere", "fuxictr", "__main__.py"))
    monkeypatch.setattr(sys, "argv", [path, "run", "--model", "FM", "--expid", "FM demo"])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    wanted = "python -m fuxictr run --model FM --expid 'FM demo'"
    assert launching.this_command() == wanted
    assert launching.resume_command() == f"{wanted} --resume"
