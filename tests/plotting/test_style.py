from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from fuxictr.plotting.naming import sample_caption, seeds_text, signed
from fuxictr.plotting.point_labels import name_points
from fuxictr.plotting.style import (
    COLOURS,
    COLUMN_WIDTH,
    figure_style,
    finish_figure,
    line_style,
    new_figure,
    shorten,
)
from tests.plotting.layout import assert_readable, drawn_texts, shown_text
from tests.plotting.runs import make_records

REPOSITORY = Path(__file__).resolve().parents[2]
# 0.7926, .7926 and 79.26: what an AUC or a logloss looks like.
RESULT = re.compile(r"(?<![\w.])(0?\.[3-9]\d{3,}|[5-9]\d\.\d{2,})")


def test_no_script_and_no_figure_holds_a_result():
    sources = [
        *REPOSITORY.glob("plot_paper_*.py"),
        *(REPOSITORY / "fuxictr/plotting").rglob("*.py"),
    ]
    assert len(sources) > 15
    found = {
        f"{source.name}: {match[0]}"
        for source in sources
        for match in RESULT.finditer(source.read_text(encoding="utf-8"))
    }
    assert not found


@pytest.mark.parametrize("text", ["auc = 0.7926", "[.792587,", "79.26", "x=0.371931"])
def test_what_a_result_looks_like(text):
    assert RESULT.search(text)


def test_line_style_and_marker_alone_tell_thirty_runs_of_each_variant_apart():
    looks = set()
    for variant in ("dis", "gen"):
        for index in range(30):
            style = line_style(variant, index)
            looks.add((str(style["linestyle"]), style["marker"]))
    assert len(looks) == 60


def test_colours_are_told_apart_by_colour_blind_readers():
    # Vienot's (1999) model of red-green blindness: the colours of one index of the variants differ.
    def as_seen(colour):
        red, green, blue = (channel**2.2 for channel in to_rgb(colour))
        yellow = 0.29 * red + 0.71 * green
        return yellow, blue

    for dis, gen in zip(COLOURS["dis"], COLOURS["gen"], strict=True):
        distance = max(abs(a - b) for a, b in zip(as_seen(dis), as_seen(gen), strict=True))
        assert distance > 0.1, (dis, gen)


def make_figure(caption, labels, title=""):
    with figure_style():
        figure = new_figure(COLUMN_WIDTH, 2)
        axes = figure.add_subplot()
        axes.plot([0, 1])
        axes.set(xlabel="x", ylabel="y")
        finish_figure(figure, title, caption, [Line2D([], [], label=label) for label in labels])
    return figure


def test_legend_and_caption_lengthen_the_figure_and_leave_the_axes_alone():
    bare, full = make_figure("", []), make_figure("caption " * 40, [f"run {i}" for i in range(20)])
    sizes = []
    for figure in (bare, full):
        drawn_texts(figure)
        sizes.append((figure.axes[0].bbox.width, figure.axes[0].bbox.height))
        assert_readable(figure)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert full.get_figheight() > bare.get_figheight() + 0.5


def test_titles_captions_and_long_labels_are_wrapped():
    words = "a title that is far too long for one column of a paper and so must be wrapped"
    label = (
        "a_name_without_a_blank_that_is_wider_than_the_whole_column_of_any_paper_that_is_printed"
    )
    figure = make_figure("word " * 60, [label, "short"], words)
    assert_readable(figure)
    shown = shown_text(figure)
    assert words in shown and "word " * 60 in shown + " "
    assert label in shown.replace(" ", "")


def test_shortened_names_stay_different():
    names = [f"a_rather_long_name_of_field_{i}" for i in range(39)]
    short = shorten(names)
    assert len(set(short)) == 39 and max(map(len, short)) == 22
    assert shorten(["hour", "C1"]) == ["hour", "C1"]
    twins = [f"{'x' * 20}{i}{'y' * 20}" for i in range(3)]
    assert shorten(twins) == twins


def test_names_keep_clear_of_markers_and_of_each_other():
    import numpy as np

    rng = np.random.default_rng(0)
    x, heights = rng.uniform(size=60), rng.uniform(size=(2, 60))
    with figure_style():
        figure = new_figure(COLUMN_WIDTH, 2.5)
        axes = figure.add_subplot()
        for row in heights:
            axes.plot(x, row, "o", markersize=4)
        written = name_points(axes, x, heights, [f"field {i}" for i in range(60)])
    assert 5 < len(written) < 60 and len(set(written)) == len(written)
    assert_readable(figure)
    for row in heights:
        for centre in axes.transData.transform(np.column_stack([x, row])):
            assert not any(text.get_window_extent().contains(*centre) for text in axes.texts)


def test_captions_name_data_sample_and_seeds():
    metas = [make_records().meta, make_records("DCNv2_avazu_gen", "gen", train_seed=2022).meta]
    assert sample_caption(metas) == (
        "avazu_x4_3bbbc4c9, 60 rows of the valid split (sample seed 2019), eval mode; "
        "trained with seeds 2021, 2022"
    )
    old = make_records(train_seed=None).meta
    assert "trained" not in sample_caption([old])
    unknown = dataclasses.replace(metas[0], expid="FM_gen", train_seed=None)
    known = dataclasses.replace(metas[0], expid="FM", train_seed=7)
    # Of two runs the seed of one is known: it is not said of both.
    assert sample_caption([known, unknown]).endswith(
        "; trained with seed 7 (FM; the seed of FM_gen is not known)"
    )
    assert "trained" not in sample_caption([unknown])


def test_seeds_and_signs():
    assert seeds_text([7]) == "seed 7"
    assert seeds_text([9, 7, 9]) == "seeds 7, 9"
    assert seeds_text([3, 1, 2]) == "seeds 1 to 3"
    assert seeds_text([1, 2, 4]) == "seeds 1, 2, 4"
    assert signed(-0.5) == "−0.50" and signed(0.5) == "+0.50"


def test_files_are_the_same_bytes_for_the_same_numbers(tmp_path):
    from fuxictr.plotting.curves import write_training_curves
    from fuxictr.plotting.fields import write_field_spectra
    from tests.plotting.runs import make_row

    contents = []
    for name in ("a", "b"):
        paths = write_field_spectra(tmp_path / name, "d", "M", [make_records()])
        paths += write_training_curves(tmp_path / name, "d", "M", [make_row()])
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
