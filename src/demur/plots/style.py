"""What all pictures share: colours, axes, and names that matplotlib must not read as formulas."""

from typing import Any

import numpy as np

from demur.calibration.words import INFINITE
from demur.extras import extra

CLEAN = "#4477aa"
"""The colour of clean inputs."""
BAD = "#cc3311"
"""The colour of bad inputs, and of what is wrong."""
GOOD = "#228833"
"""The colour of what is right."""
INK = "#222222"
"""The colour of words and lines."""

PALETTE = (
    "#267b9d", "#d28d0d", "#6b1897", "#e10162", "#55a5c6", "#9c2812", "#9d62fe", "#023453", "#680602", "#3506e3",
)  # fmt: skip
"""Ten colours that differ for people with any colour vision, and are dark enough on white.

Found by search: the largest least distance in Oklab, for eyes with three kinds of cones or two (Machado et al., 2009).
"""
MARKERS = "os^DvPX*<>"
"""One for each colour, for prints without colours."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MUTED = "#808080"

WIDE = 10.0
"""Ratio of the upper scores to the median, or of the largest mean to the least, above which an axis is logarithmic."""
ABOVE = {"frameon": False, "loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 5, "columnspacing": 1.2}
"""Where a legend hides nothing."""
LEAST = 1e-7
"""The least score that a logarithmic axis shows."""


def axes_or_new(ax: Any) -> Any:
    """The axes given, or the axes of a new figure, which a notebook shows."""
    if ax is not None:
        return ax
    with extra("matplotlib", "plots"):
        import matplotlib.pyplot as plt
    return plt.subplots(layout="constrained")[1]


def literal(text: Any) -> str:
    r"""A name as matplotlib shows it: no `$` starts a formula, and no leading `_` hides it from a legend."""
    words = str(text).replace("$", r"\$")
    return f" {words}" if words.startswith("_") else words


def tidy(ax: Any, xlabel: str, ylabel: str, *, log: str | None = None) -> None:
    """Name the axes, take away the upper and right side of the frame, and make the "x" or "y" axis logarithmic."""
    ax.set(xlabel=xlabel, ylabel=ylabel, **({f"{log}scale": "log"} if log else {}))
    ax.spines[["top", "right"]].set_visible(False)
    if log:
        getattr(ax, f"{log}axis").set_major_formatter("{x:g}")


def draw_threshold(ax: Any, threshold: Any, *, across: bool) -> None:
    """Draw a threshold as a line, across the picture or upright; several thresholds as a band with edges."""
    if threshold is None:
        return
    levels = np.unique(np.asarray(threshold, "float64").reshape(-1))
    levels = levels[np.abs(levels) <= INFINITE]
    line, band = (ax.axhline, ax.axhspan) if across else (ax.axvline, ax.axvspan)
    ink = ax.xaxis.label.get_color()
    if len(levels) > 1:
        band(levels[0], levels[-1], color=ink, alpha=0.08, linewidth=0, label="thresholds")
    for level in {*levels[:1], *levels[-1:]}:
        line(level, color=ink, linewidth=1.2, linestyle="--", label=None if len(levels) > 1 else "threshold")


def look_of(kind: int) -> dict[str, Any]:
    """The colour and the marker of one of several kinds; the first hundred differ."""
    n = len(PALETTE)
    return {"color": PALETTE[kind % n], "marker": MARKERS[(kind + kind // n) % n]}
