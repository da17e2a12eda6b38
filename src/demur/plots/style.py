"""What all pictures share: colours, axes, and words that matplotlib takes literally."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import NonFinite, ShapeMismatch
from demur.extras import extra
from demur.metrics import numbers

CLEAN = "#4477aa"
"""The colour of clean inputs."""
BAD = "#cc3311"
"""Of bad inputs, and of what is wrong."""
GOOD = "#228833"
"""Of what is right."""
INK = "#222222"
"""Of words and lines."""

# Told apart by people with any colour vision, and dark enough on white and light enough on black (after Paul Tol).
PALETTE = ("#4477aa", "#ee7733", "#aa3377", "#009988", "#997700", "#7788bb")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MUTED = "#808080"

BEYOND = 1e30
"""What is above is infinite: an evaluation's file holds the largest finite number in its place."""


def axes_or_new(ax: Any) -> Any:
    """The axes given, or those of a new figure, which a notebook shows.

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


def tidy(ax: Any, xlabel: str, ylabel: str) -> None:
    """Name the axes, and take the frame's upper and right side away."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)


def checked_scores(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Scores as `(n,)` that can be drawn: what is infinite stands a little above all others.

    Raises:
        WrongType: they are no numbers.
        NonFinite: a score is NaN.
        ShapeMismatch: they are no scores of instances.
    """
    scores = numbers(values, name)
    if scores.ndim != 1:
        raise ShapeMismatch(f"{name} holds one score an instance, (n,); got {scores.shape}")
    if np.isnan(scores).any():
        raise NonFinite(f"{name} holds NaN")
    infinite = np.abs(scores) > BEYOND
    if infinite.any():
        largest = float(np.abs(scores[~infinite]).max(initial=0.0)) or 1.0
        scores = np.where(infinite, np.sign(scores) * 1.5 * largest, scores)
    return scores


def draw_threshold(ax: Any, threshold: Any, *, across: bool) -> None:
    """Draw a threshold as a line, across the picture or upright; several, one a class, as a band and its edges."""
    if threshold is None:
        return
    levels = np.unique(np.asarray(threshold, "float64").reshape(-1))
    line, band = (ax.axhline, ax.axhspan) if across else (ax.axvline, ax.axvspan)
    ink = ax.xaxis.label.get_color()
    if len(levels) > 1:
        band(levels[0], levels[-1], color=ink, alpha=0.08, linewidth=0, label="thresholds")
    for level in {levels[0], levels[-1]}:
        line(level, color=ink, linewidth=1.2, linestyle="--", label=None if len(levels) > 1 else "threshold")


def colours_for(count: int) -> Sequence[tuple[str, Any]]:
    """A colour and a line style for each of some curves."""
    return [(PALETTE[i % len(PALETTE)], DASHES[(i // len(PALETTE) + i) % len(DASHES)]) for i in range(count)]
