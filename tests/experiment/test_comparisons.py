"""DIS beside GEN, averages over backbones, arms of ablations: what counts and what is left out."""

import math
import statistics

import pytest
import scipy.stats

from fuxictr.errors import ConfigError
from fuxictr.experiment.results.config_record import config_record
from fuxictr.experiment.results.identity import PresentData
from fuxictr.experiment.tables.comparisons import (
    ablation_results,
    average,
    compare_backbones,
)
from fuxictr.experiment.zoo.ablations import find_arms
from fuxictr.experiment.zoo.models import find_folder, load_experiment
from tests.experiment.result_rows import (
    DEMO,
    SEEDS,
    make_failed,
    make_pair,
    make_row,
    present_hashes,
    records,
)

DIS, GEN = [0.70, 0.72, 0.74], [0.75, 0.76, 0.80]


def test_means_deviations_lifts_p_and_overheads():
    (fm,) = compare_backbones(records(make_pair("FM", DIS, GEN)), ["FM"], "demo")
    assert (fm.backbone, fm.dis.expid, fm.gen.expid) == ("FM", "FM_demo", "FM_demo_gen")
    assert fm.gen.seeds == SEEDS
    assert fm.dis.mean("AUC") == pytest.approx(0.72)
    assert fm.dis.std("AUC") == pytest.approx(statistics.stdev(DIS))
    assert fm.lift("AUC") == pytest.approx(100 * (0.77 - 0.72) / 0.72)
    assert fm.lift("logloss") == pytest.approx(100 * (0.43 - 0.48) / 0.48)
    assert fm.p_value("AUC") == pytest.approx(scipy.stats.ttest_rel(GEN, DIS).pvalue)
    assert fm.overhead("parameters") == pytest.approx(50)
    assert fm.overhead("train_seconds") == pytest.approx(20)
    assert fm.overhead("seconds_per_row") == pytest.approx(25), "100 / 80 rows a second"
    assert fm.overhead("peak_memory") == pytest.approx(50)
    assert fm.notes == fm.cost_notes == []


def test_runs_that_shared_a_device_have_no_overhead_over_runs_that_did_not():
    rows = make_pair("FM", DIS, GEN)
    rows = [row | {"jobs": 2} if row["variant"] == "gen" else row for row in rows]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.overhead("train_seconds") is None
    assert "cpu (x86_64, 2 threads), 2 runs at a time" in fm.cost_notes[0]


def test_one_seed_has_neither_deviation_nor_p():
    (fm,) = compare_backbones(records(make_pair("FM", DIS[:1], GEN[:1])), ["FM"], "demo")
    assert fm.lift("AUC") is not None
    assert fm.dis.std("AUC") is None
    assert fm.p_value("AUC") is None


def test_a_missing_run_leaves_no_number_of_its_side():
    rows = make_pair("FM", DIS, GEN[:2])
    (fm,) = compare_backbones(records(rows), ["FM"], "demo", SEEDS)
    assert fm.gen.missing == {2021: "not run"}
    assert not fm.gen.is_complete
    assert fm.gen.values("AUC") == []
    numbers = [fm.gen.mean("AUC"), fm.gen.std("AUC"), fm.lift("AUC"), fm.p_value("AUC")]
    numbers += [fm.overhead("parameters"), fm.gen.train_seconds, fm.gen.peak_memory]
    assert numbers == [None] * 7
    assert fm.dis.mean("AUC") == pytest.approx(0.72), "the other side has all its seeds"
    assert fm.notes == ["FM GEN: seed 2021 not run"]
    assert compare_backbones(records(rows), ["FM"], "demo", SEEDS[:2])[0].is_complete


def test_a_failed_run_says_why():
    rows = make_pair("FM", DIS, GEN[:1])
    rows += [make_failed("FM_demo_gen", seed, "out\n of \x1b memory") for seed in (2020, 2021)]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.gen.status == "1 of 3 runs"
    assert fm.notes == ["FM GEN: seeds 2020, 2021 failed: out of memory"]
    rows += [make_failed("FM_demo_gen", 2021, "x" * 500 + " y" * 500)]
    assert max(map(len, compare_backbones(records(rows), ["FM"], "demo")[0].notes)) < 300


def test_a_run_that_failed_when_run_again_counts_and_says_so():
    rows = [*make_pair("FM", DIS, GEN), make_failed("FM_demo", 2020, "disk full")]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.is_complete
    assert fm.notes == ["FM DIS: seed 2020 failed: disk full, when run again"]


