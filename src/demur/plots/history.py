"""How training went, drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from demur.errors import InvalidSetting, WrongType
from demur.plots.style import ABOVE, WIDE, axes_or_new, look_of, tidy

HELD_OUT = "val_"
"""Before the name of what was measured on rows that were held out."""
LOSS, AGREEMENT = "loss", "agreement"


def plot_history(history: Any, metrics: Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """Draw the loss of each epoch of `fit`, and how well the companion agreed with the classifier.

    Examples:
        >>> ax = plot_history({"loss": [0.9, 0.5, 0.4], "val_loss": [0.8, 0.6, 0.5]})
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('epoch', 'loss')

    Args:
        history: a detector that was fitted in this process, or its `history`.
        metrics: names in the history to draw; by default the loss and the agreement. Of each, what was measured on
            held-out rows is drawn too, dashed.
        ax: where to draw; in a new figure by default.

    Returns:
        The axes of the loss, logarithmic where it fell by orders of magnitude; shares, such as the agreement, have an
        axis of their own, on the right.

    Raises:
        WrongType: it is neither.
        InvalidSetting: there is no history, or no such metric in it.
        MissingExtra: matplotlib is not installed.
    """
    found = getattr(history, "history", history)
    if found is None or (isinstance(found, Mapping) and not found):
        raise InvalidSetting(
            f"{type(history).__name__} has no history: call fit(X) first; a detector that was loaded has none either"
        )
    if not isinstance(found, Mapping):
        raise WrongType(f"history is a detector, or its history: numbers by name; got {type(history).__name__}")
    usual = [name for name in (LOSS, AGREEMENT) if name in found] or [n for n in found if not n.startswith(HELD_OUT)]
    names = usual if metrics is None else list(metrics)
    for name in names:
        if name not in found:
            raise InvalidSetting(f"the history holds no {name!r}; it holds {', '.join(map(str, found)) or 'nothing'}")
    ax = axes_or_new(ax)
    from matplotlib.ticker import MaxNLocator

    shares = [name for name in names if name != LOSS and all(0 <= value <= 1 for value in found[name])]
    others = [name for name in names if name not in shares]
    right = ax.twinx() if others and shares else ax
    drawn = []
    for i, name in enumerate(names):
        axes, factor = (right, 100.0) if name in shares else (ax, 1.0)
        for key, dash in ((name, "-"), (HELD_OUT + name, "--")):
            if key in found:
                values, label = np.asarray(found[key], "float64") * factor, key.replace(HELD_OUT, "held-out ")
                epochs = np.arange(1, len(values) + 1)
                drawn += axes.plot(epochs, values, linestyle=dash, markersize=3.5, label=label, **look_of(i))
    tidy(ax, "epoch", " and ".join(others) or _in_percent(shares))
    if right is not ax:
        right.set_ylabel(_in_percent(shares))
        right.spines["top"].set_visible(False)
    heights = np.concatenate([line.get_ydata() for line in ax.lines])
    if others and heights.min() > 0 and heights.max() > WIDE * heights.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.legend(handles=drawn, **ABOVE)
    return ax


def _in_percent(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} (%)"
