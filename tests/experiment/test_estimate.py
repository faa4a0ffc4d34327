"""What a sweep will need: which earlier runs an estimate rests on, and what it comes to."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fuxictr.datasets.demo import generate
from fuxictr.experiment.estimate import data_size as data_facts
from fuxictr.experiment.estimate import estimate
from fuxictr.experiment.estimate.data_size import describe_data
from fuxictr.experiment.estimate.estimate import Estimate, estimate_runs, format_plan
from fuxictr.experiment.estimate.model_cost import MachineRates, count_cost
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.zoo.models import find_folder, load_experiment
from fuxictr.preprocess import prepare_dataset

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")
# About a laptop, and about a server's GPU.
RATES = MachineRates(flops=1e11, bytes=1e10, lookups=1e7, operations=2e5)
GPU_RATES = MachineRates(flops=3e13, bytes=2e12, lookups=2e9, operations=1e5)
NAMES = {CPU: "cpu (x86_64, 2 threads)", GPU: "cuda:1 (Some GPU)"}
HOUR = 3600


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No data are found but those that a test makes, and both devices are there."""
    monkeypatch.setattr(data_facts, "ROOT", tmp_path)
    monkeypatch.setattr(estimate, "device_name", lambda device: NAMES[device])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80e9, 80e9))
    monkeypatch.setattr(estimate, "load_experiment", lambda *args: _load(tmp_path, *args))


@pytest.fixture
def plan(tmp_path):
    """Returns the plan of an expid."""

    def make(expid, *overrides, seed=None):
        config, model_class = _load(tmp_path, expid, None, *overrides)
        if seed is not None:
            config = replace(config, train=replace(config.train, seed=seed))
        return SimpleNamespace(config=config, model_class=model_class)

    return make


def _load(tmp_path: Path, expid: str, folder=None, *overrides: str):
    folder = folder or find_folder(expid.split("_")[0])
    return load_experiment(expid, folder, overrides=[f"data_root={tmp_path}", *overrides])


def row_of(plan, **changes):
    """A row of results of a run of the plan; it took 100 seconds."""
    config = plan.config
    row = RunRecord(
        model=config.run.model,
        expid=config.expid,
        seed=config.train.seed,
        dataset_id=config.dataset.dataset_id,
        config_hash=config.config_hash(),
        epochs=4,
        train_seconds=80.0,
        seconds=100.0,
        device=NAMES[CPU],
        rows={"train": 160_000, "valid": 20_000, "test": 20_000},
    )
    return replace(row, **changes)


def estimate_one(plan, rows=(), device=CPU, rates=RATES):
    return estimate_runs([plan], rows, device, rates)[0]


def test_without_earlier_runs_the_cost_model_is_taken(plan):
    one = plan("DeepFM_demo")
    found = estimate_one(one)
    facts = describe_data(one.config)
    cost = count_cost(one.config, one.model_class, facts.feature_map)
    assert facts.rows == {"train": 160_000, "valid": 20_000, "test": 20_000}
    expected = 3 * cost.training_seconds(RATES, 160_000) + 4 * cost.forward_seconds(RATES, 20_000)
    expected += cost.forward_seconds(RATES, 20_000)
    reading = 200_000 * 25 * 4 / 2e8  # 24 fields and a label
    assert found.seconds == pytest.approx(expected + reading + 3)
    assert found.epochs == 3
    assert found.basis == "cost model; epochs = patience 2 + 1; data not encoded yet"
    assert not found.is_encoded
    assert found.disk_bytes == 4 * cost.parameters
    assert found.gpu_bytes is None


def test_runs_of_the_same_config_are_taken_as_measured(plan):
    one = plan("FM_demo_gen")
    rows = [row_of(one, seconds=s, seed=i) for i, s in enumerate((70.0, 50.0, 90.0))]
    rows += [
        row_of(one, seconds=1.0, failed="out of memory"),
        row_of(one, seconds=1.0, device="cpu (x86_64, 64 threads)"),
        row_of(one, seconds=1.0, config_hash="another"),
        row_of(one, seconds=1.0, dataset_id="another"),
        row_of(plan("FM_demo"), seconds=1.0, epochs=30),
    ]
    found = estimate_one(one, rows)
    assert (found.seconds, found.epochs, found.basis) == (73.0, 4, "measured, 3 runs")
    modelled = estimate_one(one)
    assert found.host_bytes == modelled.host_bytes
    rows[0] = replace(rows[0], peak_memory_bytes=7 * 10**9)
    assert estimate_one(one, rows).host_bytes == 7 * 10**9
    half = row_of(one, rows={"train": 80_000, "valid": 10_000})
    assert estimate_one(one, [half]).seconds == 203.0