def test_runs_of_another_config_do_not_fill_a_gap():
    rows = [make_row("FM_demo", 2020, 0.1, config_hash="old"), *make_pair("FM", DIS[:1], GEN[:1])]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo", SEEDS[:2])
    assert fm.dis.missing == {2020: "run with another config, data or code"}
    assert fm.gen.missing == {2020: "not run"}
    other = make_row("FM_demo", 2020, 0.1, dataset_id="other")
    (fm,) = compare_backbones(records([other, *rows[1:]]), ["FM"], "demo", SEEDS[:2])
    assert fm.dis.missing == {2020: "not run"}


@pytest.mark.parametrize("test", [None, {"AUC": math.nan, "logloss": 0.5}])
def test_a_run_without_a_usable_metric_is_missing(test):
    rows = make_pair("FM", DIS, GEN)
    rows[1]["test"] = test
    if test is None:
        del rows[1]["test"]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.dis.mean("logloss") is None
    reason = "metrics are missing" if test is None else "AUC is nan"
    assert fm.notes == [f"FM DIS: seed 2020 failed: test {reason}"]


def test_a_metric_that_was_not_asked_for_is_blank_and_named():
    rows = make_pair("FM", DIS, GEN)
    del rows[0]["test"]["logloss"]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.lift("AUC") is not None
    assert fm.lift("logloss") is None
    assert fm.notes == ["FM DIS: logloss is not among the test metrics of every run"]


def test_a_run_by_hand_does_not_take_the_place_of_the_sweeps():
    sweep = make_pair("FM", DIS, GEN)
    by_hand = make_row("FM_demo", 2020, 0.1, config_hash="by hand")
    failed = make_failed("FM_demo_gen", 2020, "by hand") | {"config_hash": "by hand"}
    rows = [*sweep, by_hand, failed]
    for seeds in (None, SEEDS):
        (fm,) = compare_backbones(records(rows), ["FM"], "demo", seeds)
        assert fm.dis.values("AUC") == DIS
        assert fm.notes == []
    rows = [row for row in rows if (row["expid"], row["seed"]) != ("FM_demo", 2020)] + [by_hand]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo", SEEDS)
    assert fm.dis.missing == {2020: "run with another config, data or code"}
    (fm,) = compare_backbones(records([by_hand]), ["FM"], "demo")
    assert fm.notes == [
        "FM DIS: seed 2020 run with another config, data or code",
        "FM GEN: seed 2020 not run",
    ], "there is nothing else to show"


@pytest.mark.parametrize("changes", [{}, {"code_hash": "changed since"}])
@pytest.mark.parametrize("backbones", [["FM"], ["FM", "PNN"]])
def test_a_seed_of_one_side_alone_is_left_out_and_named(backbones, changes):
    rows = make_pair("FM", DIS, GEN) + make_pair("PNN", DIS, GEN)
    rows.append(make_row("FM_demo", 7, 0.1, **changes))
    for c in compare_backbones(records(rows), backbones, "demo"):
        assert (c.is_complete, c.dis.seeds, c.gen.seeds) == (True, SEEDS, SEEDS)
        assert c.notes == [
            "FM DIS: seed 7 of FM_demo left out: no run to pair with, of the same data and code"
        ] * (c.backbone == "FM")
    (fm,) = compare_backbones(records(rows), ["FM"], "demo", [2019])
    assert fm.notes == [], "who names the seeds knows which are left out"
    rows.append(make_failed("FM_demo_gen", 7, "disk full"))
    failed = compare_backbones(records(rows), ["FM"], "demo")[0].gen.missing.get(7)
    assert failed == (None if changes else "failed: disk full"), (
        "a run of other code pairs with none"
    )


def test_seeds_of_stale_runs_are_left_out_and_named():
    old = make_pair("FM", DIS, GEN, code_hash="old")
    rows = old + make_pair("FM", DIS[:2], GEN[:2])
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert (fm.is_complete, fm.dis.seeds) == (True, SEEDS[:2])
    assert [note.partition(" left out")[0] for note in fm.notes] == [
        "FM DIS: seed 2021 of FM_demo",
        "FM GEN: seed 2021 of FM_demo_gen",
    ]


def test_one_side_alone_has_its_seeds():
    (fm,) = compare_backbones(records(make_pair("FM", DIS, [])), ["FM"], "demo")
    assert fm.dis.mean("AUC") == pytest.approx(0.72)
    assert fm.notes == ["FM GEN: seeds 2019, 2020, 2021 not run"]


