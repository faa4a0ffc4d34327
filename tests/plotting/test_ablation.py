from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from fuxictr.errors import DataError
from fuxictr.experiment.report.figures import draw_ablation
from fuxictr.experiment.report.inputs import load_ablation
from fuxictr.experiment.tables.published import published_value
from fuxictr.experiment.zoo.ablations import GROUPS, LABELS, find_arms
from fuxictr.plotting import style
from fuxictr.plotting.ablation import Bar, ablation_figure
from tests.experiment.result_rows import present_hashes
from tests.plotting.layout import assert_readable, drawn_texts, shown_text
from tests.preloaded import python

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = {
    "source": "plot_paper_ab_source_auc.py",
    "encoder": "plot_paper_ab_decoder_auc.py",
    "target": "plot_paper_ab_target_auc.py",
    "activation": "plot_paper_activation_auc.py",
}


def row(expid, dataset_id, seed, auc, **other):
    hashes = {
        "config_hash": present_hashes(expid)["config_hash"],
        "data_hash": "h",
        "code_hash": "h",
    }
    test = {"AUC": auc, "logloss": 0.4}
    found = {"expid": expid, "dataset_id": dataset_id, "seed": seed, "test": test, **hashes}
    return {**found, "rows": {"test": 1234}, **other}


def auc_of(number, seed):
    return 0.5 + 0.01 * number + 0.001 * (seed % 3) ** 2


