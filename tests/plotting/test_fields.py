from __future__ import annotations

import csv

import numpy as np
import pytest
from matplotlib.text import Annotation

from fuxictr.analysis.fields import field_summary
from fuxictr.analysis.records import Records
from fuxictr.errors import DataError
from fuxictr.plotting import style
from fuxictr.plotting.cardinality import cardinality_figure, write_cardinality
from fuxictr.plotting.fields import field_figure, write_field_spectra
from fuxictr.plotting.spectrum import write_layer_spectra
from tests.plotting.layout import assert_readable, drawn_texts, shown_text
from tests.plotting.runs import FIELDS, make_pair, make_records

CAPTION = "avazu_x4_3bbbc4c9, 50,000 rows of the valid split (sample seed 2019), eval mode; " * 2


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def plain_spectrum(matrix):
    matrix = matrix.reshape(len(matrix), -1).astype(np.float64)
    centred = matrix - matrix.mean(axis=0)
    return np.sort(np.linalg.eigvalsh(centred.T @ centred / len(matrix)))[::-1]


@pytest.mark.parametrize(
    ("kind", "num_runs"),
    [(kind, num_runs) for kind in FIELDS for num_runs in (1, 2, 7)] + [("long names", 20)],
)
def test_field_figure_is_readable(kind, num_runs):
    names = FIELDS[kind]
    rng = np.random.default_rng(0)
    values = np.sort(np.exp(rng.normal(size=(len(names), 10)) * 9))[:, ::-1]
    panels = [(f"GEN (DCNv2_avazu_gen_activation_{i})", values) for i in range(num_runs)]
    figure = field_figure(panels, names, "DCNv2: spectrum of each field", CAPTION)
    assert_readable(figure)
    assert figure.get_figwidth() == (3.5 if num_runs < 3 else 7)


def test_field_figure_shows_each_fields_share_of_its_largest():
    values = np.array([[4.0, 1.0, 0.0], [2.0, 2.0, 1e-12], [0.0, 0.0, 0.0]])
    figure = field_figure([("DIS", values)], ["a", "b", "c"])
    (image,) = figure.axes[0].images
    shown = image.get_array()
    np.testing.assert_allclose(shown[0], [1, 0.25, 1e-9])
    np.testing.assert_allclose(shown[1], [1, 1, 1e-9])
    assert np.ma.getmaskarray(shown)[2].all()
    assert (image.norm.vmin, image.norm.vmax) == (1e-8, 1)
    assert "constant" in shown_text(figure)


def test_field_figure_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="no runs"):
        field_figure([], ["a"])
    with pytest.raises(DataError, match=r"shape \(2, 3\) does not fit 1 fields"):
        field_figure([("DIS", np.ones((2, 3)))], ["a"])
    with pytest.raises(DataError, match="not finite"):
        field_figure([("DIS", np.full((1, 3), np.nan))], ["a"])


def test_field_spectra_are_those_of_each_field_alone(tmp_path):
    records = make_pair(num_layers=2)
    paths = write_field_spectra(tmp_path, "d", "DCNv2", records)
    assert [p.name for p in paths] == [f"DCNv2_fields.{s}" for s in ("pdf", "png", "csv")]
    rows = read_csv(paths[2])
    assert len(rows) == 2 * 3
    for row in rows:
        run = records[row["run"].startswith("GEN")]
        number = run.meta.fields.index(row["field"])
        stacked = np.concatenate([array[:, number] for array in run.arrays.values()])
        found = [float(row[f"singular value {rank}"]) for rank in range(1, 5)]
        np.testing.assert_allclose(found, plain_spectrum(stacked), rtol=1e-8)