def test_each_backbone_may_have_its_own_seeds():
    rows = make_pair("FM", DIS, GEN) + make_pair("PNN", DIS, GEN)
    fm, pnn = compare_backbones(
        records(rows), ["FM", "PNN"], "demo", {"FM": [2019], "PNN": [2020, 5]}
    )
    assert (fm.dis.seeds, pnn.dis.seeds) == ((2019,), (5, 2020))
    assert (fm.is_complete, pnn.notes[0]) == (True, "PNN DIS: seed 5 not run")


def test_all_seeds_of_any_backbone_are_asked_for_unless_told():
    rows = make_pair("FM", DIS, GEN) + make_pair("PNN", DIS[:1], GEN[:1])
    _, pnn = compare_backbones(records(rows), ["FM", "PNN"], "demo")
    assert pnn.dis.seeds == SEEDS
    assert pnn.notes == [f"PNN {v}: seeds 2020, 2021 not run" for v in ("DIS", "GEN")]
    (fwfm,) = compare_backbones(records(rows), ["FwFM"], "demo")
    assert (fwfm.is_complete, fwfm.dis.status) == (False, "not run")
    assert fwfm.notes == ["FwFM DIS: not run", "FwFM GEN: not run"]


def test_unlike_data_or_code_is_noted(monkeypatch):
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: None)  # as without data
    rows = make_pair("FM", DIS, GEN)
    for row in rows[3:]:
        row.update(data_hash="other", code_hash="new")
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    now = present_hashes("FM_demo")
    data, code = now["data_hash"], now["code_hash"]
    # Whether the data at hand are known depends on the machine.
    assert [note for note in fm.notes if "other data" not in note] == [
        f"FM GEN: run with other code (code_hash new, now {code})",
        f"FM: DIS and GEN ran with different data (data_hash {data}, other)",
        f"FM: DIS and GEN ran with different code (code_hash {code}, new)",
    ]


def test_rows_of_other_code_or_data_do_not_take_the_place_of_the_present_ones():
    """Code that is edited and reverted, data A, B and A again: the newest row is not this run."""
    rows = make_pair("FM", DIS, GEN)
    rows += make_pair("FM", [0.99] * 3, [0.999] * 3, code_hash="edited")
    rows += make_pair("FM", [0.99] * 3, [0.999] * 3, config_hash="edited")
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert (fm.dis.mean("AUC"), fm.notes) == (pytest.approx(0.72), [])


def test_rows_of_other_data_do_not_take_the_place_of_the_present_ones(monkeypatch):
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: "A")
    rows = make_pair("FM", DIS, GEN, data_hash="A")
    rows += make_pair("FM", [0.99] * 3, [0.999] * 3, data_hash="B")
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert (fm.dis.mean("AUC"), fm.notes) == (pytest.approx(0.72), [])
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: "C")
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.notes[0] == "FM DIS: run with other data (data_hash B, now C)"
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: None)
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert "those at hand are not encoded: data_hash B" in fm.notes[0]


def test_rows_of_another_folder_or_of_other_paths_are_not_the_expids(tmp_path, monkeypatch):
    """A user's folder with the zoo's expids, and a run with --set test_data=..., are other runs."""
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: None)
    rows = make_pair("FM", DIS, GEN)
    config, model_class = load_experiment("FM_demo", find_folder("FM"))
    record = vars(config_record(config, model_class))
    own = {**record, "folder": str(tmp_path), "zoo": str(tmp_path)}
    moved = {**record, "folder": "/gone/model_zoo/FM/config", "zoo": "/gone/model_zoo/FM"}
    keys = {origin: dict(found) for origin, found in record["keys"].items()}
    for found in keys.values():
        found.pop("test_data", None)
    elsewhere = {**record, "keys": {**keys, "command line (--set)": {"test_data": "./other.csv"}}}
    for changed, is_taken in ((record, True), (moved, True), (own, False), (elsewhere, False)):
        newer = [make_row("FM_demo", seed, 0.99, config=changed) for seed in SEEDS]
        (fm,) = compare_backbones(records([*rows, *newer]), ["FM"], "demo")
        assert fm.dis.mean("AUC") == pytest.approx(0.99 if is_taken else 0.72)