def make_results(path, dataset, group, seeds=(2019, 2020, 2021)):
    arms = find_arms("DCNv2", dataset, group)
    dataset_id = {"demo": "demo_x1", "avazu": "avazu_x4_3bbbc4c9"}[dataset]
    rows = [
        row(arm.expid, dataset_id, seed, auc_of(number, seed))
        for number, arm in enumerate(arms)
        for seed in seeds
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return arms, dataset_id


def make_bars(group, spread, with_std=True):
    rng = np.random.default_rng(7)
    words = ["dis", *LABELS[group]]
    return [
        Bar(
            "DIS" if word == "dis" else LABELS[group][word],
            0.7 + spread * rng.normal(),
            spread * rng.uniform() if with_std else None,
            3 if with_std else 1,
            {"dis": "dis", "full": "gen"}.get(word, "arm"),
            0.7 + spread * rng.normal() if word != "own" else None,
        )
        for word in words
    ]


@pytest.mark.parametrize(
    ("group", "spread", "with_std"),
    [(group, 3e-4, with_std) for group in GROUPS for with_std in (True, False)]
    + [("source", spread, True) for spread in (1e-6, 0.02, 0.1)],
)
def test_every_group_is_readable(group, spread, with_std):
    bars = make_bars(group, spread, with_std)
    caption = "avazu_x4_3bbbc4c9, 4,042,898 rows of the test split; trained with seeds 2019 to 2023"
    figure = ablation_figure(bars, f"DCNv2: {group}", caption)
    assert_readable(figure)
    assert figure.get_figwidth() == 3.5


def test_long_names_and_twenty_arms_are_readable():
    bars = [Bar("DIS", 0.7, 0.01, 3, "dis")]
    bars += [
        Bar(f"an arm with a rather long name, number {i}", 0.7 + 0.001 * i, 0.01, 3, "arm")
        for i in range(20)
    ]
    assert_readable(ablation_figure(bars, "title", "caption"))


def test_bars_start_at_dis_and_end_at_the_means():
    bars = make_bars("source", 0.01)
    figure = ablation_figure(bars)
    axes = figure.axes[0]
    for patch, bar in zip(axes.patches, bars, strict=True):
        assert patch.get_x() == pytest.approx(bars[0].mean)
        assert patch.get_x() + patch.get_width() == pytest.approx(bar.mean)
    (low, high) = axes.get_xlim()
    assert 0 < low, "the axis is cut"
    drawn = [b.mean + s * b.std for b in bars for s in (-1, 1)] + [b.published or 0.7 for b in bars]
    assert low < min(drawn) and max(drawn) < high
    shown = shown_text(figure)
    assert "axis cut; bars start at DIS" in shown and "mean over 3 seeds ± sample std" in shown
    for bar in bars:
        assert f"{bar.mean:.5f}" in shown


def dots_of(figure):
    """Returns the dots, each with its error bar."""
    return [c for c in figure.axes[0].containers if isinstance(c, ErrorbarContainer)]


def test_errors_are_one_sample_std_and_absent_with_one_seed():
    bars = make_bars("target", 0.01)
    for dot, bar in zip(dots_of(ablation_figure(bars)), bars, strict=True):
        (line,) = dot.lines[2]
        (left, _), (right, _) = line.get_segments()[0]
        assert (left, right) == pytest.approx((bar.mean - bar.std, bar.mean + bar.std))
    figure = ablation_figure(make_bars("target", 0.01, with_std=False))
    assert dots_of(figure) and not any(dot.has_xerr for dot in dots_of(figure))
    assert "one seed" in shown_text(figure) and "std" not in shown_text(figure)


def test_published_values_are_hollow_and_absent_where_there_are_none():
    bars = make_bars("source", 0.01)
    figure = ablation_figure(bars)
    hollow = [li for li in figure.axes[0].lines if li.get_markerfacecolor() == "none"]
    published = [bar.published for bar in bars if bar.published is not None]
    assert [line.get_xdata()[0] for line in hollow] == published and len(published) == 7
    assert "published" in shown_text(figure)
    none = [Bar(b.label, b.mean, b.std, b.num_seeds, b.variant) for b in bars]
    figure = ablation_figure(none)
    assert not [li for li in figure.axes[0].lines if li.get_markerfacecolor() == "none"]
    assert "published" not in shown_text(figure)


def test_grey_print_tells_dis_arms_and_gen_apart():
    figure = ablation_figure(make_bars("source", 0.01, with_std=False))
    bars = [c for c in figure.axes[0].containers if isinstance(c, BarContainer)]
    looks = {
        (dot.lines[0].get_marker(), bar.patches[0].get_hatch())
        for bar, dot in zip(bars, dots_of(figure), strict=True)
    }
    assert {marker for marker, _ in looks} == {"o", "s", "D"}
    assert len({hatch for _, hatch in looks}) == 2


def test_without_dis_there_is_nothing_to_start_from():
    with pytest.raises(DataError, match="DIS, from which the bars start"):
        ablation_figure(make_bars("source", 0.01)[1:])


@pytest.mark.parametrize("group", GROUPS)
def test_numbers_come_from_results_and_published_figures(tmp_path, group):
    store = tmp_path / "results.jsonl"
    arms, dataset_id = make_results(store, "avazu", group)
    results, published = load_ablation(store, "DCNv2", "avazu", group)
    paths = draw_ablation(tmp_path, dataset_id, "DCNv2", group, results, published)
    folder = tmp_path / "figure/final" / dataset_id
    assert [path.name for path in paths] == [f"DCNv2_ab_{group}.{s}" for s in ("pdf", "png", "csv")]
    assert set(folder.iterdir()) == set(paths)
    rows = list(csv.DictReader(paths[2].read_text().splitlines()))
    assert [r["arm"] for r in rows] == [arm.label for arm in arms]
    for number, (arm, found) in enumerate(zip(arms, rows, strict=True)):
        values = np.array([auc_of(number, seed) for seed in (2019, 2020, 2021)])
        assert float(found["test AUC"]) == pytest.approx(values.mean(), rel=1e-9)
        squares = ((values - values.mean()) ** 2).sum() / 2
        assert float(found["sample std"]) == pytest.approx(squares**0.5, rel=1e-6)
        known = published_value("avazu", "DCNv2", arm.published, "AUC")
        known = [float(k["value"]) for k in known if k["source"] == "ge4rec_figures"]
        assert [float(found["published"])] == known if found["published"] else known == []
    assert sum(bool(found["published"]) for found in rows) >= 5


def test_the_demo_has_no_published_figures(tmp_path):
    store = tmp_path / "results.jsonl"
    make_results(store, "demo", "source")
    assert load_ablation(store, "DCNv2", "demo", "source")[1] == {}


def test_one_seed_has_no_deviation(tmp_path):
    store = tmp_path / "results.jsonl"
    _, dataset_id = make_results(store, "demo", "source", seeds=(5,))
    results = load_ablation(store, "DCNv2", "demo", "source")
    paths = draw_ablation(tmp_path, dataset_id, "DCNv2", "source", *results)
    rows = list(csv.DictReader(paths[2].read_text().splitlines()))
    assert {r["sample std"] for r in rows} == {""} and {r["seeds"] for r in rows} == {"1"}


def run_script(script, root, *options):
    command = [python(), str(REPOSITORY / script), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("group", GROUPS)
def test_scripts_draw_and_name_what_is_missing(tmp_path, group):
    script = SCRIPTS[group]
    store = tmp_path / "results" / "results.jsonl"
    store.parent.mkdir()
    arms, _ = make_results(store, "demo", group)
    done = run_script(script, tmp_path, "--dataset", "demo")
    assert done.returncode == 0, done.stderr
    printed = [Path(line) for line in done.stdout.splitlines()]
    assert [p.name for p in printed] == [f"DCNv2_ab_{group}.{s}" for s in ("pdf", "png", "csv")]
    assert all(path.is_file() for path in printed)
    missing = arms[1].expid
    kept = [
        line
        for line in store.read_text().splitlines()
        if json.loads(line)["expid"] != missing or json.loads(line)["seed"] != 2020
    ]
    store.write_text("\n".join(kept) + "\n")
    failed = run_script(script, tmp_path, "--dataset", "demo")
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1
    assert f"{missing} (seed 2020: not run)" in failed.stderr
    command = f"bash 2.reproduce.sh --ablation {group} --dataset demo --seeds 2019,2020,2021"
    assert command in failed.stderr
    done = run_script(script, tmp_path, "--dataset", "demo", "--seeds", "2019,2021")
    assert done.returncode == 0, done.stderr
    assert len((REPOSITORY / script).read_text().splitlines()) <= 30


def test_a_failed_run_is_named_with_its_reason(tmp_path):
    store = tmp_path / "results.jsonl"
    arms, dataset_id = make_results(store, "demo", "source", seeds=(1,))
    expid = arms[2].expid
    hashes = {
        "config_hash": present_hashes(expid)["config_hash"],
        "data_hash": "h",
        "code_hash": "h",
    }
    lines = [li for li in store.read_text().splitlines() if json.loads(li)["expid"] != expid]
    broken = {"expid": expid, "dataset_id": dataset_id, "seed": 1, "failed": "NaN loss", **hashes}
    store.write_text("\n".join([*lines, json.dumps(broken)]) + "\n")
    results = load_ablation(store, "DCNv2", "demo", "source")
    with pytest.raises(DataError, match=rf"{expid} \(seed 1: failed: NaN loss\).*--dataset demo$"):
        draw_ablation(tmp_path, dataset_id, "DCNv2", "source", *results)
    assert not (tmp_path / "figure").exists()


def test_no_results_at_all_name_the_command(tmp_path):
    done = run_script(SCRIPTS["source"], tmp_path, "--dataset", "demo")
    assert done.returncode == 1 and "2.reproduce.sh" in done.stderr


def test_captions_name_data_sample_and_seeds(tmp_path, monkeypatch):
    store = tmp_path / "results.jsonl"
    _, dataset_id = make_results(store, "avazu", "source")
    figures = []
    monkeypatch.setattr(style, "save_figure", lambda figure, stem: figures.append(figure) or [])
    runs = load_ablation(store, "DCNv2", "avazu", "source")
    draw_ablation(tmp_path, dataset_id, "DCNv2", "source", *runs)
    shown = shown_text(figures[0])
    assert f"{dataset_id}, 1,234 rows of the test split; trained with seeds 2019 to 2021" in shown
    assert "hollow: published with the reference code" in shown
    assert drawn_texts(figures[0])
