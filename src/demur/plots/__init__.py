"""Pictures of what a detector sees and of what an evaluation found. Needs matplotlib.

Functions take `ax`, draw there and return it; without `ax` they draw in a new figure, which a notebook shows.
"""

from demur.plots.curves import plot_accuracy, plot_history, plot_severity
from demur.plots.picture import Histogram, Row, attack_picture
from demur.plots.scores import plot_instance_score, plot_roc, plot_score_distribution
from demur.plots.style import BAD, CLEAN, GOOD, INK

__all__ = [
    "BAD",
    "CLEAN",
    "GOOD",
    "INK",
    "Histogram",
    "Row",
    "attack_picture",
    "plot_accuracy",
    "plot_history",
    "plot_instance_score",
    "plot_roc",
    "plot_score_distribution",
    "plot_severity",
]
__dir__ = __all__.copy