def test_raw_files_that_changed_since_they_were_encoded_are_noted(monkeypatch):
    monkeypatch.setattr(PresentData, "data_hash", lambda self, config: None)
    reason = "the raw files of the test split changed"
    monkeypatch.setattr(PresentData, "stale_reason", lambda self, config: reason)
    (fm,) = compare_backbones(records(make_pair("FM", DIS, GEN)), ["FM"], "demo")
    assert fm.is_complete
    assert fm.notes[0] == (
        f"FM DIS: run with other data than the raw files hold now ({reason}; not encoded yet)"
    )


def test_sides_of_unlike_torch_or_processes_are_noted():
    rows = make_pair("FM", DIS, GEN)
    for row in rows[3:]:
        row |= {"versions": {"torch": "1.0"}, "processes": 4}
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.notes == [
        "FM: DIS and GEN ran with different torch (None, 1.0)",
        "FM: DIS and GEN ran with different processes (1, 4)",
    ]


def test_seeds_of_unlike_torch_threads_processes_or_device_are_averaged_with_a_note():
    rows = make_pair("FM", DIS, GEN)
    assert compare_backbones(records(rows), ["FM"], "demo")[0].notes == []
    rows[0] |= {"processes": 2, "threads": 8, "versions": {"torch": "2.4.0"}}
    rows[1] |= {"device": "cuda:1 (A card)"}
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    (note,) = fm.notes
    for name in ("torch: 2.4.0 (seed 2019)", "threads: 8 (", "processes: 2 (", "device: cpu"):
        assert f"the seeds ran with unlike {name}" in note


def test_time_and_memory_are_compared_on_one_kind_of_device_alone():
    gpu = {"peak_gpu_bytes": 1000, "peak_memory_bytes": 7}
    rows = make_pair("FM", DIS, GEN, **gpu)
    for number, row in enumerate(rows):
        row["device"] = f"cuda:{number} (A card)"
    rows[-1]["peak_gpu_bytes"] = 4000
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.gen.peak_memory == 1000, "the median, of the GPU"
    assert fm.overhead("train_seconds") == pytest.approx(20)
    rows[-1]["device"] = "cuda:0 (B card)"
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert (fm.overhead("train_seconds"), fm.overhead("peak_memory")) == (None, None)
    assert fm.overhead("parameters") == pytest.approx(50)
    assert fm.cost_notes == [
        "FM: no overhead, DIS ran on cuda (A card), GEN on cuda (A card), cuda (B card)"
    ]


def test_rows_without_the_newer_keys_have_no_cost():
    rows = make_pair("FM", DIS, GEN)
    for row in rows:
        for key in ("peak_memory_bytes", "peak_gpu_bytes", "rows"):
            del row[key]
    (fm,) = compare_backbones(records(rows), ["FM"], "demo")
    assert fm.overhead("peak_memory") is None
    assert fm.overhead("train_seconds") is not None


def test_averages_are_over_complete_backbones_and_name_the_others():
    rows = make_pair("FM", DIS, GEN) + make_pair("FwFM", [0.8] * 3, [0.82] * 3)
    rows += make_pair("DeepFM", [0.5] * 3, [0.6] * 3) + make_pair("CrossNet", DIS, GEN[:2])
    names = ["CrossNet", "DeepFM", "FM", "FwFM"]
    comparisons = compare_backbones(records(rows), names, "demo")
    whole, explicit, of_paper, explicit_of_paper = average(comparisons, [*names, "xDeepFM"])
    assert [c.backbone for c in whole.over] == ["DeepFM", "FM", "FwFM"]
    assert (whole.incomplete, whole.absent) == (("CrossNet",), ("xDeepFM",))
    assert whole.left_out == ("CrossNet", "xDeepFM")
    assert whole.describe().endswith("missing runs: CrossNet; not in this table: xDeepFM")
    lifts = [100 * (0.6 - 0.5) / 0.5, 100 * (0.77 - 0.72) / 0.72, 100 * 0.02 / 0.8]
    assert whole.lift("AUC") == pytest.approx(sum(lifts) / 3)
    assert whole.mean("dis", "AUC") == pytest.approx((0.5 + 0.72 + 0.8) / 3)
    assert whole.overhead("parameters") == pytest.approx(50)
    assert [c.backbone for c in explicit.over] == ["FM", "FwFM"]
    assert explicit.lift("AUC") == pytest.approx(sum(lifts[1:]) / 2)
    assert explicit.left_out == ("CrossNet",)
    assert "average over FM, FwFM; left out for missing runs: CrossNet" in explicit.describe()
    labels = ["all", "explicit", "paper", "paper explicit"]
    assert [a.label for a in (whole, explicit, of_paper, explicit_of_paper)] == labels
    assert [c.backbone for c in of_paper.over] == ["FM", "DeepFM"]
    assert of_paper.lift("AUC") == pytest.approx((lifts[0] + lifts[1]) / 2)
    assert of_paper.left_out == ("CrossNet", "FmFM", "xDeepFM", "PNN", "DCNv2")
    assert [c.backbone for c in explicit_of_paper.over] == ["FM"]
    assert not any(a.is_comparable for a in (whole, explicit, of_paper, explicit_of_paper))


