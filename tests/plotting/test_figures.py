from __future__ import annotations

import csv
import math

import matplotlib
import numpy as np
import pytest

from fuxictr.errors import DataError
from fuxictr.plotting.correlation import correlation_figure, correlation_numbers
from fuxictr.plotting.spectrum import spectrum_figure, spectrum_numbers
from fuxictr.plotting.style import save_figure, save_numbers, shorten
from tests.plotting.layout import assert_readable, shown_text
from tests.plotting.runs import FIELDS

CAPTION = "avazu_x4_3bbbc4c9, 50,000 rows of the valid split, seed 2019, eval mode; " * 2


def make_curves(num_runs=2, size=384):
    rank = np.arange(size)
    return [
        (f"run {i} of a model", ("dis", "gen")[i % 2], 3 * np.exp(-rank / (i + 10)))
        for i in range(num_runs)
    ]


def make_correlation(size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(size, size))


@pytest.mark.parametrize("num_runs", [1, 2, 7, 20])
def test_spectrum_figure_draws_log_values_against_rank(num_runs):
    curves = make_curves(num_runs)
    figure = spectrum_figure(curves, "DeepFM: embedding spectrum", CAPTION)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 384]
    assert len(lines) == num_runs
    assert len({(str(line._dash_pattern), line.get_marker()) for line in lines}) == num_runs
    for line, (label, _, values) in zip(lines, curves, strict=True):
        assert line.get_label() == label
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 385))
        np.testing.assert_allclose(line.get_ydata(), [math.log(v / 3) for v in values], atol=1e-12)
    shown = shown_text(figure)
    assert "DeepFM: embedding spectrum" in shown and "seed 2019" in shown and "run 0" in shown
    assert_readable(figure)


@pytest.mark.parametrize("size", [1, 6, 48])
def test_short_spectra_and_long_labels_are_readable(size):
    curves = [
        (f"GEN (A_long_backbone_avazu_gen_activation_{i}, layer {i})", "gen", values)
        for i, (_, _, values) in enumerate(make_curves(9, size))
    ]
    assert_readable(spectrum_figure(curves, "title", CAPTION))


def test_spectrum_numbers_are_the_values_drawn(tmp_path):
    curves = [("DIS", "dis", np.array([4.0, 1.0, 0.0])), ("GEN", "gen", np.array([2.0, 1 / 3]))]
    path = save_numbers(tmp_path / "spectrum.csv", *spectrum_numbers(curves))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert [float(row["DIS singular value"]) for row in rows] == [4.0, 1.0, 0.0]
    assert float(rows[1]["DIS log"]) == pytest.approx(math.log(0.25), rel=1e-9)
    assert rows[2]["DIS log"] == "-inf"
    assert float(rows[1]["GEN singular value"]) == pytest.approx(1 / 3, rel=1e-9)
    assert rows[2]["GEN singular value"] == rows[2]["GEN log"] == ""


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1.0, np.nan], [np.inf, 1.0], [[1.0]]])
def test_a_spectrum_without_data_is_not_drawn(values):
    with pytest.raises(DataError, match="no spectrum to draw for 'GEN'"):
        spectrum_figure([*make_curves(1), ("GEN", "gen", np.array(values))])


def test_no_curves_are_an_error():
    with pytest.raises(DataError, match="no runs"):
        spectrum_figure([])


@pytest.mark.parametrize(
    ("fields", "dim"),
    [(FIELDS["avazu"], 16), (FIELDS["criteo"], 10), (FIELDS["long names"], 2), (["only"], 3)],
    ids=FIELDS,
)
def test_correlation_figure_shows_matrix_borders_and_field_names(fields, dim):
    size = len(fields) * dim
    matrix = make_correlation(size)
    figure = correlation_figure(matrix, fields, dim, "DeepFM DIS: correlation", CAPTION)
    axes = figure.axes[0]
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert image.get_clim() == (-1, 1) and len(figure.axes) == 2
    assert axes.get_xlim() == (0, size) and axes.get_ylim() == (size, 0)
    assert_readable(figure)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == shorten(fields)
    borders = sorted(
        segment[0][0]
        for lines in axes.collections
        for segment in lines.get_segments()
        if segment[0][0] == segment[1][0]
    )
    assert borders == [field * dim for field in range(1, len(fields))]


def test_of_very_many_fields_some_are_named():
    fields = [f"field_{i}" for i in range(150)]
    figure = correlation_figure(make_correlation(150), fields, 1, "DeepFM DIS", CAPTION)
    assert_readable(figure)
    assert 30 < len(figure.axes[0].get_yticklabels()) < 150


def test_correlation_numbers_are_the_matrix(tmp_path):
    matrix = make_correlation(6)
    path = save_numbers(tmp_path / "c.csv", *correlation_numbers(matrix, ["a", "b,c", "d"], 2))
    header, *rows = csv.reader(path.read_text().splitlines())
    labels = ["a.0", "a.1", "b,c.0", "b,c.1", "d.0", "d.1"]
    assert header[1:] == labels and [row[0] for row in rows] == labels
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows])
    np.testing.assert_allclose(numbers, matrix, rtol=1e-9)


def test_correlations_that_cannot_be_drawn():
    with pytest.raises(DataError, match=r"shape \(6, 6\) does not fit 2 fields of 2"):
        correlation_figure(make_correlation(6), ["a", "b"], 2)
    with pytest.raises(DataError, match="does not fit 0 fields"):
        correlation_figure(np.zeros((0, 0)), [], 2)
    with pytest.raises(DataError, match="not finite"):
        correlation_figure(np.full((4, 4), np.nan), ["a", "b"], 2)
    with pytest.raises(DataError, match="all are zero"):
        correlation_figure(np.zeros((4, 4)), ["a", "b"], 2)


def test_saved_files_are_whole_deterministic_and_embed_their_fonts(tmp_path):
    def save(name):
        figure = spectrum_figure(make_curves(), "DeepFM v2.5: spectrum", "caption")
        return save_figure(figure, tmp_path / name / "DeepFM_v2.5_collapse")

    pdf, png = save("a")
    assert (pdf.name, png.name) == ("DeepFM_v2.5_collapse.pdf", "DeepFM_v2.5_collapse.png")
    assert sorted(p.name for p in pdf.parent.iterdir()) == [pdf.name, png.name]
    assert pdf.read_bytes().startswith(b"%PDF") and png.read_bytes().startswith(b"\x89PNG")
    assert b"/Type /Font" in pdf.read_bytes() and b"/FontFile2" in pdf.read_bytes()
    assert b"/Subtype /Type3" not in pdf.read_bytes()
    assert b"CreationDate" not in pdf.read_bytes()
    other_pdf, other_png = save("b")
    assert other_pdf.read_bytes() == pdf.read_bytes()
    assert other_png.read_bytes() == png.read_bytes()


def test_png_has_a_resolution_for_print(tmp_path):
    from matplotlib.image import imread

    _, png = save_figure(spectrum_figure(make_curves(), "title"), tmp_path / "figure")
    assert imread(png).shape[1] >= 3.5 * 200


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    figure = spectrum_figure(make_curves())

    def fail(path, **_):
        path.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        save_figure(figure, tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []


def test_figures_leave_global_state_alone_and_ignore_it(tmp_path):
    def png():
        path = save_figure(spectrum_figure(make_curves(), "title"), tmp_path / "figure")[1]
        return path.read_bytes()

    expected = png()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert png() == expected
        assert dict(matplotlib.rcParams) == before
