"""What every figure must hold: nothing clipped, nothing overlapping, nothing too small."""

from __future__ import annotations

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SMALLEST = 6.5  # points
PRINT_DPI = 300


def drawn_texts(figure: Figure) -> list[Text]:
    """Returns the texts that a reader sees, laid out at the resolution of the PNG."""
    figure.set_dpi(PRINT_DPI)
    FigureCanvasAgg(figure)  # which measures the letters
    figure.draw_without_rendering()
    hidden = {id(label) for axes in figure.axes for label in _outside(axes)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def shown_text(figure: Figure) -> str:
    """Returns all texts of a figure, with every break of a line as a blank."""
    return " ".join(" ".join(text.get_text().split()) for text in drawn_texts(figure))


def assert_readable(figure: Figure, smallest: float = SMALLEST) -> None:
    """Texts lie inside the canvas, do not overlap each other, and are large enough."""
    texts = drawn_texts(figure)
    boxes = [_box(text) for text in texts]
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= 0 and box.y0 >= 0, f"clipped: {text.get_text()!r}"
        assert box.x1 <= width and box.y1 <= height, f"clipped: {text.get_text()!r}"
        assert text.get_fontsize() >= smallest, f"too small: {text.get_text()!r}"
    for (one, own), (other, its) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not own.overlaps(its), (one.get_text(), other.get_text())
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.bbox) for axes in figure.axes), "legend over the axes"
        assert box.x0 >= 0 and box.x1 <= width, "legend clipped"


def _box(text: Text) -> Bbox:
    """Returns the box of a text's letters; a font's own lines are taller than what is printed."""
    box = text.get_window_extent()
    return Bbox.from_extents(box.x0, box.y0 + 1, box.x1, box.y1 - 1)


def _outside(axes) -> list[Text]:
    """Returns the tick labels beyond the limits, which matplotlib keeps but does not draw."""
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        if not axis.get_visible() or not axes.axison:
            found += [label for tick in axis.get_major_ticks() for label in _labels(tick)]
            continue
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * max(abs(low), abs(high), 1e-300)
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not low - slack <= tick.get_loc() <= high + slack:
                found += _labels(tick)
    return found


def _labels(tick) -> list[Text]:
    return [tick.label1, tick.label2]
