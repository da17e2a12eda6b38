"""The pictures of docs/maths.md: the two halves of a detector, what each term of a score sees, how a threshold is read.

    KERAS_BACKEND=tensorflow python tools/pictures/maths.py

Computes with demur's own functions, on scikit-learn's digits. Takes about a quarter of a minute.
"""

import numpy as np
from drawing import (
    BLUE,
    NORMAL,
    ORANGE,
    PURPLE,
    SMALL,
    TEAL,
    arrow,
    box,
    drawing,
    figure,
    named,
    note,
    save,
)

from demur.plots.style import INK


def views() -> None:
    """The two detectors as they are: a frozen reference, an opinion that is trained, a score."""
    made, ax = drawing(8.0, 7.9)
    for top, title, is_ae in ((7.6, "AdversarialAE", True), (3.5, "ModelDistillation", False)):
        ax.text(0.25, top, title, fontsize=14, color=INK, weight="bold", va="center")
        upper, lower = top - 0.95, top - 2.65
        box(ax, 0.75, (upper + lower) / 2, 0.7, 0.7, "x", size=15)
        box(ax, 3.1, upper, 1.9, 0.9, "classifier\nfrozen", colour=BLUE, filled=True)
        arrow(ax, (1.1, (upper + lower) / 2 + 0.15), (2.12, upper), colour=BLUE)
        box(ax, 5.35, upper, 1.55, 0.9, "reference\nlog p", colour=BLUE)
        arrow(ax, (4.05, upper), (4.55, upper), colour=BLUE)
        if is_ae:
            box(ax, 2.15, lower, 1.4, 0.9, "autoencoder\ntrained", colour=ORANGE, filled=True, size=SMALL)
            arrow(ax, (1.1, (upper + lower) / 2 - 0.15), (1.43, lower), colour=ORANGE)
            box(ax, 3.7, lower, 1.2, 0.9, "classifier\nfrozen", colour=BLUE, filled=True, size=SMALL)
            arrow(ax, (2.86, lower), (3.08, lower), colour=ORANGE)
            note(ax, 2.97, lower - 0.68, "x', its reconstruction", colour=INK)
            begin = 4.31
        else:
            box(ax, 3.1, lower, 1.9, 0.9, "student\ntrained", colour=ORANGE, filled=True)
            arrow(ax, (1.1, (upper + lower) / 2 - 0.15), (2.12, lower), colour=ORANGE)
            begin = 4.06
        box(ax, 5.35, lower, 1.55, 0.9, "opinion\nlog q", colour=ORANGE)
        arrow(ax, (begin, lower), (4.55, lower), colour=ORANGE)
        middle = (upper + lower) / 2
        box(ax, 7.1, middle, 1.3, 1.0, "score\nin nats", colour=INK, filled=True)
        arrow(ax, (6.14, upper), (6.9, middle + 0.52), colour=BLUE)
        arrow(ax, (6.14, lower), (6.9, middle - 0.52), colour=ORANGE)
    ax.plot([0.2, 7.8], [3.98, 3.98], color="#cccccc", linewidth=1)
    save(made, "maths-views")


def two(p: np.ndarray) -> np.ndarray:
    """Log-probabilities of two classes."""
    return np.log(np.stack([p, 1 - p], axis=1)).astype("float32")