def test_runs_of_other_configs_scale_the_model(plan):
    one, other, far = plan("DeepFM_demo"), plan("FM_demo"), plan("FM_avazu")
    plain = estimate_one(one).seconds
    fixed = 3 + 200_000 * 25 * 4 / 2e8

    def slower(run, factor, **changes):
        """A row of a run that took so many times as long as modelled."""
        facts = describe_data(run.config)
        cost = count_cost(run.config, run.model_class, facts.feature_map)
        seconds = factor * 3 * cost.training_seconds(RATES, facts.rows["train"])
        return row_of(run, epochs=3, train_seconds=seconds, rows=facts.rows, **changes)

    rows = [slower(other, 2.0), slower(other, 3.0), slower(other, 100.0), slower(far, 50.0)]
    found = estimate_one(one, rows)
    assert found.seconds - fixed == pytest.approx(3.0 * (plain - fixed))
    assert found.basis == "scaled by 3 other runs; epochs as before; data not encoded yet"
    for useless in (
        slower(far, 50.0),
        slower(other, 2.0, device=NAMES[GPU]),
        slower(other, 2.0, failed="killed"),
        slower(other, 2.0, expid="FM_of_mine"),
        slower(other, 2.0, config_hash="another"),
    ):
        assert estimate_one(one, [useless]).basis.startswith("cost model")


def test_another_gpu_of_the_same_kind_counts(plan):
    one = plan("FM_demo")
    rows = [row_of(one, device="cuda:0 (Some GPU)"), row_of(one, device="cuda:1 (Other)")]
    found = estimate_one(one, rows, GPU, GPU_RATES)
    assert found.basis == "measured, 1 run"
    assert found.gpu_bytes > 0
    rows[0] = replace(rows[0], peak_gpu_bytes=3 * 10**9)
    assert estimate_one(one, rows, GPU, GPU_RATES).gpu_bytes == 3 * 10**9


def test_epochs_never_exceed_what_the_config_allows(plan):
    one = plan("FM_demo", "epochs=2")
    assert estimate_one(one).epochs == 2
    assert estimate_one(one).basis == "cost model; epochs = 2, all; data not encoded yet"
    assert estimate_one(one, [row_of(plan("FM_demo"), epochs=9)]).epochs == 2


def test_estimates_are_sane(plan):
    expids = ["FM_avazu", "DeepFM_avazu", "DCNv2_avazu", "DCNv2_avazu_gen"]
    runs = [plan(expid) for expid in expids]
    on_cpu = estimate_runs(runs, [], CPU, RATES)
    on_gpu = estimate_runs(runs, [], GPU, GPU_RATES)
    seconds = [e.seconds for e in on_cpu]
    assert seconds == sorted(seconds)
    assert HOUR / 6 < seconds[0] < 2 * HOUR
    assert 8 * HOUR < seconds[-1] < 80 * HOUR
    assert all(20 < gpu.seconds < 3 * HOUR for gpu in on_gpu)
    # Four numbers a weight: 3,750,999 ids of width 17 are 1.02 GB. The rows are 4.04 GB.
    assert 5.1e9 < on_cpu[0].host_bytes < 7e9
    assert 5.1e9 < on_gpu[0].gpu_bytes < 7e9
    assert on_gpu[3].gpu_bytes > on_gpu[0].gpu_bytes
    assert on_cpu[0].disk_bytes == pytest.approx(4 * 17 * 3_750_999, rel=1e-6)


def test_more_work_takes_longer_and_more_memory(plan):
    base = estimate_one(plan("DCNv2_demo"))
    for change in ("num_cross_layers=6", "parallel_dnn_hidden_units=[2000]", "embedding_dim=64"):
        found = estimate_one(plan("DCNv2_demo", change))
        assert found.seconds > base.seconds, change
        assert found.host_bytes > base.host_bytes, change
        assert found.disk_bytes > base.disk_bytes, change
    longer = estimate_one(plan("DCNv2_demo", "early_stop_patience=5"))
    assert longer.seconds > base.seconds and longer.host_bytes == base.host_bytes
    often = estimate_one(plan("DCNv2_demo", "eval_steps=10"))
    assert often.seconds > base.seconds
    streamed = [plan("FM_avazu", f"streaming={flag}") for flag in ("true", "false")]
    less, more = estimate_runs(streamed, [], CPU, RATES)
    assert less.host_bytes < more.host_bytes - 3.5e9
    less, more = estimate_runs(streamed, [], GPU, GPU_RATES)
    assert less.gpu_bytes < more.gpu_bytes - 3.5e9


def test_rows_that_do_not_fit_on_the_gpu_stay_on_the_host(plan, monkeypatch):
    one = plan("FM_avazu")
    large = estimate_one(one, (), GPU, GPU_RATES)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7e9, 8e9))
    small = estimate_one(one, (), GPU, GPU_RATES)
    assert large.gpu_bytes - small.gpu_bytes > 4e9
    assert small.host_bytes > large.host_bytes


