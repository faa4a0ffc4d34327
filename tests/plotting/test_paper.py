from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fuxictr.analysis.records import RecordMeta, records_path, save_records
from fuxictr.analysis.redundancy import correlation_matrix
from fuxictr.analysis.spectrum import singular_values
from fuxictr.analysis.summary import analysis_summary
from fuxictr.errors import CheckpointError
from fuxictr.experiment.report.inputs import load_runs
from fuxictr.experiment.report.recorded import summary_table
from fuxictr.plotting.correlation import write_correlation
from fuxictr.plotting.spectrum import write_collapse
from fuxictr.plotting.summary import write_summary
from tests.preloaded import python

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = ("hour", "site_id", "app_id")
EXPIDS = ["DeepFM_demo", "DeepFM_demo_gen"]


def make_run(root, expid, variant, seed):
    left, right = np.random.default_rng(seed).normal(size=(2, 40, 3, 2)).astype(np.float32)
    meta = RecordMeta(
        "DeepFM", expid, variant, "demo_x1", "valid", 40, 2019, FIELDS, 2, checkpoint_sha256="f"
    )
    arrays = {"model/gen": left, "model/left": left, "model/right": right}
    save_records(records_path(root, "demo_x1", expid), arrays, meta)
    return left.reshape(40, 6), right.reshape(40, 6)


@pytest.fixture
def sides(tmp_path):
    return [make_run(tmp_path, *run) for run in zip(EXPIDS, ("dis", "gen"), (1, 2), strict=True)]


def read_csv(path):
    return list(csv.reader(path.read_text().splitlines()))


