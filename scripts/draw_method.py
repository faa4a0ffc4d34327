"""Draws the method at a glance, DIS beside GEN: method.png and method.svg in docs/assets/.

method_narrow.svg has GEN below DIS, for narrow screens.

Usage: python scripts/draw_method.py [--output FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fuxictr.files import atomic_path  # noqa: E402

# Okabe and Ito's colours, told apart by colour-blind readers: blue is raw, orange is generated.
RAW, GENERATED, INK, GREY = "#0072B2", "#E69F00", "#222222", "#8A8A8A"
RAW_TINT, GENERATED_TINT, GREY_TINT = "#CFE5F3", "#FBE7BF", "#F2F2F2"

FIELDS = {"1": 1.6, "i": 4.2, "j": 6.8}  # name of a field -> x of its embedding
BLOCK_WIDTH, BLOCK_HEIGHT = 1.68, 0.56
RAW_Y, GENERATED_Y, INTERACTION_Y = 1.0, 5.15, 6.7
BYPASS_X = 8.6


def draw_embeddings(ax: Axes, symbol: str, y: float, colour: str, tint: str) -> None:
    """Draws one embedding for each field, with dots between the fields."""
    for name, x in FIELDS.items():
        corner = (x - BLOCK_WIDTH / 2, y - BLOCK_HEIGHT / 2)
        style = dict(facecolor=tint, edgecolor=colour, linewidth=1.3)
        ax.add_patch(Rectangle(corner, BLOCK_WIDTH, BLOCK_HEIGHT, **style))
        for border in (x - BLOCK_WIDTH / 4, x + BLOCK_WIDTH / 4):
            heights = (y - BLOCK_HEIGHT / 2, y + BLOCK_HEIGHT / 2)
            ax.plot((border, border), heights, color=colour, linewidth=1.3)
        label = rf"$\mathbf{{{symbol}}}_{{{name}}}$"
        ax.text(x, y, label, ha="center", va="center", fontsize=15, color=INK)
    for x in (2.9, 5.5, 8.0):
        ax.text(x, y, "···", ha="center", va="center", fontsize=15, color=colour)


def draw_arrow(ax: Axes, start: tuple, end: tuple, colour: str = INK, width: float = 1.8) -> None:
    """Draws a straight arrow."""
    style = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=width, **style))


def draw_box(ax: Axes, x: float, y: float, width: float, height: float, **style) -> None:
    """Draws a rounded box around the centre (x, y)."""
    rounding = "round,pad=0,rounding_size=0.18"
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=rounding, linewidth=1.5, **style))


def draw_interaction_and_head(ax: Axes, formula: str, sides: str) -> None:
    """Draws what DIS and GEN share: v_j's way to the interaction, the classifier and the loss."""
    x = FIELDS["i"]
    edge = FIELDS["j"] + BLOCK_WIDTH / 2
    bypass_y = RAW_Y - BLOCK_HEIGHT / 2 - 0.32
    path_x = [FIELDS["j"], FIELDS["j"], BYPASS_X, BYPASS_X]
    path_y = [RAW_Y - BLOCK_HEIGHT / 2, bypass_y, bypass_y, INTERACTION_Y]
    ax.plot(path_x, path_y, color=RAW, linewidth=2.4, solid_joinstyle="round")
    draw_arrow(ax, (BYPASS_X, INTERACTION_Y), (x + 0.42, INTERACTION_Y), RAW, 2.4)
    ax.text(edge - 0.5, INTERACTION_Y + 0.3, r"raw $\mathbf{v}_j$", color=RAW, fontsize=12.5)

    ring = dict(marker="o", markersize=25, markerfacecolor="white", markeredgecolor=INK)
    ax.plot(x, INTERACTION_Y, markeredgewidth=1.8, **ring)
    ax.plot(x, INTERACTION_Y, marker="x", color=INK, markersize=9, markeredgewidth=1.8)
    label = dict(ha="right", va="center", color=INK)
    ax.text(x - 0.6, INTERACTION_Y + 0.22, f"interaction {formula}", fontsize=12.5, **label)
    ax.text(x - 0.6, INTERACTION_Y - 0.26, sides, fontsize=11.5, **label)

    draw_arrow(ax, (x, INTERACTION_Y + 0.4), (x, 7.59))
    draw_box(ax, x, 8.0, 2.9, 0.72, facecolor=GREY_TINT, edgecolor=INK)
    ax.text(x, 8.0, "classifier", ha="center", va="center", fontsize=12.5)
    draw_arrow(ax, (x + 1.45, 8.0), (x + 2.15, 8.0))
    ax.text(x + 2.3, 8.0, r"$\hat{y}$", va="center", fontsize=15)
    ax.text(x + 2.8, 8.0, "loss: BCE only", va="center", fontsize=12.5)


