from __future__ import annotations

import csv

import numpy as np
import pytest

from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.curves import write_collapse_curve, write_training_curves
from fuxictr.plotting.redundancy import RunPoint, redundancy_figure, write_redundancy
from tests.plotting.layout import assert_readable, shown_text
from tests.plotting.runs import make_row

BACKBONES = ["FM", "FwFM", "FmFM", "DeepFM", "PNN", "xDeepFM", "DCNv2", "CrossNet"]


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def make_points(backbones=BACKBONES, seeds=(2019, 2020), spread=0.01):
    rng = np.random.default_rng(3)
    return [
        RunPoint(backbone, variant, seed, 0.7 + spread * rng.uniform(), rng.uniform() / 5)
        for backbone in backbones
        for variant in ("dis", "gen")
        for seed in seeds
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved."""
    figures = []
    monkeypatch.setattr(style, "save_figure", lambda figure, stem: figures.append(figure) or [])
    return figures


@pytest.mark.parametrize(
    ("num_backbones", "spread"), [(1, 0.1), (8, 1e-6), (8, 1e-3), (8, 0.1), (20, 0.01)]
)
def test_redundancy_figure_is_readable(num_backbones, spread):
    names = (BACKBONES + [f"A_rather_long_backbone_{i}" for i in range(12)])[:num_backbones]
    figure = redundancy_figure(make_points(names, spread=spread), "AUC and redundancy", "demo_x1")
    assert_readable(figure)
    assert figure.get_figwidth() == 3.5


def test_a_point_a_run_and_a_line_a_backbone():
    points = make_points()
    axes = redundancy_figure(points).axes[0]
    markers = [line for line in axes.lines if line.get_linestyle() == "None"]
    lines = [line for line in axes.lines if line.get_linestyle() == "-"]
    found = {(x, y) for line in markers for x, y in zip(*line.get_data(), strict=True)}
    assert found == {(point.redundancy, point.auc) for point in points}
    assert len(lines) == len(BACKBONES)
    for line, backbone in zip(lines, BACKBONES, strict=True):
        means = [
            np.mean(
                [(p.redundancy, p.auc) for p in points if (p.backbone, p.variant) == pair], axis=0
            )
            for pair in ((backbone, "dis"), (backbone, "gen"))
        ]
        np.testing.assert_allclose(np.transpose(line.get_data()), means)
    looks = {(m.get_marker(), m.get_markerfacecolor() == "white") for m in markers}
    assert len(looks) == len(markers) == 2 * len(BACKBONES), "told apart without colour"


def test_a_backbone_without_gen_has_points_and_no_line():
    axes = redundancy_figure([RunPoint("FM", "dis", 1, 0.7, 0.1)]).axes[0]
    assert [line.get_linestyle() for line in axes.lines] == ["None"]
    with pytest.raises(DataError, match="no runs"):
        redundancy_figure([])


def test_redundancy_numbers_and_caption(tmp_path, drawn):
    points = make_points(["FM", "DCNv2"])
    (path,) = write_redundancy(tmp_path, "demo_x1", points, "2,000 rows of the valid split")
    assert path == tmp_path / "figure/final/demo_x1/redundancy.csv"
    rows = read_csv(path)
    assert [(r["backbone"], r["variant"], int(r["seed"])) for r in rows] == [
        (p.backbone, p.variant, p.seed) for p in points
    ]
    np.testing.assert_allclose([float(r["auc"]) for r in rows], [p.auc for p in points])
    shown = shown_text(drawn[0])
    assert "demo_x1; correlations of 2,000 rows of the valid split" in shown
    assert "trained with seeds 2019, 2020" in shown
    scipy_stats = pytest.importorskip("scipy.stats")
    value = scipy_stats.spearmanr([p.redundancy for p in points], [p.auc for p in points]).statistic
    assert f"over the 8 runs: {value:+.2f}".replace("-", "−") in shown


@pytest.mark.parametrize(("seeds", "num"), [((7,), 1), ((7,), 12), ((2019, 2020, 2021), 2)])
def test_curves_are_readable(tmp_path, drawn, seeds, num):
    rows = [make_row(v, seed, num + seed % 3) for v in ("dis", "gen") for seed in seeds]
    for write in (write_training_curves, write_collapse_curve):
        write(tmp_path, "avazu_x4_3bbbc4c9", "DCNv2", rows)
    for figure in drawn:
        assert_readable(figure)
        assert len(figure.axes) == 2 and figure.get_figwidth() == 3.5


def test_twenty_runs_are_readable_and_told_apart(tmp_path, drawn):
    rows = [
        make_row(("dis", "gen")[i % 2], expid=f"DCNv2_avazu_gen_activation_{i}") for i in range(20)
    ]
    write_training_curves(tmp_path, "avazu_x4_3bbbc4c9", "DCNv2", rows)
    assert_readable(drawn[0])
    lines = drawn[0].axes[0].lines
    assert len({(str(line._dash_pattern), line.get_marker()) for line in lines}) == 20


def test_the_mean_is_over_all_seeds_and_ends_with_the_first(tmp_path, drawn):
    rows = [make_row("dis", 1, 4), make_row("dis", 2, 6), make_row("dis", 3, 5)]
    (path,) = write_training_curves(tmp_path, "demo_x1", "DCNv2", rows)
    auc, loss = drawn[0].axes
    assert (auc.get_ylabel(), loss.get_ylabel()) == ("Validation AUC", "Training loss")
    for axes, value in ((auc, lambda e: e["metrics"]["AUC"]), (loss, lambda e: e["train_loss"])):
        values = np.array([[value(entry) for entry in row.history[:4]] for row in rows])
        *single, mean = axes.lines
        assert [len(line.get_xdata()) for line in single] == [4, 6, 5]
        np.testing.assert_allclose(mean.get_ydata(), values.mean(axis=0))
        np.testing.assert_array_equal(mean.get_xdata(), [1, 2, 3, 4])
        band = axes.collections[0].get_paths()[0].vertices
        std = np.sqrt(((values - values.mean(axis=0)) ** 2).sum(axis=0) / 2)
        for epoch, low, high in zip(
            [1, 2, 3, 4], values.mean(axis=0) - std, values.mean(axis=0) + std, strict=True
        ):
            at = band[band[:, 0] == epoch][:, 1]
            assert at.min() == pytest.approx(low) and at.max() == pytest.approx(high)
    found = read_csv(path)
    assert len(found) == 15
    assert [float(r["epoch"]) for r in found[4:10]] == [1, 2, 3, 4, 5, 6]
    entry = rows[1].history[5]
    assert float(found[9]["Validation AUC"]) == pytest.approx(entry["metrics"]["AUC"], rel=1e-9)
    assert float(found[9]["Training loss"]) == pytest.approx(entry["train_loss"], rel=1e-9)
    shown = shown_text(drawn[0])
    assert "demo_x1, 60,000 rows of the valid split; trained with seeds 1 to 3" in shown
    assert "band: mean ± sample std" in shown


def test_a_single_seed_has_no_band(tmp_path, drawn):
    write_training_curves(tmp_path, "demo_x1", "DCNv2", [make_row()])
    for axes in drawn[0].axes:
        assert len(axes.lines) == 1 and not axes.collections
    assert "band" not in shown_text(drawn[0])


def test_evaluations_within_an_epoch_stand_where_they_were(tmp_path):
    history = [
        {"epoch": 1, "rows": 50, "train_loss": 1.0, "metrics": {"AUC": 0.5}},
        {"epoch": 1, "rows": 100, "train_loss": 1.0, "metrics": {"AUC": 0.5}},
        {"epoch": 2, "rows": 150, "train_loss": 1.0, "metrics": {"AUC": 0.5}},
    ]
    row = make_row(history=history, rows={"train": 100})
    paths = write_training_curves(tmp_path, "demo_x1", "DCNv2", [row])
    assert [p.name for p in paths] == [f"DCNv2_training.{s}" for s in ("pdf", "png", "csv")]
    assert [float(r["epoch"]) for r in read_csv(paths[2])] == [0.5, 1, 1.5]


def test_collapse_points_of_one_epoch_are_placed_by_their_steps(tmp_path, drawn):
    rows = [make_row("dis", 1, 2), make_row("gen", 1, 2)]
    (path,) = write_collapse_curve(tmp_path, "demo_x1", "DCNv2", rows)
    assert path.name == "DCNv2_collapse_curve.csv"
    found = read_csv(path)
    assert [float(r["epoch"]) for r in found] == [0, 0.5, 1, 1.5, 2] * 2
    expected = [entry["rankme"] for row in rows for entry in row.collapse]
    np.testing.assert_allclose([float(r["RankMe"]) for r in found], expected)
    assert [r["Effective dimensions"] for r in found[:3]] == ["9", "8", "7"]
    assert drawn[0].axes[0].get_ylabel() == "RankMe"
    assert "demo_x1, 50,000 rows of the valid split (sample seed 2019)" in shown_text(drawn[0])
    np.testing.assert_allclose(drawn[0].axes[0].lines[0].get_ydata(), expected[:5])


def test_rows_without_a_history_draw_nothing(tmp_path):
    old = [make_row(history=None, collapse=None, rows=None), make_row(history=[], collapse=[])]
    assert write_training_curves(tmp_path, "demo_x1", "DCNv2", old) == []
    assert write_collapse_curve(tmp_path, "demo_x1", "DCNv2", old) == []
    assert list(tmp_path.iterdir()) == []


def test_without_validation_rows_only_the_loss_is_drawn(tmp_path, drawn):
    row = make_row()
    for entry in row.history:
        del entry["metrics"]
    write_training_curves(tmp_path, "demo_x1", "DCNv2", [row])
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["Training loss"]
