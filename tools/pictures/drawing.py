"""What the pictures of the documentation share: a size that a telephone can show, a white ground, boxes and arrows."""

import os
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from demur.plots.style import INK, PALETTE

# The same file from the same figures: no date and no version in it.
METADATA = {"Software": None}
IMAGES = Path(os.environ.get("DEMUR_IMAGES", Path(__file__).resolve().parents[2] / "docs/images"))
"""Where pictures are written; elsewhere for whoever wants to look before they are replaced."""
WIDTH = 6.0
"""Inches. A telephone shows a picture at a third of its size: letters are large, and panels stand on each other."""
SMALL, NORMAL, LARGE = 11, 12, 13
GROUND, GREY = "#ffffff", "#666666"
BLUE, ORANGE, PURPLE, TEAL, BROWN, PALE = PALETTE


def figure(height: float, rows: int = 1, **options: Any) -> tuple[Any, list[Any]]:
    """A figure of the usual width and its axes, one above the other."""
    made = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=GROUND)
    FigureCanvasAgg(made)
    axes = made.subplots(rows, 1, squeeze=False, **options)[:, 0].tolist()
    for ax in axes:
        ax.set_facecolor(GROUND)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=SMALL)
    return made, axes


def named(ax: Any, title: str, xlabel: str, ylabel: str) -> None:
    """Say what an axis shows."""
    ax.set_title(title, fontsize=LARGE, color=INK, loc="left")
    ax.set_xlabel(xlabel, fontsize=NORMAL, color=INK)
    ax.set_ylabel(ylabel, fontsize=NORMAL, color=INK)


def drawing(width: float, height: float) -> tuple[Any, Any]:
    """Empty axes without a frame, in which one unit is an inch of a picture of the usual width, about."""
    made = Figure(figsize=(WIDTH, WIDTH * height / width), facecolor=GROUND)
    FigureCanvasAgg(made)
    ax = made.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return made, ax


def box(
    ax: Any,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    *,
    colour: str = INK,
    filled: bool = False,
    dashed: bool = False,
    size: float = NORMAL,
    under: bool = False,
) -> None:
    """A box with its middle at a point, and words in it; one that others are in is `under` them."""
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=colour if filled else GROUND,
        edgecolor=colour,
        linewidth=1.6,
        linestyle="--" if dashed else "-",
        zorder=0 if under else 2,
    )
    ax.add_patch(patch)
    ax.text(
        x, y, text, ha="center", va="center", fontsize=size, color=GROUND if filled else INK, zorder=3, linespacing=1.25
    )


def arrow(
    ax: Any,
    begin: tuple[float, float],
    end: tuple[float, float],
    *,
    colour: str = INK,
    bend: float = 0.0,
    dashed: bool = False,
) -> None:
    """An arrow from one point to another."""
    ax.add_patch(
        FancyArrowPatch(
            begin,
            end,
            arrowstyle="-|>",
            mutation_scale=14,
            linewidth=1.6,
            linestyle=(0, (4, 3)) if dashed else "-",
            color=colour,
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def note(
    ax: Any, x: float, y: float, text: str, *, colour: str = GREY, size: float = SMALL, at: str = "center"
) -> None:
    """Words beside what they are about."""
    ax.text(x, y, text, fontsize=size, color=colour, ha=at, va="center", zorder=3, linespacing=1.25)


def save(made: Any, name: str) -> None:
    """Write a picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    made.savefig(IMAGES / f"{name}.png", dpi=150, facecolor=GROUND, metadata=METADATA)
    print(f"{name}.png")
