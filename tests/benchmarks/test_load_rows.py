"""load_rows.py on few rows, and its arithmetic."""

import math
import sys

import pytest
import yaml


@pytest.fixture
def load_rows(script):
    return script("load_rows")


def test_rows_are_loaded_and_trained_on(run_script, tmp_path):
    work = tmp_path / "work"
    printed, stored = run_script("load_rows", "--sizes", "1000", "--repeats", "1", "--work", work)
    load, train = stored["runs"]
    assert stored["columns"] == 25
    assert (load["step"], load["rows"], load["data_bytes"]) == ("load", 1000, 4 * 25 * 1000)
    assert load["rows_per_second"] <= load["load_rows_per_second"]
    assert load["pass_rows_per_second_each"] == [load["pass_rows_per_second"]]
    if sys.platform == "linux":
        assert load["grown_ratio"] == pytest.approx(load["grown_mb"] / 0.1, abs=0.02)
        assert load["grown_peak_mb"] >= load["grown_mb"] - 0.1
    assert train["step"] == "train" and train["rows_per_second"] > 0
    assert stored["ratios"] == []
    assert "cells     bytes per row: 100" in printed


def test_small_sizes_are_trained_several_times_over(script, tmp_path):
    large_run = script("large_run")
    sizes = [100, 250, 1000]
    large_run.write_config(str(tmp_path), "FM", "FM_avazu", sizes, trained_rows=1000)
    written = yaml.safe_load((tmp_path / "config" / "model_config.yaml").read_text())
    for rows in sizes:
        keys = written[f"memory_{rows}"]
        assert keys["epochs"] == keys["early_stop_patience"] == math.ceil(1000 / rows)
    large_run.write_config(str(tmp_path), "FM", "FM_avazu", sizes)
    written = yaml.safe_load((tmp_path / "config" / "model_config.yaml").read_text())
    assert {written[f"stream_{rows}"]["epochs"] for rows in sizes} == {1}


def run(step, rows, rate, memory=None):
    rates = {"rows_per_second": rate[1], "rows_per_second_each": rate}
    rates |= {f"pass_{key}": value for key, value in rates.items()}
    key = {"load": "grown_mb", "peer_load": "tree_peak_mb", "train": "peak_mb"}[step]
    return {"step": step, "rows": rows, **rates, key: memory}


def test_memory_is_that_of_added_rows(load_rows):
    records = [run("load", n, [1, 1, 1], 20 + n * 100 / 1e6) for n in (1000, 10_000, 90_000)]
    records += [run("train", n, [1, 1, 1], 500 + n * 120 / 1e6) for n in (1000, 10_000, 90_000)]
    records += [run("peer_load", n, [1, 1, 1]) for n in (1000, 10_000, 90_000)]
    assert load_rows.added_bytes(records) == {"load": [100.0, 100.0], "train": [120.0, 120.0]}


def test_ratios_are_of_pairs(load_rows):
    records = [run("load", 9, [8, 12, 9]), run("peer_load", 9, [4, 2, 1])]
    (found,) = load_rows.ratios(records)
    assert (found["ratio"], found["ratio_each"]) == (6.0, [2.0, 6.0, 9.0])
    assert (found["pass_ratio"], found["rows"]) == (6.0, 9)


def test_medians_keep_each_rate_and_know_nothing_of_what_one_run_lacks(load_rows):
    runs = [{"rows_per_second": r, "grown_mb": m} for r, m in ((1, 5.0), (9, None), (4, 7.0))]
    found = load_rows.medians(runs)
    assert found == {"rows_per_second": 4, "rows_per_second_each": [1, 9, 4], "grown_mb": None}
