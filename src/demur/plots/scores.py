"""Scores drawn: each instance's, how they are distributed, and what a threshold on them would catch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.metrics import auroc, numbers, roc_curve
from demur.calibration.words import INFINITE
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType
from demur.plots.style import (
    ABOVE,
    BAD,
    CLEAN,
    DASHES,
    LEAST,
    MUTED,
    PALETTE,
    WIDE,
    axes_or_new,
    draw_threshold,
    literal,
    look_of,
    tidy,
)

Scores = npt.NDArray[np.float64]
ROOM = 5
"""So many names of curves have room in the axes."""


def plot_instance_score(
    preds: Any,
    target: Any = None,
    labels: Sequence[Any] | None = None,
    threshold: Any = None,
    ylim: tuple[float | None, float | None] = (None, None),
    *,
    log: bool | None = None,
    ax: Any = None,
) -> Any:
    """Draw the scores of instances in their order, with a colour and a marker for each class, and the threshold.

    Examples:
        >>> ax = plot_instance_score(detector.predict(X_new), threshold=detector.threshold)
        >>> ax.get_ylabel()
        'score (nats)'

    Args:
        preds: what `predict` or `correct` returned, or scores `(n,)`.
        target: `(n,)`, the classes of the instances; by default all are of one kind.
        labels: names of classes; a class that is a whole number is an index into them.
        threshold: in nats; one, or one for each class.
        ylim: lowest and highest score to show.
        log: whether the axis of the scores is logarithmic; by default where scores span orders of magnitude.
        ax: where to draw; in a new figure by default.

    Returns:
        The axes. Infinite scores stand above all others, marked with the sign of infinity.

    Raises:
        InvalidSetting: the result holds no scores.
        ShapeMismatch: there are not as many classes as scores.
        MissingExtra: matplotlib is not installed.
    """
    scores = _checked_scores(_scores_of(preds), "preds")
    classes = np.zeros(len(scores), int) if target is None else np.asarray(target).reshape(-1)
    if len(classes) != len(scores):
        raise ShapeMismatch(f"target holds the class of each of {len(scores)} scores; got {len(classes)}")
    ax = axes_or_new(ax)
    log = _needs_log(scores) and (ylim[0] is None or ylim[0] > 0) if log is None else log
    infinite = np.isinf(scores)
    top = _place_of_infinity(scores, log=log)
    drawn = np.where(infinite, np.sign(scores) * top, scores)
    drawn = np.maximum(drawn, _floor(drawn)) if log else drawn
    for i, kind in enumerate(np.unique(classes)):
        rows = np.flatnonzero(classes == kind)
        name = "score" if target is None else _name(kind, labels)
        ax.plot(rows, drawn[rows], linestyle="", markersize=4.5, alpha=0.85, label=name, **look_of(i))
    draw_threshold(ax, threshold, across=True)
    tidy(ax, "instance", "score (nats)", log="y" if log else None)
    if infinite.any():
        _mark_infinity(ax, top, across=True)
    ax.set_ylim(ylim)
    ax.legend(**ABOVE)
    return ax


def plot_score_distribution(
    score_clean: Any,
    score_bad: Any,
    threshold: Any = None,
    *,
    names: tuple[str, str] = ("clean", "attacked"),
    log: bool | None = None,
    ax: Any = None,
) -> Any:
    """Draw how scores of clean and of bad inputs are distributed.

    Examples:
        >>> ax = plot_score_distribution(detector.score(X_new), detector.score(1 - X_new), detector.threshold)

    Args:
        score_clean: `(n,)`, in nats.
        score_bad: `(m,)`; may be empty.
        threshold: in nats; one, or one for each class.
        names: of the two, in the legend.
        log: whether the axis of the scores is logarithmic; by default where scores span orders of magnitude.
        ax: where to draw; in a new figure by default.

    Returns:
        The axes; the legend says how many scores there are. Infinite scores are in the last bar, marked as infinite.

    Raises:
        EmptyInput: there are no scores at all.
        MissingExtra: matplotlib is not installed.
    """
    clean, bad = _checked_scores(score_clean, "score_clean"), _checked_scores(score_bad, "score_bad")
    every = np.concatenate([clean, bad])
    if len(every) == 0:
        raise EmptyInput("a distribution needs at least one score; got none")
    ax = axes_or_new(ax)
    log = _needs_log(every) if log is None else log
    top = _place_of_infinity(every, log=log)
    shown = np.clip(every, -top, top)
    # The lowest few are drawn at the edge of a logarithmic axis, so that they do not stretch it.
    floor = _floor(shown, 2) if log else float(shown.min())
    highest = max(float(shown.max()), 10 * floor) if log else float(shown.max())
    span = (highest - floor) or 1.0
    bins = np.geomspace(floor * 0.999, highest * 1.05, 41) if log else np.linspace(floor, floor + span * 1.001, 41)
    for name, values, colour in zip(names, (clean, bad), (CLEAN, BAD), strict=True):
        if len(values):
            drawn, weights = np.clip(values, floor, top), np.full(len(values), 100 / len(values))
            label = f"{literal(name)} ({len(values):,})"
            ax.hist(drawn, bins, weights=weights, color=colour, alpha=0.6, histtype="stepfilled", label=label)
    draw_threshold(ax, threshold, across=False)
    tidy(ax, "score (nats)", "% of inputs", log="x" if log else None)
    if np.isinf(every).any():
        _mark_infinity(ax, top, across=False)
    ax.set_ylim(top=ax.get_ylim()[1] * 1.35)  # room for the legend
    ax.legend(frameon=False, loc="upper left")
    return ax


def plot_roc(curves: Mapping[str, Any], *, log: bool = False, ax: Any = None) -> Any:
    """Draw ROC curves: the share of bad inputs that a threshold flags against the share of clean inputs.

    Examples:
        >>> ax = plot_roc({"negatives": (detector.score(X_new), detector.score(1 - X_new))}, log=True)

    Args:
        curves: by name, `(score_clean, score_bad)`, or `{"scores": ..., "labels": ...}` with label 1 for bad inputs.
        log: whether the axis of false-positive rates is logarithmic: rates below 10 % are those that matter.
        ax: where to draw; in a new figure by default.

    Returns:
        The axes; the legend gives the AUROC of each curve, and how many bad inputs there are.

    Raises:
        WrongType: curves are not scores by name.
        EmptyInput: there is no curve, or a curve lacks clean or bad scores.
        NonFinite: a score is NaN.
        MissingExtra: matplotlib is not installed.
    """
    if not isinstance(curves, Mapping):
        raise WrongType(f"curves are scores by name, {{'PGD': (score_clean, score_bad)}}; got {type(curves).__name__}")
    if not curves:
        raise EmptyInput("a ROC plot needs at least one curve; got none")
    pairs = {name: _clean_and_bad(name, scores) for name, scores in curves.items()}
    drawn = {
        f"{literal(name)} ({auroc(*pair):.3f}, n = {len(pair[1]):,})": roc_curve(*pair) for name, pair in pairs.items()
    }
    # A rate of 0 has no place on a logarithmic axis: it is drawn at the left edge.
    edge = 0.5 / max(len(clean) for clean, _ in pairs.values()) if log else 0.0
    ax = axes_or_new(ax)
    for i, (label, (rates, true)) in enumerate(drawn.items()):
        colour, dash = PALETTE[i % len(PALETTE)], DASHES[(i // len(PALETTE) + i) % len(DASHES)]
        false = np.maximum(rates, edge)
        ax.plot(100 * false, 100 * true, color=colour, linestyle=dash, linewidth=1.6, label=label)
    chance = np.geomspace(edge, 1, 50) if log else np.array([0.0, 1.0])
    ax.plot(100 * chance, 100 * chance, color=MUTED, linewidth=0.8, linestyle=":")
    tidy(ax, "false-positive rate (%)", "true-positive rate (%)", log="x" if log else None)
    ax.set(xlim=(100 * edge, 100), ylim=(0, 101))
    inside = {"loc": "lower right"} if len(drawn) <= ROOM else {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    ax.legend(frameon=False, title="AUROC, bad inputs", alignment="left", **inside)
    return ax


def _checked_scores(values: Any, name: str) -> Scores:
    """Scores as `(n,)`; what an evaluation's file holds in place of infinity becomes infinite."""
    scores = numbers(values, name)
    if scores.ndim != 1:
        raise ShapeMismatch(f"{name} holds one score an instance, (n,); got {scores.shape}")
    if np.isnan(scores).any():
        raise NonFinite(f"{name} holds NaN")
    return np.where(np.abs(scores) > INFINITE, np.copysign(np.inf, scores), scores)


