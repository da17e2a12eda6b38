"""What all pictures share: colours, axes, and names that matplotlib must not read as formulas."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.metrics import numbers
from demur.calibration.wording import INFINITE
from demur.errors import NonFinite, ShapeMismatch
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
    """The axes given, or the axes of a new figure, which a notebook shows.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
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


def checked_scores(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Scores as `(n,)`; what an evaluation's file holds in place of infinity becomes infinite.

    Raises:
        WrongType, ShapeMismatch, NonFinite: they are not numbers, not `(n,)`, or hold NaN.
    """
    scores = numbers(values, name)
    if scores.ndim != 1:
        raise ShapeMismatch(f"{name} holds one score an instance, (n,); got {scores.shape}")
    if np.isnan(scores).any():
        raise NonFinite(f"{name} holds NaN")
    return np.where(np.abs(scores) > INFINITE, np.copysign(np.inf, scores), scores)


def needs_log(scores: npt.NDArray[np.float64]) -> bool:
    """Whether scores span orders of magnitude, so that most would lie at the edge of a linear axis."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0 or (finite < 0).any():
        return False
    middle, upper = np.quantile(finite, [0.5, 0.99])
    return bool(upper > WIDE * middle)


def place_of_infinity(scores: npt.NDArray[np.float64], *, log: bool) -> float:
    """Where infinite scores are drawn: visibly above all others."""
    finite = np.abs(scores[np.isfinite(scores)])
    largest = float(finite.max(initial=0.0)) or 1.0
    return largest * (3.0 if log else 1.5)


def mark_infinity(ax: Any, place: float, *, across: bool) -> None:
    """Mark the place of infinite scores with the sign of infinity."""
    line, at = (ax.axhline, ax.get_yaxis_transform) if across else (ax.axvline, ax.get_xaxis_transform)
    line(place, color=MUTED, linewidth=0.6, linestyle=":")
    x, y = (1.01, place) if across else (place, 1.01)
    alignment = {"va": "center"} if across else {"ha": "center"}
    ax.text(x, y, "\N{INFINITY}", transform=at(), fontsize="large", **alignment)


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


def colours_for(count: int) -> Sequence[tuple[str, Any]]:
    """A colour and a line style for each of some curves."""
    return [(PALETTE[i % len(PALETTE)], DASHES[(i // len(PALETTE) + i) % len(DASHES)]) for i in range(count)]


def look_of(kind: int) -> dict[str, Any]:
    """The colour and the marker of one of several kinds; the first hundred differ."""
    n = len(PALETTE)
    return {"color": PALETTE[kind % n], "marker": MARKERS[(kind + kind // n) % n]}