def test_the_papers_averages_are_without_fwfm_and_comparable_where_whole():
    names = ["FM", "FwFM", "FmFM", "CrossNet", "DeepFM", "xDeepFM", "PNN", "DCNv2"]
    gens = [0.6 + 0.01 * place for place in range(len(names))]
    rows = [r for n, gen in zip(names, gens, strict=True) for r in make_pair(n, [0.5], [gen])]
    found = {a.label: a for a in average(compare_backbones(records(rows), names, "demo"), names)}
    lifts = dict(zip(names, (100 * (gen - 0.5) / 0.5 for gen in gens), strict=True))
    of_paper = sum(lifts.values()) - lifts["FwFM"]
    assert found["all"].lift("AUC") == pytest.approx(sum(lifts.values()) / 8)
    assert found["paper"].lift("AUC") == pytest.approx(of_paper / 7)
    explicit = (lifts["FM"] + lifts["FmFM"] + lifts["CrossNet"]) / 3
    assert found["paper explicit"].lift("AUC") == pytest.approx(explicit)
    comparable = [label for label, a in found.items() if a.is_comparable]
    assert comparable == ["paper", "paper explicit"]


def test_averages_of_nothing_are_blank():
    comparisons = compare_backbones([], ["FM", "DeepFM"], "demo")
    for found in average(comparisons, ["FM", "DeepFM"]):
        assert (found.over, found.lift("AUC"), found.mean("gen", "AUC")) == ((), None, None)
    labels = [a.label for a in average(comparisons[1:], ["DeepFM"])]
    assert labels == ["all", "paper"], "no average of backbones of which none is known"


def test_arms_stand_in_order_and_miss_what_they_miss():
    arms = find_arms("DCNv2", "demo", "source")
    rows = [make_row(arm.expid, s, 0.7 + n / 100) for n, arm in enumerate(arms) for s in SEEDS]
    rows = [row for row in rows if (row["expid"], row["seed"]) != (arms[1].expid, 2020)]
    results = ablation_results(records(rows), arms, DEMO)
    assert [r.arm.word for r in results] == ["dis", "own", "high", "low", "full"]
    assert [r.side.is_complete for r in results] == [True, False, True, True, True]
    assert results[-1].side.mean("AUC") == pytest.approx(0.74)
    assert ablation_results(records(rows), arms, DEMO, [2019])[1].side.is_complete


def test_arms_are_asked_for_the_seeds_that_one_of_them_shares_with_gen():
    arms = find_arms("DCNv2", "demo", "source")
    seeds = {"dis": (1, 2, 3), "own": (1, 2), "high": (1, 9), "low": (), "full": (1, 2, 3)}
    rows = [make_row(arm.expid, seed, 0.7) for arm in arms for seed in seeds[arm.word]]
    rows.append(make_failed(arms[3].expid, 3, "disk full"))
    results = {r.arm.word: r.side for r in ablation_results(records(rows), arms, DEMO)}
    assert {side.seeds for side in results.values()} == {(1, 2, 3)}
    assert [word for word, side in results.items() if side.is_complete] == ["dis", "full"]
    assert results["low"].missing == {1: "not run", 2: "not run", 3: "failed: disk full"}
    assert "seed 9 of DCNv2_demo_gen_source_high left out" in results["high"].notes("high")[0]
    results = {r.arm.word: r.side for r in ablation_results(records(rows[:-1]), arms, DEMO)}
    assert results["full"].seeds == (1, 2)
    assert "seed 3 of DCNv2_demo_gen left out" in results["full"].notes("GEN")[0]
    without_gen = [row for row in rows if row["expid"] != "DCNv2_demo_gen"]
    results = {r.arm.word: r.side for r in ablation_results(records(without_gen), arms, DEMO)}
    assert results["full"].missing == dict.fromkeys((1, 2, 3, 9), "not run")


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="--model Fm: allowed"):
        compare_backbones([], ["Fm"], "demo")
    with pytest.raises(ConfigError, match="--dataset demos: no expid of FM"):
        compare_backbones([], ["FM"], "demos")
