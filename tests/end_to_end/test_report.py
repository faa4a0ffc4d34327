"""bash 3.analyze.sh --report on a small clone of its own: every section, figure and number."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess

import h5py
import pytest
from PIL import Image

from fuxictr.cli.analyze import main_all
from tests.preloaded import python

SECTIONS = [
    "What was run", "DIS and GEN", "Average lifts", "Beside published figures", "Spectra",
    "Correlations", "Field by field", "AUC and redundancy", "Ablations", "Training", "Cost",
    "What is missing",
]  # fmt: skip
FIGURES = {
    *(f"{b}_{f}" for b in ("FM", "DCNv2") for f in ("collapse", "fields", "cardinality")),
    *(f"{b}_{v}_correlation" for b in ("FM", "DCNv2") for v in ("dis", "gen")),
    *("FM_training", "DCNv2_training", "DCNv2_layers", "DCNv2_activation", "redundancy"),
    "DCNv2_collapse_curve",
}
# One process trains all runs, so that torch is imported once; one arm of an ablation is enough.
TRAIN = """
import torch
from fuxictr.experiment.sweep.plan import plan_ablations, plan_backbones
from fuxictr.experiment.run.run import RESULTS, RunOptions, run_experiment

runs = plan_backbones(["FM", "DCNv2"], "demo", ["dis", "gen"], "5,6")
arms = plan_ablations(["DCNv2"], "demo", ["activation"], "5,")
for run in [*runs, *(arm for arm in arms if arm.expid.endswith("_tanh"))]:
    options = RunOptions(results_file=RESULTS)
    run_experiment(run.config, run.model_class, torch.device("cpu"), options)
"""

RECORD = """
from fuxictr.analysis.sample import Sample
from fuxictr.experiment.report.evidence import gather, record
from fuxictr.experiment.results.store import read_results

