"""A picture of attacks: rows of images with captions, and the scores of each detector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.extras import extra
from demur.plots.scores import plot_score_distribution
from demur.plots.style import INK


class Row(NamedTuple):
    """One row of images in a picture, with captions."""

    name: str
    images: npt.NDArray[Any]
    """`(columns, height, width, channels)`."""
    captions: Sequence[str]
    colours: Sequence[str]


class Histogram(NamedTuple):
    """The scores of clean and of attacked inputs under one detector."""

    name: str
    clean: npt.NDArray[Any]
    attacked: npt.NDArray[Any]
    threshold: float


def attack_picture(path: Path, title: str, rows: Sequence[Row], histograms: Sequence[Histogram]) -> None:
    """Write a picture: rows of images with captions, and below them the scores of each detector.

    Examples:
        >>> row = Row("original", X_new[:4], captions=["0", "1", "2", "3"], colours=["green"] * 4)
        >>> scores = Histogram("AdversarialAE", detector.score(X_new), detector.score(1 - X_new), detector.threshold)
        >>> attack_picture(Path("picture.png"), "Digits", [row], [scores])

    Args:
        path: where to write it; the suffix gives the format.
        title: of the picture.
        rows: each with the same number of images.
        histograms: one for each detector.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with extra("matplotlib", "plots"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    columns = len(rows[0].images)
    figure = Figure(figsize=(1.25 * columns + 1.1, 1.55 * len(rows) + 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, color=INK)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.55 * len(rows), 2.7])[:, 0]
    grid = upper.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for axis, image, caption, colour in zip(axes, row.images, row.captions, row.colours, strict=True):
            axis.imshow(np.clip(image.squeeze(), 0, 1), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xlabel(caption, fontsize=8.5, color=colour, labelpad=3)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set(color=colour, linewidth=1.2)
        axes[0].set_ylabel(row.name, fontsize=10, color=INK)
    for axis, histogram in zip(lower.subplots(1, len(histograms), squeeze=False)[0], histograms, strict=True):
        scores = (histogram.clean, histogram.attacked, histogram.threshold)
        plot_score_distribution(*scores, names=("clean", "attacked, classifier now wrong"), ax=axis)
        axis.set_title(histogram.name, fontsize=10, color=INK)
        axis.xaxis.label.set_fontsize(9)
        axis.set_ylabel("% of images", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=8, frameon=False, loc="upper left")
    figure.savefig(path, dpi=150, facecolor="white")