@pytest.mark.parametrize(
    ("expid", "total", "rows"),
    [
        ("FM_avazu", 3_750_999, (32_343_172, 4_042_897, 4_042_898)),
        ("FM_criteo", 2_086_329 + 13, (33_003_326, 8_250_124, 4_587_167)),
    ],
)
def test_stand_ins_have_the_published_sizes(plan, expid, total, rows):
    facts = describe_data(plan(expid).config)
    assert facts.feature_map.total_features == total
    assert tuple(facts.rows.values()) == rows
    assert not facts.is_encoded


def test_what_is_not_known_is_said_so(plan):
    found = estimate_one(plan("FM_frappe"))
    assert (found.seconds, found.host_bytes, found.disk_bytes) == (None, None, None)
    assert found.basis == "unknown: encode dataset 'frappe_x1' first"
    broken = plan("FM_demo_gen", "embedding_dim=6", "encoder=self_attention")
    found = estimate_one(broken)
    assert found.seconds is None
    assert "needs an embedding_dim divisible by 4" in found.basis

    class Counting(broken.model_class):
        def __init__(self, feature_map, **params):
            super().__init__(feature_map, **params)
            self.count = self.lr_layer.bias.sum().item()

    found = estimate_one(SimpleNamespace(config=plan("FM_demo").config, model_class=Counting))
    assert found.seconds is None and found.basis.startswith("unknown: ")


def test_built_data_are_described_without_their_rows(plan, tmp_path):
    folder = tmp_path / "raw"
    generate(folder, rows=2000)
    one = plan("FM_demo", *(f"{s}_data={folder}/{s}.csv" for s in ("train", "valid", "test")))
    encoded = prepare_dataset(one.config.dataset, one.config.data_dir, verbose=0)
    for path in encoded.paths.values():
        path.write_bytes(b"")
    facts = describe_data(one.config)
    assert facts.is_encoded
    assert facts.rows == {"train": 1600, "valid": 200, "test": 200}
    assert facts.feature_map.features == encoded.feature_map.features
    found = estimate_one(one)
    assert found.is_encoded
    assert found.basis == "cost model; epochs = patience 2 + 1"


def test_the_demo_data_are_those_that_were_generated(plan, tmp_path):
    generate(tmp_path / "data" / "Demo" / "demo_x1", rows=2000)
    facts = describe_data(plan("FM_demo").config)
    assert facts.rows == {"train": 1600, "valid": 200, "test": 200}
    assert not facts.is_encoded


def lines_of(text):
    return text.rstrip("\n").split("\n")


def test_a_plan_is_an_aligned_table_and_a_total(plan):
    runs = [plan("FM_demo"), plan("DCNv2_demo_gen", seed=7), plan("DeepFM_demo"), plan("FM_frappe")]
    found = [
        Estimate(50.0, 3, 600_000_000, None, 2_000_000, "measured, 1 run"),
        Estimate(7260.0, 12, 1_500_000_000, None, 5_000_000, "cost model"),
        Estimate(600.0, 3, 700_000_000, None, 400_000, "cost model", is_encoded=False),
        Estimate(None, 3, None, None, None, "unknown: encode it first"),
    ]
    lines = lines_of(format_plan(runs, found, {("FM_demo", 2019)}, jobs=1))
    assert lines == [
        "run  expid           seed  state   epochs        time  host memory  GPU memory  disk  "
        "basis",
        "  1  FM_demo         2019  done         3        50 s       600 MB           -  2 MB  "
        "measured, 1 run",
        "  2  DCNv2_demo_gen     7  to run      12  2 h 01 min       1.5 GB           -  5 MB  "
        "cost model",
        "  3  DeepFM_demo     2019  to run       3      10 min       700 MB           -  1 MB  "
        "cost model",
        "  4  FM_frappe       2021  to run       3           ?            ?           ?     ?  "
        "unknown: encode it first",
        "",
        "To run: 3 of 4 runs. About 2 h 11 min; 1.5 GB of host memory; 5 MB of disk for "
        "checkpoints, 15 MB for training states until the runs end. "
        "Not counted: 1 of unknown cost, encoding the data.",
    ]


def test_runs_at_a_time_shorten_the_sweep_and_share_the_memory(plan):
    runs = [plan("FM_demo", seed=seed) for seed in range(4)]
    times = (600.0, 3600.0, 1200.0, 1800.0)
    found = [Estimate(t, 3, 10**9, 2 * 10**9, 10**8, "cost model") for t in times]
    total = lines_of(format_plan(runs, found, (), jobs=2))[-1]
    # The first slot: 10, then 20, then 30 minutes; the second: an hour.
    assert total == (
        "To run: 4 of 4 runs, 2 at a time. About 1 h 00 min; 2.0 GB of host memory, 2.0 GB of GPU "
        "memory per run; 400 MB of disk for checkpoints, 600 MB for training states until the runs "
        "end."
    )
    assert "About 2 h 00 min" in format_plan(runs, found, (), jobs=1)
    done = {("FM_demo", seed) for seed in range(4)}
    assert "Nothing to run: all 4 runs are finished." in format_plan(runs, found, done)