def _needs_log(scores: Scores) -> bool:
    """Whether scores span orders of magnitude, so that most would lie at the edge of a linear axis."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0 or (finite < 0).any():
        return False
    middle, upper = np.quantile(finite, [0.5, 0.99])
    return bool(upper > WIDE * middle)


def _place_of_infinity(scores: Scores, *, log: bool) -> float:
    """Where infinite scores are drawn: visibly above all others."""
    finite = np.abs(scores[np.isfinite(scores)])
    largest = float(finite.max(initial=0.0)) or 1.0
    return largest * (3.0 if log else 1.5)


def _mark_infinity(ax: Any, place: float, *, across: bool) -> None:
    """Mark the place of infinite scores with the sign of infinity."""
    line, at = (ax.axhline, ax.get_yaxis_transform) if across else (ax.axvline, ax.get_xaxis_transform)
    line(place, color=MUTED, linewidth=0.6, linestyle=":")
    x, y = (1.01, place) if across else (place, 1.01)
    alignment = {"va": "center"} if across else {"ha": "center"}
    ax.text(x, y, "\N{INFINITY}", transform=at(), fontsize="large", **alignment)


def _floor(scores: Scores, percentile: float = 0) -> float:
    """The least score that a logarithmic axis shows; zeros are drawn there."""
    above = scores[scores > 0]
    return max(float(np.percentile(scores, percentile)), float(above.min(initial=1.0)) if percentile == 0 else 0, LEAST)


def _scores_of(preds: Any) -> Any:
    if not isinstance(preds, Mapping):
        return preds
    scores = preds.get("data", preds).get("instance_score")
    if scores is None:
        raise InvalidSetting("the result holds no instance_score: call predict(..., return_instance_score=True)")
    return scores


def _name(kind: Any, labels: Sequence[Any] | None) -> str:
    if labels is not None and isinstance(kind, np.integer | np.bool_) and 0 <= int(kind) < len(labels):
        return literal(labels[int(kind)])
    return literal(kind)


def _clean_and_bad(name: str, scores: Any) -> tuple[Any, Any]:
    is_both = set(scores) >= {"scores", "labels"} if isinstance(scores, Mapping) else False
    if not is_both and not (isinstance(scores, list | tuple) and len(scores) == 2):
        wanted = "(score_clean, score_bad) or {'scores': ..., 'labels': ...}"
        raise WrongType(f"curves[{name!r}] is {wanted}; got {type(scores).__name__}")
    if isinstance(scores, Mapping):
        is_bad = np.asarray(scores["labels"]).reshape(-1).astype(bool)
        values = numbers(scores["scores"], f"curves[{name!r}]").reshape(-1)
        if len(values) != len(is_bad):
            raise ShapeMismatch(f"curves[{name!r}] has {len(values)} scores and {len(is_bad)} labels")
        return values[~is_bad], values[is_bad]
    clean, bad = (numbers(part, f"curves[{name!r}]") for part in scores)
    return clean, bad
