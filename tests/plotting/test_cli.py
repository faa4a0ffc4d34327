"""The arguments of the figure scripts, by our names and by those of the paper's reference code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuxictr.cli.figures import ablation_arguments, figure_arguments
from fuxictr.errors import ConfigError
from tests.preloaded import python

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in ROOT.glob("plot_paper_*.py"))


@pytest.mark.parametrize("model", ["--model", "--model_name"])
@pytest.mark.parametrize("dataset", ["--dataset", "--dataset-id", "--dataset_name"])
def test_both_names_of_an_option_are_one(model, dataset):
    ablation = ablation_arguments("", [model, "FM", dataset, "criteo"])
    assert (ablation.model, ablation.dataset) == ("FM", "criteo")
    assert ablation.dataset_id == "criteo_x1_7b681156"
    figure = figure_arguments("", [model, "FM", dataset, "demo_x1", "--expids", "a", "b"])
    assert (figure.model, figure.dataset_id, figure.expids) == ("FM", "demo_x1", ["a", "b"])


@pytest.mark.parametrize("dataset", ["avazu", "Avazu_x4", "avazu_x4_3bbbc4c9"])
def test_a_figure_is_of_dis_and_gen_unless_expids_are_named(dataset):
    args = figure_arguments("", ["--model_name", "CrossNet", "--dataset_name", dataset])
    assert args.expids == ["CrossNet_avazu", "CrossNet_avazu_gen"]
    assert args.dataset_id == "avazu_x4_3bbbc4c9"
    with pytest.raises(ConfigError, match="did you mean 'DeepFM'"):
        figure_arguments("", ["--model_name", "DeepFN", "--dataset_name", dataset])


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_figure_script_takes_both(script, tmp_path):
    command = [python(), script, "--model_name", "DCNv2", "--dataset_name", "demo"]
    done = subprocess.run(
        [*command, "--root", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, "there is nothing to draw"
    assert "usage:" not in done.stderr and str(tmp_path) in done.stderr