def score() -> None:
    """Divergences and uncertainty of two classes, and what a temperature does."""
    from keras import ops

    from demur.backends.divergence import jeffreys, kl, length, sharpen, uncertainty

    logit = np.linspace(0, 12, 400)
    p = 1 / (1 + np.exp(-logit))
    reference, opinion = two(p), two(np.full_like(p, 0.10))
    found = {name: ops.convert_to_numpy(f(reference, opinion)) for name, f in {"kl": kl, "j": jeffreys}.items()}
    doubt = 4.0 * ops.convert_to_numpy(uncertainty(ops.convert_to_tensor(reference)))
    joined = ops.convert_to_numpy(length(ops.convert_to_tensor(found["j"]), ops.convert_to_tensor(doubt)))

    made, (upper, lower) = figure(8.2, 2)
    upper.plot(logit, joined, color=INK, linewidth=4.5, alpha=0.25, solid_capstyle="round")
    upper.plot(logit, found["j"], color=ORANGE, linewidth=2.2)
    upper.plot(logit, found["kl"], color=BLUE, linewidth=2.2, linestyle="--")
    upper.plot(logit, doubt, color=PURPLE, linewidth=2.2, linestyle=":")
    upper.text(6.2, 8.4, "D: Jeffreys", color=ORANGE, fontsize=NORMAL, ha="right")
    upper.text(
        11.9, 2.65, "K-L: capped by how\nunsure the opinion is", color=BLUE, fontsize=NORMAL, va="bottom", ha="right"
    )
    upper.text(2.75, 0.5, "w u: the classifier's doubt", color=PURPLE, fontsize=NORMAL)
    upper.text(0.2, 5.2, "the score:\n√(D² + (w u)²)", color=INK, fontsize=NORMAL, va="bottom")
    upper.annotate("", (0.08, 2.95), (0.6, 5.1), arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 1})
    shares = {0.5: "50 %", 0.9: "90 %", 0.99: "99 %", 0.999: "99.9 %", 0.99999: "99.999 %"}
    upper.set_xticks([np.log(s / (1 - s)) for s in shares], list(shares.values()))
    upper.set(ylim=(0, 11), xlim=(0, 12))
    named(
        upper,
        "An opinion that gives the class 10 %",
        "what the classifier gives the class that it predicts",
        "nats",
    )

    others = np.linspace(0.0005, 0.9995, 500)
    lower.axvline(0.5, color="#cccccc", linewidth=1)
    for temperature, colour, style in ((0.25, ORANGE, "-"), (0.5, PURPLE, "--"), (1.0, INK, "-"), (2.0, TEAL, ":")):
        tempered = np.exp(ops.convert_to_numpy(sharpen(ops.convert_to_tensor(two(others)), temperature)))[:, 0]
        lower.plot(others, tempered, color=colour, linewidth=2.2, linestyle=style, label=f"T = {temperature:g}")
    lower.set(xlim=(0, 1), ylim=(0, 1))
    lower.legend(fontsize=NORMAL, frameon=False, loc="upper left", bbox_to_anchor=(0.0, 1.0))
    named(lower, "Temperature, of two classes", "probability as the classifier gives it", "probability as compared")
    save(made, "maths-score")


def threshold() -> None:
    """How a threshold and a p-value are read off 39 scores of held-out digits."""
    import keras
    from sklearn.linear_model import LogisticRegression

    from demur import ModelDistillation, datasets
    from demur.calibration.thresholds import ScoreDistribution, conformal_threshold

    keras.utils.set_random_seed(0)
    data = datasets.load("digits", seed=0)
    rows = data.train.x.reshape(-1, 64), data.held_out.x.reshape(-1, 64)
    detector = ModelDistillation(model=LogisticRegression(max_iter=2000).fit(rows[0], data.train.y))
    detector.fit(rows[0], epochs=15, verbose=False)
    n, fpr = 39, 0.1
    scores = np.sort(detector.score(rows[1][:n]).astype("float64"))
    limit = conformal_threshold(scores, fpr)
    new = float(scores[-8:-6].mean())
    larger = int((scores >= new).sum())
    p = float(ScoreDistribution.of(scores).p_values(np.array([new]))[0])
    assert np.isclose(p, (1 + larger) / (n + 1))
    allowed = int((n + 1) * fpr)

    made, (upper, lower) = figure(8.0, 2, sharex=True)
    rank = np.arange(1, n + 1)
    for ax in (upper, lower):
        ax.set_xscale("log")
        ax.set_ylim(0, n + 2)
        ax.set_xlim(scores[0] * 0.8, scores[-1] * 1.35)
    above = scores > limit
    upper.plot(scores[~above], rank[~above], "o", color=BLUE, markersize=6)
    upper.plot(scores[above], rank[above], "o", color=ORANGE, markersize=7)
    upper.axvline(limit, color=INK, linestyle="--", linewidth=1.6)
    upper.text(limit * 0.94, 3, f"threshold:\nthe {n + 1 - allowed}th smallest", ha="right", fontsize=NORMAL, color=INK)
    upper.text(
        scores[0] * 0.9,
        n - 6,
        f"n = {n}, fpr = {fpr:g}\n⌊(n + 1) fpr⌋ = {allowed} places\nfrom the top, {allowed - 1} above it",
        fontsize=NORMAL,
        color=INK,
        va="center",
    )
    named(upper, "A threshold", "", "rank of the calibration score")

    reached = scores >= new
    lower.plot(scores[~reached], rank[~reached], "o", color=BLUE, markersize=6)
    lower.plot(scores[reached], rank[reached], "o", color=PURPLE, markersize=7)
    lower.axvline(new, color=PURPLE, linewidth=1.6)
    lower.text(new * 0.94, 3, "a new score", ha="right", fontsize=NORMAL, color=PURPLE)
    lower.text(
        scores[0] * 0.9,
        n - 6,
        f"{larger} calibration scores\nare as large:\np = (1 + {larger}) / ({n} + 1) = {p:.3g}",
        fontsize=NORMAL,
        color=INK,
        va="center",
    )
    named(lower, "A p-value", "score, nats", "rank of the calibration score")
    save(made, "maths-threshold")


if __name__ == "__main__":
    views()
    score()
    threshold()
