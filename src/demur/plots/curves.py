"""Curves: accuracy against budget, scores against severity, loss against epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from demur.calibration.words import number
from demur.errors import InvalidSetting, WrongType
from demur.evaluation.result import Evaluation, Threat
from demur.plots.style import (
    ABOVE,
    BAD,
    CLEAN,
    LEAST,
    MUTED,
    WIDE,
    axes_or_new,
    draw_threshold,
    literal,
    look_of,
    tidy,
)

CLOSE = 0.07
"""Share of an axis below which the numbers of two ticks overlap."""
HELD_OUT = "val_"
"""Before the name of what was measured on rows that were held out."""
LOSS, AGREEMENT = "loss", "agreement"
WAYS = (
    ("accuracy", "classifier alone", BAD, "--", "o"),
    ("always_corrected", "always corrected", MUTED, ":", "s"),
    ("corrected", "corrected", CLEAN, "-", "^"),
)


def plot_accuracy(
    evaluation: Evaluation, name: str | None = None, *, knowledge: str | None = None, ax: Any = None
) -> Any:
    """Draw accuracy against an attack's budget or a corruption's severity, with and without the guard.

    Examples:
        >>> ax = plot_accuracy(evaluation, knowledge="white-box")

    Args:
        evaluation: what `evaluate` found.
        name: of an attack or a corruption; by default the attack with the most strengths. Threats of one name, or of
            the knowledge where no name is given, are averaged at each strength.
        knowledge: only threats of this knowledge, such as "white-box" or "corruption".
        ax: where to draw; in a new figure by default.

    Returns:
        The axes. Strength 0 is the unchanged rows. Bands are 95 % intervals; the band of a mean has the mean bounds.

    Raises:
        InvalidSetting: there is no such threat with a strength.
        MissingExtra: matplotlib is not installed.
    """
    threats = _chosen(evaluation, name, knowledge)
    by_strength = {strength: [t for t in threats if t.strength == strength] for strength in _strengths(threats)}
    x, lowest = [0.0, *by_strength], 100.0
    ax = axes_or_new(ax)
    for field, label, colour, dash, marker in WAYS:
        estimates = [[getattr(threat, field) for threat in group] for group in by_strength.values()]
        # One row each: value, low, high.
        found = np.array([getattr(evaluation.clean, field), *(np.mean(several, axis=0) for several in estimates)]) * 100
        ax.plot(x, found[:, 0], color=colour, linestyle=dash, marker=marker, markersize=4, label=label)
        ax.fill_between(x, found[:, 1], found[:, 2], color=colour, alpha=0.15, linewidth=0)
        lowest = min(lowest, float(found[:, 1].min()))
    norms = {threat.norm for threat in threats if threat.norm}
    tidy(ax, (f"budget ({' or '.join(sorted(norms))})" if norms else "severity") + _inputs(threats), "accuracy (%)")
    # An accuracy that stays above a half is seen better from near.
    ax.set_ylim(0 if lowest < 50 else 10 * np.floor((lowest - 2) / 10), 101)
    _set_ticks(ax, x)
    ax.legend(frameon=False)
    return ax


def _set_ticks(ax: Any, budgets: Sequence[float]) -> None:
    """Put ticks at the measured budgets; the axis is logarithmic where they would overlap."""
    from matplotlib.ticker import NullLocator

    if min(np.diff(budgets)) < CLOSE * budgets[-1]:
        ax.set_xscale("symlog", linthresh=budgets[1], linscale=0.5)
        ax.set_xlim(left=-0.1 * budgets[1])
    ax.set_xticks(budgets, [number(budget) for budget in budgets])
    ax.xaxis.set_minor_locator(NullLocator())


def plot_severity(evaluation: Evaluation, name: str | None = None, *, ax: Any = None) -> Any:
    """Draw the mean scores of harmful and of harmless corruptions by severity.

    A harmful corruption turned a right prediction wrong; a harmless one left it right. A thin line is one corruption, a
    thick line the mean over the rows of all corruptions.

    Examples:
        >>> ax = plot_severity(evaluation)

    Args:
        evaluation: what `evaluate` found.
        name: one corruption; all by default.
        ax: where to draw; in a new figure by default.

    Returns:
        The axes.

    Raises:
        InvalidSetting: there is no such corruption.
        MissingExtra: matplotlib is not installed.
    """
    threats = _chosen(evaluation, name, "corruption")
    names = list(dict.fromkeys(threat.name for threat in threats))
    ax = axes_or_new(ax)
    for kind, colour, dash, marker in (("harmful", BAD, "-", "o"), ("harmless", CLEAN, "--", "s")):
        for one in names if len(names) > 1 else ():
            x, y = _mean_scores([threat for threat in threats if threat.name == one], kind)
            ax.plot(x, y, color=colour, linewidth=0.8, alpha=0.4)
        x, y = _mean_scores(threats, kind)
        ax.plot(x, y, color=colour, linestyle=dash, linewidth=2, marker=marker, markersize=5, label=kind)
    ax.axhline(max(LEAST, float(np.mean(evaluation.clean.scores))), color=MUTED, linestyle=":", label="unchanged")
    draw_threshold(ax, evaluation.threshold, across=True)
    tidy(ax, "severity" + _inputs(threats), "mean score (nats)", log="y" if _is_wide(ax) else None)
    ax.set_xticks(_strengths(threats))
    ax.legend(frameon=False)
    return ax


def plot_history(history: Any, metrics: Sequence[str] | None = None, *, ax: Any = None) -> Any:
    """Draw the loss of each epoch of `fit`, and how well the companion agreed with the classifier.

    Examples:
        >>> ax = plot_history({"loss": [0.9, 0.5, 0.4], "val_loss": [0.8, 0.6, 0.5]})
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('epoch', 'loss')

    Args:
        history: a detector that was fitted in this process, or its `history`.
        metrics: names in the history; by default the loss and the agreement. The same on held-out rows is dashed.
        ax: where to draw; in a new figure by default.

    Returns:
        The axes of the loss, logarithmic where it fell by orders of magnitude. Shares, such as the agreement, have
        another axis, on the right.

    Raises:
        WrongType: history is neither.
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
    in_percent = f"{' and '.join(shares)} (%)"
    tidy(ax, "epoch", " and ".join(others) or in_percent, log="y" if others and _is_wide(ax) else None)
    if right is not ax:
        right.set_ylabel(in_percent)
        right.spines["top"].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.legend(handles=drawn, **ABOVE)
    return ax