def test_every_figure_has_its_numbers_beside_it(tmp_path, sides):
    records = load_runs(tmp_path, "demo_x1", EXPIDS, "DeepFM")
    paths = write_collapse(tmp_path, "demo_x1", "DeepFM", records)
    paths += write_correlation(tmp_path, "demo_x1", "DeepFM", records)
    summaries = analysis_summary(records)
    summary = write_summary(tmp_path, "demo_x1", "DeepFM", summaries)
    folder = tmp_path / "figure/final/demo_x1"
    stems = ["DeepFM_collapse", "DeepFM_dis_correlation", "DeepFM_gen_correlation"]
    expected = {folder / f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png", "csv")}
    assert set(paths) == expected
    assert set(folder.iterdir()) == expected | {folder / "DeepFM_summary.csv"} == {*paths, summary}
    assert all(path.stat().st_size > 200 for path in paths)

    header, *rows = read_csv(folder / "DeepFM_collapse.csv")
    assert header == [
        "rank",
        "DIS, raw embeddings singular value",
        "DIS, raw embeddings log",
        "GEN, generated embeddings singular value",
        "GEN, generated embeddings log",
    ]
    numbers = np.array(rows, dtype=float)
    for run, (left, right) in enumerate(sides):
        np.testing.assert_allclose(numbers[:, 1 + 2 * run], singular_values(left), rtol=1e-9)
        variant = ("dis", "gen")[run]
        _, *rows = read_csv(folder / f"DeepFM_{variant}_correlation.csv")
        matrix = np.array([row[1:] for row in rows], dtype=float)
        np.testing.assert_allclose(matrix, correlation_matrix(left, right), rtol=1e-9)

    lines = summary_table(summaries).to_markdown().splitlines()[2:]
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[2].split("|")[2].strip() == "DIS" and lines[3].split("|")[2].strip() == "GEN"
    assert "6 of 6" in lines[2]
    rows = list(csv.DictReader(summary.read_text().splitlines()))
    assert [row["expid"] for row in rows] == EXPIDS
    values = singular_values(sides[1][0])
    expected = values.sum() / values.max()
    assert float(rows[1]["information_abundance"]) == pytest.approx(expected, rel=1e-8)


def test_runs_of_one_variant_do_not_overwrite_each_other(tmp_path, sides):
    make_run(tmp_path, "DeepFM_relu", "gen", 3)
    records = load_runs(tmp_path, "demo_x1", [*EXPIDS, "DeepFM_relu"], "DeepFM")
    names = {path.name for path in write_correlation(tmp_path, "demo_x1", "DeepFM", records)}
    assert {name for name in names if name.endswith(".png")} == {
        "DeepFM_dis_correlation.png",
        "DeepFM_demo_gen_correlation.png",
        "DeepFM_relu_correlation.png",
    }
    header = read_csv(write_collapse(tmp_path, "demo_x1", "DeepFM", records)[2])[0]
    assert "GEN (DeepFM_relu) log" in header


def test_a_run_that_was_not_recorded_is_named(tmp_path, sides):
    with pytest.raises(CheckpointError, match="python analyze.py --model DeepFM --expid DeepFM_x"):
        load_runs(tmp_path, "demo_x1", ["DeepFM_demo", "DeepFM_x"], "DeepFM")


def write_results(root, *rows):
    path = root / "results" / "results.jsonl"
    path.parent.mkdir(exist_ok=True)
    base = {"expid": "DeepFM_demo", "dataset_id": "demo_x1", "seed": 1}
    path.write_text("".join(json.dumps(base | row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("rows", "is_stale"),
    [
        ([], False),
        ([{}], False),  # of a version that did not keep the hash
        ([{"checkpoint_sha256": "f"}], False),
        ([{"checkpoint_sha256": "f"}, {"checkpoint_sha256": "g"}], True),  # trained again
        ([{"checkpoint_sha256": "f"}, {"checkpoint_sha256": "g", "seed": 2}], False),
        ([{"checkpoint_sha256": "f"}, {"failed": "no memory"}], False),
        ([{"checkpoint_sha256": "g"}], True),
        ([{"checkpoint_sha256": "g", "dataset_id": "other"}], False),
        ([{"checkpoint_sha256": "g", "expid": "DeepFM_demo_gen_x"}], False),
    ],
)
def test_recordings_of_other_weights_than_the_results_are_not_drawn(
    tmp_path, sides, rows, is_stale
):
    write_results(tmp_path, *rows)
    if not is_stale:
        assert len(load_runs(tmp_path, "demo_x1", EXPIDS, "DeepFM")) == 2
        return
    with pytest.raises(
        CheckpointError, match="other weights .* --expid DeepFM_demo --gpu"
    ) as error:
        load_runs(tmp_path, "demo_x1", EXPIDS, "DeepFM")
    assert "python analyze.py --model DeepFM" in str(error.value)


@pytest.mark.parametrize(
    ("script", "files"),
    [
        ("plot_paper_collapse.py", ["DeepFM_collapse"]),
        ("plot_paper_cov_matrix.py", ["DeepFM_dis_correlation", "DeepFM_gen_correlation"]),
    ],
)
def test_scripts(tmp_path, sides, script, files):
    def run(*expids):
        options = ["--model", "DeepFM", "--dataset-id", "demo_x1", "--root", str(tmp_path)]
        command = [python(), str(REPOSITORY / script), *options, "--expids", *expids]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    done = run(*EXPIDS)
    assert done.returncode == 0, done.stderr
    printed = [Path(line) for line in done.stdout.splitlines()]
    assert all(path.is_file() for path in printed)
    assert {path.name for path in printed} == {
        f"{file}.{suffix}" for file in files for suffix in ("pdf", "png", "csv")
    }
    failed = run("DeepFM_dmo")
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1
    assert "did you mean 'DeepFM_demo'?" in failed.stderr
    assert len((REPOSITORY / script).read_text().splitlines()) <= 30


def test_help_imports_nothing_heavy():
    scripts = sorted(path.stem for path in REPOSITORY.glob("plot_paper_*.py"))
    assert len(scripts) == 7
    code = (
        f"import sys, {', '.join(scripts)}\n"
        "import fuxictr.analysis, fuxictr.plotting\n"
        "heavy = {'numpy', 'h5py', 'torch', 'matplotlib', 'polars'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_spectra_of_different_samples_are_not_drawn_together(tmp_path, sides):
    one, other = load_runs(tmp_path, "demo_x1", EXPIDS, "DeepFM")
    unlike = dataclasses.replace(other, meta=dataclasses.replace(other.meta, seed=3))
    with pytest.raises(CheckpointError, match="different samples cannot be compared"):
        write_collapse(tmp_path, "demo_x1", "DeepFM", [one, unlike])