rows = read_results("results/results.jsonl")
evidence = gather(rows, "demo", ["FM", "DCNv2"], None)
record(evidence, -1, Sample())
print(evidence.unrecorded)
record(evidence, -1, Sample(num_rows=100))
record(evidence, -1, Sample(num_rows=100), again=True)
"""


@pytest.fixture(scope="module")
def small(clone, tmp_path_factory):
    """A clone with narrow models and one epoch; returns its folder and a runner of commands."""
    root = tmp_path_factory.mktemp("report") / "GE4Rec"
    generated = shutil.ignore_patterns("results.jsonl", "figure", "checkpoints", "data")
    shutil.copytree(clone, root, ignore=generated)
    for model in ("FM", "DCNv2"):
        config = root / "model_zoo" / model / "config" / "model_config.yaml"
        text = re.sub(r"(?m)^  epochs: \d+$", "  epochs: 1", config.read_text())
        config.write_text(text.replace("  embedding_dim: 16\n", "  embedding_dim: 4\n"))

    def call(*command: str, status: int = 0) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHON": python()}
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done

    call("bash", "1.prepare.sh", "demo", "--rows", "4000")
    return root, call


@pytest.fixture(scope="module")
def report(small):
    root, call = small
    call(python(), "-c", TRAIN)
    done = call("bash", "3.analyze.sh", "--report", "--gpu", "-1")
    folder = root / "results" / "demo_x1"
    return done, (folder / "report.html").read_text(), (folder / "report.md").read_text()


def means(root) -> dict[tuple[str, str], float]:
    """Returns the mean test AUC of DIS and GEN from the results store, by a plain formula."""
    rows = [json.loads(r) for r in (root / "results" / "results.jsonl").read_text().splitlines()]
    found = {}
    for backbone in ("FM", "DCNv2"):
        for variant, expid in (("DIS", f"{backbone}_demo"), ("GEN", f"{backbone}_demo_gen")):
            values = [row["test"]["AUC"] for row in rows if row["expid"] == expid]
            assert len(values) == 2
            found[backbone, variant] = sum(values) / 2
    return found


def test_nothing_trained(small):
    _, call = small
    done = call("bash", "3.analyze.sh", "--report", "--gpu", "-1", "--model", "PNN", status=1)
    assert "bash 2.reproduce.sh --model PNN --dataset demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gpu_that_does_not_exist(report, small):
    _, call = small
    done = call("bash", "3.analyze.sh", "--report", "--gpu", "17", status=1)
    assert "--gpu 17" in done.stderr


def test_sections_and_figures(report, small):
    done, html, markdown = report
    root, _ = small
    assert "0 are up to date, 9 to make" in done.stdout
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == SECTIONS == re.findall(r"(?m)^## (.*)$", markdown)
    images = re.findall(r'<img src="data:image/png;base64,([^"]+)"[^>]* alt="([^"]+)"', html)
    assert len(images) == html.count("<img ") == len(FIGURES)
    for content, alt in images:
        Image.open(io.BytesIO(base64.b64decode(content))).load()
        assert len(alt) > 10
    shown = {re.sub(r".*/|\.png", "", link) for link in re.findall(r"\(([^)]+\.png)\)", markdown)}
    assert shown == FIGURES
    for link in re.findall(r"\]\(([^)]+)\)", markdown):
        assert (root / "results" / "demo_x1" / link).resolve().is_file(), link
    for anchor in re.findall(r'href="#([^"]+)"', html):
        assert f'<section id="{anchor}">' in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)|<script|<link', html)


def test_numbers_are_those_of_the_results(report, small):
    _, html, markdown = report
    root, _ = small
    found = means(root)
    for (backbone, variant), value in found.items():
        row = next(line for line in markdown.splitlines() if line.startswith(f"| {backbone} "))
        cell = row.split("|")[{"DIS": 2, "GEN": 3}[variant]]
        assert cell.split("±")[0].strip() == f"{value:.6f}"
        assert f"{value:.6f}" in html
    for backbone in ("FM", "DCNv2"):
        dis, gen = found[backbone, "DIS"], found[backbone, "GEN"]
        word = "higher" if gen > dis else "lower"
        assert re.search(rf"the {word} test AUC on (all 2|\d \(({backbone})\))", markdown)
    lifts = [100 * (found[b, "GEN"] / found[b, "DIS"] - 1) for b in ("FM", "DCNv2")]
    assert f"mean relative lift of AUC is {sum(lifts) / 2:+.3f} %" in markdown
    with open(root / "figure" / "final" / "demo_x1" / "redundancy.csv") as file:
        points = list(csv.DictReader(file))
    assert len(points) == 8
    assert "over 8 runs" in markdown
    mean = sum(float(p["redundancy"]) for p in points if p["backbone"] == "FM") / 4
    rows = [r.split("|") for r in markdown.splitlines() if re.match(r"\| FM +\| (DIS|GEN) ", r)]
    shown = [float(row[8].split("±")[0]) for row in rows]
    assert len(shown) == 2
    assert sum(shown) / 2 == pytest.approx(mean, abs=1e-4)


def test_what_is_missing_is_named(report):
    _, html, markdown = report
    missing = markdown.partition("## What is missing")[2]
    for backbone in ("CrossNet", "DeepFM", "FmFM", "FwFM", "PNN", "xDeepFM"):
        assert f"- {backbone}: not trained" in missing
    assert "bash 2.reproduce.sh --model CrossNet,DeepFM" in missing
    assert "--dataset demo --seeds 5,6" in missing
    assert "bash 2.reproduce.sh --ablation activation --model DCNv2 --dataset demo" in missing
    assert "not drawn: ablation of DCNv2, activation: no figure of the activation" in missing
    assert "bash 3.analyze.sh --report --dataset demo" in html
    assert "Not complete: linear, sigmoid, SiLU" in markdown


def test_recordings_know_cardinalities_and_seed(report, small):
    root, _ = small
    with h5py.File(root / "figure/raw_data/demo_x1/FM_demo/records.h5") as file:
        assert file.attrs["train_seed"] == 5
        cardinalities = json.loads(file.attrs["cardinalities"])
        fields = json.loads(file.attrs["fields"])
    encoded = next((root / "data").rglob("feature_map.json"))
    specs = {k: v for f in json.loads(encoded.read_text())["features"] for k, v in f.items()}
    assert cardinalities == [specs[name].get("vocab_size", 0) for name in fields]
    assert max(cardinalities) > 100
    other = json.loads((root / "figure/raw_data/demo_x1/FM_demo/seed6.json").read_text())
    assert other["summary"]["num_rows"] == 400


def test_what_is_recorded_is_not_recorded_again(report, small):
    root, call = small
    recorded = [*root.glob("figure/raw_data/demo_x1/*/*")]
    before = {path: path.stat().st_mtime_ns for path in recorded}
    assert len(before) == 9
    # The weights of one run are overwritten; one recording is cut off, one of other weights.
    weights = next(root.rglob("FM_demo_gen_seed6.model"))
    shutil.copyfile(weights.with_name("FM_demo_gen_seed5.model"), weights)
    torn = root / "figure/raw_data/demo_x1/FM_demo/records.h5"
    torn.write_bytes(torn.read_bytes()[:5000])
    with h5py.File(root / "figure/raw_data/demo_x1/DCNv2_demo/records.h5", "a") as file:
        file.attrs["checkpoint_sha256"] = "0" * 64
    done = call(python(), "-c", RECORD)
    first, left_out, other_sample, again = done.stdout.splitlines()
    assert first == "Recordings: 6 are up to date (--rerecord makes them again), 2 to make."
    assert "('FM_demo_gen', 6)" in left_out and "it was overwritten" in left_out
    assert other_sample == again == "Recordings: 0 are up to date, 8 to make."
    unchanged = {path for path in before if path.stat().st_mtime_ns == before[path]}
    assert unchanged == {root / "figure/raw_data/demo_x1/FM_demo_gen/seed6.json"}


def test_activations_are_recorded_for_their_figure(report, small):
    _, call = small
    done = call("bash", "3.analyze.sh", "--ablation", "activation", "--gpu", "-1", status=1)
    assert "Recording DCNv2_demo, seed 5 ..." in done.stdout
    assert "DCNv2_demo_gen_activation_linear.model: no such checkpoint; train first" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ablation", "source"], "--ablation source: allowed: activation"),
        (["--ablation", "activation", "--report"], "--ablation: not with --report"),
        (["--seeds", "2"], "--seeds: only with --report"),
        (["--report", "--variants", "gen"], "--variants: --report compares both"),
        (["--report", "--rows", "1"], "--rows 1: allowed: >= 2"),
    ],
)
def test_options_that_do_not_go_together(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main_all([*options, "--dataset", "demo"])
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