def test_layers_have_a_curve_each_and_equal_ones_share_it(tmp_path, monkeypatch):
    records = make_pair(num_layers=3)
    drawn = []
    monkeypatch.setattr(style, "save_figure", lambda figure, stem: drawn.append(figure) or [])
    (path,) = write_layer_spectra(tmp_path, "d", "DCNv2", records)
    rows = read_csv(path)
    labels = [f"GEN, layer {i}" for i in (1, 2, 3)]
    assert list(rows[0])[1::2] == [
        f"{x} singular value" for x in ["DIS, layers 1 to 3, equal", *labels]
    ]
    for layer, label in enumerate(labels):
        expected = plain_spectrum(records[1].arrays[f"net.layers.{layer}/gen"])
        found = [float(row[f"{label} singular value"]) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert_readable(drawn[0])


def test_a_model_of_one_layer_has_no_figure_of_layers(tmp_path):
    assert write_layer_spectra(tmp_path, "d", "FM", make_pair()) == []
    assert write_layer_spectra(tmp_path, "d", "FM", []) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "num_numeric"),
    [("avazu", 0), ("criteo", 13), ("long names", 0), ("long names", 1), ("one field", 0)],
)
def test_cardinality_figure_is_readable(kind, num_numeric):
    records = make_pair(fields=FIELDS[kind], num_numeric=num_numeric)
    runs = [(r.meta.variant.upper(), r.meta.variant, field_summary(r)) for r in records]
    figure = cardinality_figure(runs, 4, "DCNv2: dimensions in use by field", CAPTION)
    assert_readable(figure)
    assert figure.get_figwidth() == 3.5
    for axes in figure.axes:
        named = [text for text in axes.texts if isinstance(text, Annotation)]
        assert named, "some field is always named"
        for text in named:
            box, inside = text.get_window_extent(), axes.bbox
            assert inside.x0 - 1 <= box.x0 and box.x1 <= inside.x1 + 1
    assert ("numeric or unknown" in shown_text(figure)) == (num_numeric > 0)


def test_few_fields_are_all_named():
    records = make_pair()
    runs = [(r.meta.variant.upper(), r.meta.variant, field_summary(r)) for r in records]
    figure = cardinality_figure(runs, 4)
    drawn_texts(figure)
    for axes in figure.axes:
        assert sorted(text.get_text() for text in axes.texts) == ["app_id", "hour", "site_id"]


def test_points_stand_at_log10_of_the_cardinality():
    records = make_pair()
    runs = [(r.meta.variant.upper(), r.meta.variant, field_summary(r)) for r in records]
    figure = cardinality_figure(runs, 4)
    for axes, key in zip(figure.axes, ("rankme", "information_abundance"), strict=True):
        assert len(axes.lines) == 2
        assert len({line.get_marker() for line in axes.lines}) == 2
        for line, (_, _, summaries) in zip(axes.lines, runs, strict=True):
            np.testing.assert_allclose(line.get_xdata(), np.log10([2, 4, 8]))
            assert list(line.get_ydata()) == [getattr(field, key) for field in summaries]
        assert 0 < axes.get_ylim()[0] < 1.5


def test_cardinality_numbers_lie_beside_the_figure(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(style, "save_figure", lambda figure, stem: drawn.append(figure) or [])
    records = make_pair(num_numeric=1)
    (path,) = write_cardinality(tmp_path, "d", "DCNv2", records)
    assert path.name == "DCNv2_cardinality.csv"
    rows = read_csv(path)
    assert [row["cardinality"] for row in rows] == ["", "4", "8"] * 2
    assert rows[0]["log10 cardinality"] == ""
    assert float(rows[1]["log10 cardinality"]) == pytest.approx(np.log10(4))
    expected = [field.rankme for record in records for field in field_summary(record)]
    np.testing.assert_allclose([float(row["rankme"]) for row in rows], expected)
    shown = shown_text(drawn[0])
    assert "sample seed 2019" in shown and "trained with seed 2021" in shown
    assert "Spearman correlation of RankMe and cardinality: not defined" in shown  # two points


def test_recordings_without_cardinalities_say_what_to_do():
    records = [make_records(cardinalities=())]
    runs = [("DIS", "dis", field_summary(record)) for record in records]
    with pytest.raises(DataError, match=r"bash 3\.analyze\.sh"):
        cardinality_figure(runs, 4)
    with pytest.raises(DataError, match="no runs"):
        cardinality_figure([], 4)


def test_runs_with_other_fields_are_refused(tmp_path):
    records = [make_records(), make_records("x_gen", "gen", fields=["a", "b"])]
    for write in (write_field_spectra, write_cardinality):
        with pytest.raises(DataError, match="fields of x_gen"):
            write(tmp_path, "d", "DCNv2", records)


def test_a_constant_field_is_drawn(tmp_path):
    run = make_records()
    arrays = {key: array.copy() for key, array in run.arrays.items()}
    for array in arrays.values():
        array[:, 1] = 3.0
    records = [Records(arrays, run.meta)]
    assert len(write_field_spectra(tmp_path, "d", "DCNv2", records)) == 3
    assert len(write_cardinality(tmp_path, "d", "DCNv2", records)) == 3


def test_field_names_are_no_formulas(tmp_path):
    records = make_pair(fields=["$cost$", r"$\broken{$", "a_b^c"])
    for write in (write_field_spectra, write_cardinality):
        assert len(write(tmp_path, "d", "DCNv2", records)) == 3
    figure = field_figure([("DIS", np.ones((1, 2)))], [r"$\broken{$"])
    assert r"$\broken{$" in shown_text(figure).replace(r"\$", "$")
