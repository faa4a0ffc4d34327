"""The three commands on a clone, with a small demo log."""

import csv
import json
import re
import sys

import h5py
import pytest

from fuxictr.experiment.tables import COLUMNS
from tests.preloaded import python

FIELDS = {
    "time", "model", "expid", "variant", "dataset_id", "seed", "config_hash", "data_hash",
    "run_id", "jobs", "processes", "config", "environment", "encoded", "resumes",
    "code_version", "code_hash", "valid", "test", "parameters", "epochs", "rows", "history",
    "collapse", "train_rows_per_second", "train_seconds", "peak_memory_bytes", "peak_gpu_bytes",
    "device", "threads", "versions", "checkpoint", "checkpoint_sha256", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(shell, clone):
    shell("bash", "1.prepare.sh", "demo", "--rows", "8000")
    done = shell("bash", "2.reproduce.sh", "--gpu", "-1", "--seeds", "5,6")
    return done, clone


def test_reproduce_announces_the_dataset_and_prints_the_table(trained):
    done, clone = trained
    first = "\n".join(done.stdout.splitlines()[:3])
    assert "embedded demo data" in first
    assert "bash 1.prepare.sh avazu" in first
    table = (clone / "results" / "demo_x1" / "table.md").read_text()
    assert table in done.stdout
    with open(clone / "results" / "demo_x1" / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["backbone"] for row in rows] == ["DeepFM", "Bayes ceiling"]
    truth = json.loads((clone / "data/Demo/demo_x1/ground_truth.json").read_text())
    assert float(rows[1]["dis_AUC_mean"]) == truth["splits"]["test"]["AUC"]
    assert float(rows[1]["dis_AUC_mean"]) > float(rows[0]["dis_AUC_mean"])


def test_table_averages_the_rows_of_the_store(trained):
    _, clone = trained
    lines = (clone / "results" / "results.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    assert len(runs) == 4
    assert all(set(r) == FIELDS for r in runs)
    with open(clone / "results" / "demo_x1" / "table.csv") as file:
        row = next(csv.DictReader(file))
    means = {}
    for variant in ("dis", "gen"):
        aucs = [r["test"]["AUC"] for r in runs if r["variant"] == variant]
        means[variant] = sum(aucs) / 2
        assert float(row[f"{variant}_AUC_mean"]) == pytest.approx(means[variant], abs=1e-12)
    lift = 100 * (means["gen"] - means["dis"]) / means["dis"]
    assert float(row["AUC_lift_percent"]) == pytest.approx(lift, abs=1e-9)


def test_run_files_have_the_forms_that_users_parse(trained):
    _, clone = trained
    folder = clone / "model_zoo" / "DeepFM"
    names = {path.name for path in (folder / "checkpoints" / "demo_x1").iterdir()}
    for stem in (f"{e}_seed{s}" for e in ("DeepFM_demo", "DeepFM_demo_gen") for s in (5, 6)):
        assert {f"{stem}.model", f"{stem}.log"} <= names
    log = (folder / "checkpoints" / "demo_x1" / "DeepFM_demo_seed5.log").read_text()
    for pattern in (
        r"\[Metrics\] AUC: 0\.\d{6} - logloss: \d\.\d{6}",
        r"Save best model: monitor\(max\)=-?\d\.\d{6}",
        r"Train loss: \d\.\d{6}",
        r"Total number of parameters: \d+\.",
    ):
        assert re.search(pattern, log), pattern
    lines = (folder / "config.csv").read_text().splitlines()
    marks = ("[command] python ", "[exp_id] DeepFM_demo,")
    line = next(line for line in lines if all(mark in line for mark in marks))
    number = r"AUC: 0\.\d{6} - logloss: \d\.\d{6}"
    assert re.fullmatch(
        r" \d{8}-\d{6},\[command\] python .*,\[exp_id\] DeepFM_demo,\[dataset_id\] demo_x1,"
        rf"\[train\] N.A.,\[val\] {number},\[test\] {number}",
        line,
    )


def test_encoded_data_is_reused_by_the_second_run(trained):
    done, _ = trained
    assert done.stderr.count("Reusing the encoded dataset") == 4


def test_same_seed_same_bits_whatever_the_workers(trained, shell):
    _, clone = trained
    command = ["model_zoo/DeepFM/run_expid.py", "--config", "./config/", "--gpu", "-1"]
    command += ["--expid", "DeepFM_demo_gen", "--seed", "5", "--set"]
    for program, workers in ((python(), "1"), (sys.executable, "7")):
        shell("env", program, *command, f"num_workers={workers}")
    lines = (clone / "results" / "results.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    same = [r for r in runs if r["expid"] == "DeepFM_demo_gen" and r["seed"] == 5]
    assert len(same) == 3
    for key in ("valid", "test", "config_hash", "data_hash", "code_hash"):
        assert same[0][key] == same[1][key] == same[2][key]


def test_analysis_draws_all_figures(trained, shell):
    _, clone = trained
    done = shell("bash", "3.analyze.sh", "--gpu", "-1")
    assert "RankMe" in done.stdout
    folder = clone / "figure" / "final" / "demo_x1"
    stems = ("DeepFM_collapse", "DeepFM_dis_correlation", "DeepFM_gen_correlation")
    for stem in stems:
        assert (folder / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{stem}.csv").stat().st_size > 1000
    with open(folder / "DeepFM_summary.csv") as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["dis", "gen"]
    path = clone / "figure" / "raw_data" / "demo_x1" / "DeepFM_demo_gen" / "records.h5"
    with h5py.File(path) as file:
        assert file["model"]["gen"].shape == (800, 24, 16)


def test_plot_scripts_draw_the_same_figures(trained, shell):
    _, clone = trained
    shell("bash", "3.analyze.sh", "--gpu", "-1")
    folder = clone / "figure" / "final" / "demo_x1"
    options = ["--model", "DeepFM", "--dataset-id", "demo_x1"]
    options += ["--expids", "DeepFM_demo", "DeepFM_demo_gen"]
    for script, name in (("collapse", "DeepFM_collapse"), ("cov_matrix", "DeepFM_gen_correlation")):
        before = (folder / f"{name}.csv").read_bytes()
        (folder / f"{name}.png").unlink()
        shell(python(), f"plot_paper_{script}.py", *options)
        assert (folder / f"{name}.csv").read_bytes() == before
        assert (folder / f"{name}.png").is_file()


def test_unprepared_dataset_names_the_command(shell):
    done = shell("bash", "2.reproduce.sh", "--dataset", "criteo", status=1)
    assert "run: bash 1.prepare.sh criteo" in done.stderr
    assert "Traceback" not in done.stderr


def test_analysis_before_training(trained, shell):
    done = shell(
        python(), "analyze.py", "--model", "FM", "--expid", "FM_demo", "--gpu", "-1", status=1
    )
    assert "FM_demo.model: no such checkpoint; train first: python model_zoo/FM/run_expid.py" in (
        done.stderr
    )


@pytest.mark.parametrize("script", ["1.prepare.sh", "2.reproduce.sh", "3.analyze.sh"])
def test_help(shell, script):
    assert "usage:" in shell("bash", script, "--help").stdout