def draw_identity(ax: Axes) -> None:
    """Draws the way of v_i to the interaction in DIS, where the encoder is the identity."""
    x = FIELDS["i"]
    draw_box(ax, x, 3.15, 6.9, 2.2, facecolor="none", edgecolor=GREY, linestyle=(0, (4, 3)))
    draw_arrow(ax, (x, RAW_Y + BLOCK_HEIGHT / 2), (x, INTERACTION_Y - 0.4), RAW, 2.4)
    text = dict(va="center", fontsize=12.5, color="#5F5F5F")
    ax.text(x - 0.3, 3.15, "no encoder", ha="right", **text)
    ax.text(x + 0.3, 3.15, "(identity)", ha="left", **text)
    ax.text(x + 0.25, 5.15, r"raw $\mathbf{v}_i$", va="center", color=RAW, fontsize=12.5)


def draw_encoder(ax: Axes) -> None:
    """Draws GEN's encoder, which predicts every field from all fields, and the generated row."""
    x = FIELDS["i"]
    bottom, top = 2.05, 3.5
    draw_box(ax, x, 3.15, 6.9, 2.2, facecolor="#FFFAEF", edgecolor=GENERATED)
    for start in FIELDS.values():
        draw_arrow(ax, (start, RAW_Y + BLOCK_HEIGHT / 2), (start, bottom), RAW)
        for end in FIELDS.values():
            ax.plot([start, end], [bottom + 0.05, top], color=INK, linewidth=1.0, alpha=0.55)
        draw_arrow(ax, (start, 4.25), (start, GENERATED_Y - BLOCK_HEIGHT / 2), GENERATED)
    formula = r"$\mathbf{z} \,=\, \gamma \cdot \mathrm{ReLU}(\mathbf{v}W)$"
    ax.text(x, 3.9, f"encoder: {formula}", ha="center", va="center", fontsize=14)
    caption = dict(boxstyle="round,pad=0.25", facecolor="#FFFAEF", edgecolor="none", alpha=0.95)
    ax.text(
        x,
        2.72,
        "all fields predict all fields",
        ha="center",
        va="center",
        fontsize=12,
        bbox=caption,
    )
    draw_embeddings(ax, "z", GENERATED_Y, "#B97F00", GENERATED_TINT)
    ax.text(x + 0.3, GENERATED_Y + 0.52, "generated embeddings", fontsize=11.5, color="#8A5A00")
    start = (x, GENERATED_Y + BLOCK_HEIGHT / 2)
    draw_arrow(ax, start, (x, INTERACTION_Y - 0.4), GENERATED, 2.4)


def draw_method(is_narrow: bool = False) -> plt.Figure:
    """Returns the figure; the two panels lie side by side, or one below the other."""
    plt.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "svg.fonttype": "path",
            "svg.hashsalt": "ge4rec",
            "text.color": INK,
        }
    )
    grid, size = ((2, 1), (5.5, 11.2)) if is_narrow else ((1, 2), (11, 5.6))
    figure, axes = plt.subplots(*grid, figsize=size)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, wspace=0.02, hspace=0.02)
    panels = (
        ("DIS", "discriminative", r"$\langle\mathbf{v}_i, \mathbf{v}_j\rangle$", "raw with raw"),
        (
            "GEN",
            "supervised feature generation",
            r"$\langle\mathbf{z}_i, \mathbf{v}_j\rangle$",
            "generated with raw",
        ),
    )
    for ax, (name, long_name, formula, sides) in zip(axes, panels, strict=True):
        ax.set(xlim=(0, 10), ylim=(0.05, 9.75))
        ax.axis("off")
        ax.text(0.6, 9.2, name, fontsize=20, fontweight="bold", va="center")
        ax.text(2.2, 9.17, long_name, fontsize=14, va="center", color="#444444")
        draw_interaction_and_head(ax, formula, sides)
        draw_embeddings(ax, "v", RAW_Y, RAW, RAW_TINT)
        ax.text(0.76, 0.25, "raw embeddings of the fields", fontsize=11.5, color="#005A8F")
    draw_identity(axes[0])
    draw_encoder(axes[1])
    return figure


def main() -> None:
    """Writes the figure as PNG and SVG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "assets")
    folder = parser.parse_args().output
    creator = {"Creator": "python scripts/draw_method.py"}
    figure = draw_method()
    with atomic_path(folder / "method.png") as path:
        figure.savefig(path, dpi=160, facecolor="white", metadata=creator)
    for name, drawn in (("method", figure), ("method_narrow", draw_method(is_narrow=True))):
        about = {**creator, "Date": None}
        with atomic_path(folder / f"{name}.svg") as path:
            drawn.savefig(path, facecolor="white", metadata=about)


if __name__ == "__main__":
    main()
