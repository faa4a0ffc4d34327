from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fuxictr.analysis.records import interacting_embeddings, records_path, save_records
from fuxictr.analysis.spectrum import singular_values
from fuxictr.errors import CheckpointError
from fuxictr.experiment.report.inputs import load_activation_runs
from fuxictr.experiment.zoo.ablations import find_arms
from fuxictr.plotting import style
from fuxictr.plotting.spectrum import write_activation_spectra
from tests.plotting.layout import assert_readable, shown_text
from tests.plotting.runs import make_records
from tests.preloaded import python

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def recorded(tmp_path):
    """The recordings of all arms under a root, in the order of the arms."""
    records = []
    for arm in find_arms("DCNv2", "demo", "activation"):
        run = make_records(arm.expid, arm.variant, dataset_id="demo_x1")
        save_records(records_path(tmp_path, "demo_x1", arm.expid), run.arrays, run.meta)
        records.append(run)
    return records


def test_every_activation_has_its_curve(tmp_path, recorded, monkeypatch):
    drawn = []
    monkeypatch.setattr(style, "save_figure", lambda figure, stem: drawn.append(figure) or [])
    records, labels = load_activation_runs(tmp_path, "DCNv2", "demo")
    assert [run.meta for run in records] == [run.meta for run in recorded]
    (path,) = write_activation_spectra(tmp_path, "demo_x1", "DCNv2", records, labels)
    assert path.name == "DCNv2_activation.csv"
    header, *rows = csv.reader(path.read_text().splitlines())
    assert labels == [arm.label for arm in find_arms("DCNv2", "demo", "activation")]
    assert header[1::2] == [f"{label} singular value" for label in labels]
    for column, run in enumerate(recorded):
        found = [float(row[1 + 2 * column]) for row in rows]
        np.testing.assert_allclose(found, singular_values(interacting_embeddings(run)), rtol=1e-9)
    assert_readable(drawn[0])
    lines = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) > 2]
    assert len({(str(line._dash_pattern), line.get_marker()) for line in lines}) == len(labels)
    assert "trained with seed 2021" in shown_text(drawn[0])


def test_recordings_that_are_missing_are_named(tmp_path, recorded):
    for run in recorded[1:3]:
        records_path(tmp_path, "demo_x1", run.meta.expid).unlink()
    with pytest.raises(CheckpointError) as error:
        load_activation_runs(tmp_path, "DCNv2", "demo")
    text = str(error.value)
    missing = text.partition("embeddings of ")[2].partition(" under")[0].split(", ")
    assert missing == [run.meta.expid for run in recorded[1:3]]
    assert "bash 3.analyze.sh --ablation activation --dataset demo" in text


def test_recordings_of_other_weights_or_of_different_samples_are_not_drawn(tmp_path, recorded):
    store = tmp_path / "results" / "results.jsonl"
    store.parent.mkdir()
    row = {"expid": "DCNv2_demo_gen", "dataset_id": "demo_x1", "seed": 1, "checkpoint_sha256": "g"}
    store.write_text(json.dumps(row) + "\n")
    with pytest.raises(CheckpointError, match="analyze.py --model DCNv2 --expid DCNv2_demo_gen "):
        load_activation_runs(tmp_path, "DCNv2", "demo")
    for change in ({"num_rows": 50}, {"seed": 1}):
        labels = [run.meta.expid for run in recorded]
        unlike = [*recorded[:-1], make_records("DCNv2_demo_gen", "gen", **change)]
        with pytest.raises(CheckpointError, match=r"different samples .*: DCNv2_demo_gen\)"):
            write_activation_spectra(tmp_path, "demo_x1", "DCNv2", unlike, labels)


def test_the_script_draws_and_fails_in_one_line(tmp_path, recorded):
    script = REPOSITORY / "plot_paper_activation.py"

    def run():
        options = ["--dataset", "demo", "--root", str(tmp_path)]
        command = [python(), str(script), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    done = run()
    assert done.returncode == 0, done.stderr
    printed = [Path(line) for line in done.stdout.splitlines()]
    assert [p.name for p in printed] == [f"DCNv2_activation.{s}" for s in ("pdf", "png", "csv")]
    records_path(tmp_path, "demo_x1", "DCNv2_demo_gen").unlink()
    failed = run()
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1
    assert "DCNv2_demo_gen" in failed.stderr
    assert len(script.read_text().splitlines()) <= 30
