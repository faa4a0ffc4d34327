"""Names beside the points of a scatter plot, where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from fuxictr.plotting.style import INK, SMALL

# Where a name may stand around its point: offset in points, horizontal and vertical alignment.
_PLACES = (
    (5, 0, "left", "center"),
    (-5, 0, "right", "center"),
    (0, 5, "center", "bottom"),
    (0, -5, "center", "top"),
    (4, 4, "left", "bottom"),
    (-4, 4, "right", "bottom"),
    (4, -4, "left", "top"),
    (-4, -4, "right", "top"),
)
_RADIUS = 2.5  # points around a marker that stay free


def name_points(axes: Axes, x: np.ndarray, heights: np.ndarray, names: Sequence[str]) -> list[str]:
    """Writes the names that fit inside the axes without touching a marker or another name.

    A name stands at one of its points: the first row's, or where it does not fit there, the next's.
    The most isolated points come first. Call it when the figure has its final size. ``x`` is (P,)
    in data coordinates, ``heights`` (R, P), one row per run. Returns the names written.
    """
    figure = axes.get_figure()
    figure.draw_without_rendering()
    rows = [np.column_stack([x, row]) for row in heights]
    centres = axes.transData.transform(np.concatenate(rows))
    radius = _RADIUS * figure.dpi / 72
    taken = [Bbox([centre - radius, centre + radius]) for centre in centres]
    written: list[str] = []
    for number, row in enumerate(rows):
        own = centres[number * len(x) : (number + 1) * len(x)]
        for index in _most_isolated_first(own):
            if names[index] not in written:
                text = _place(axes, row[index], names[index], taken)
                if text is not None:
                    taken.append(text)
                    written.append(names[index])
    return written


def _place(axes: Axes, point: np.ndarray, name: str, taken: Sequence[Bbox]) -> Bbox | None:
    """Writes a name at the first place that is free; returns its box, or None."""
    figure = axes.get_figure()
    inside = axes.get_window_extent()
    probe = figure.text(0, 0, name, fontsize=SMALL)
    size = probe.get_window_extent()
    probe.remove()
    centre = axes.transData.transform(point)
    for x, y, horizontal, vertical in _PLACES:
        left = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal] * size.width
        below = {"bottom": 0.0, "center": 0.5, "top": 1.0}[vertical] * size.height
        corner = centre + np.array([x, y]) * figure.dpi / 72 - (left, below)
        box = Bbox.from_bounds(*corner, size.width, size.height).padded(1)
        fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
        fits &= inside.y0 <= box.y0 and box.y1 <= inside.y1
        if fits and not any(box.overlaps(other) for other in taken):
            style = {"ha": horizontal, "va": vertical, "fontsize": SMALL, "color": INK}
            text = axes.annotate(name, point, (x, y), textcoords="offset points", **style)
            text.set_in_layout(False)
            return box
    return None


def _most_isolated_first(points: np.ndarray) -> np.ndarray:
    """Returns the order by the distance to the nearest other point, the farthest first."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(-distances.min(axis=1), kind="stable")