def _chosen(evaluation: Evaluation, name: str | None, knowledge: str | None) -> Sequence[Threat]:
    """The threats that are meant and have a strength, by strength."""
    if not hasattr(evaluation, "threats"):
        raise WrongType(
            f"what is drawn is an Evaluation, as demur.evaluate returns it; got {type(evaluation).__name__}"
        )
    able = [t for t in evaluation.threats if t.strength is not None and knowledge in {None, t.knowledge}]
    names = [threat.name for threat in able]
    if name is None and knowledge is None and names:
        attacks = [threat.name for threat in able if threat.norm is not None] or names
        name = max(dict.fromkeys(attacks), key=attacks.count)
    chosen = [threat for threat in able if name in {None, threat.name}]
    if not chosen:
        wanted = " ".join(literal(word) for word in (knowledge, name) if word) or "threat"
        there = ", ".join(dict.fromkeys(names)) or "none"
        raise InvalidSetting(f"the evaluation holds no {wanted} with a strength; it holds {there}")
    return sorted(chosen, key=lambda threat: threat.strength or 0.0)


def _inputs(threats: Sequence[Threat]) -> str:
    """On how many inputs threats were tried, for the name of an axis."""
    rows = sorted({threat.rows for threat in threats})
    return f", {rows[0]:,} inputs" if len(rows) == 1 else f", {rows[0]:,} to {rows[-1]:,} inputs"


def _strengths(threats: Sequence[Threat]) -> list[float]:
    return sorted({threat.strength for threat in threats if threat.strength is not None})


def _mean_scores(threats: Sequence[Threat], kind: str) -> tuple[list[float], list[float]]:
    """The strengths with rows of a kind, and the mean score over all these rows at each."""
    x, y = [], []
    for strength in _strengths(threats):
        harms = [threat.harm for threat in threats if threat.strength == strength and getattr(threat.harm, kind)]
        if harms:
            rows = [getattr(harm, kind) for harm in harms]
            means = [getattr(harm, f"mean_{kind}") for harm in harms]
            x.append(strength)
            y.append(max(LEAST, float(np.average(means, weights=rows))))
    return x, y


def _is_wide(ax: Any) -> bool:
    """Whether the lines span orders of magnitude above 0."""
    heights = np.concatenate([np.asarray(line.get_ydata(), "float64") for line in ax.lines])
    return bool(heights.min() > 0 and heights.max() > WIDE * heights.min())
