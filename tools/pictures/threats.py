"""The pictures of attackers: what their knowledge is worth to them, which score sees which attack, what gets through.

    KERAS_BACKEND=tensorflow python tools/pictures/threats.py

The first two read benchmarks/results; the third attacks scikit-learn's digits. Takes about a minute.
"""

import statistics
import sys
from pathlib import Path

import numpy as np
from drawing import BLUE, GREY, NORMAL, ORANGE, PURPLE, SMALL, TEAL, figure, named, save

from demur.plots.style import BAD, CLEAN, INK

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from ablation_tables import DEFAULT, NAMES, attacked, datasets, runs

SHOWN = {
    "student": "student",
    "autoencoder": "autoencoder",
    "copy, robust": "copy, robust in Linf",
    "copy, robust in two norms, long": "copy, robust in two norms",
    "copy, a quarter as robust in two norms, long": "copy, a quarter as robust",
}
"""Companions, and what the picture calls them."""


def knowledge() -> None:
    """By data set and companion: AUROC against those who do not know the guard, and against those who do."""
    found: list[tuple[str, list[tuple[str, float, float, float]]]] = []
    for dataset in datasets():
        seeds, rows, title = runs(dataset), [], NAMES[dataset]
        for name, called in SHOWN.items():
            having = [seed["companions"][name] for seed in seeds if name in seed["companions"]]
            having = [one for one in having if DEFAULT in one.get("adaptive", {})]
            if having:
                areas = [[row["auroc"] for row in attacked(one["scores"][DEFAULT]).values()] for one in having]
                rows.append(
                    (
                        called,
                        statistics.mean(statistics.mean(area) for area in areas),
                        statistics.mean(min(area) for area in areas),
                        statistics.mean(one["adaptive"][DEFAULT]["auroc"] for one in having),
                    )
                )
        found.append((title, rows))
    made, axes = figure(
        8.6 * len(found) / 3, len(found), sharex=True, height_ratios=[len(rows) + 0.7 for _, rows in found]
    )
    for ax, (title, rows) in zip(axes, found, strict=True):
        for place, (_, mean, worst, knowing) in enumerate(rows):
            ax.plot([knowing, mean], [place, place], color="#cccccc", linewidth=5, zorder=1, solid_capstyle="round")
            ax.plot(mean, place, "o", color=BLUE, markersize=10, zorder=3)
            ax.plot(worst, place, "o", color=BLUE, markersize=10, markerfacecolor="white", markeredgewidth=2, zorder=2)
            ax.plot(knowing, place, "D", color=ORANGE, markersize=9, zorder=4)
        ax.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
        ax.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=SMALL)
        ax.set(ylim=(len(rows) - 0.4, -0.6), xlim=(-0.02, 1.03))
        ax.tick_params(axis="y", length=0)
        named(ax, title, "", "")
    axes[-1].set_xlabel("AUROC, attacked against clean; 0.5 is guessing", fontsize=NORMAL, color=INK)
    marks = [
        axes[0].plot([], [], "o", color=BLUE, markersize=10)[0],
        axes[0].plot([], [], "o", color=BLUE, markersize=10, markerfacecolor="white", markeredgewidth=2)[0],
        axes[0].plot([], [], "D", color=ORANGE, markersize=9)[0],
    ]
    words = ["guard not known: mean of 7 attacks", "guard not known: the worst of them", "guard known"]
    made.legend(marks, words, loc="outside upper left", fontsize=NORMAL, frameon=False)
    save(made, "threats-knowledge")


DOUBT = "the classifier's doubt alone"


def scores() -> None:
    """By attack, on Fashion-MNIST under the student: which score sees it."""
    shown = {
        "K-L": ("K-L, as published", BLUE, "--"),
        DOUBT: (DOUBT, PURPLE, ":"),
        "Jeffreys": ("Jeffreys", TEAL, "-."),
        DEFAULT: ("Jeffreys and balanced doubt, the default", ORANGE, "-"),
    }
    seeds = [seed["companions"]["student"]["scores"] for seed in runs("fashion_mnist")]
    areas = {
        score: {
            title: statistics.mean(found[score][title]["auroc"] for found in seeds)
            for title in attacked(seeds[0][score])
        }
        for score in shown
    }
    order = sorted(areas[DOUBT], key=lambda title: -areas[DOUBT][title])
    made, (ax,) = figure(5.6)
    for score, (title, colour, style) in shown.items():
        values = [areas[score][attack] for attack in order]
        ax.plot(values, color=colour, linestyle=style, linewidth=2.4, marker="o", markersize=6, label=title)
    ax.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
    short = [name.replace(", ", ",\n").replace("PGD L2 ", "PGD L2\n").replace("SLIDE ", "SLIDE\n") for name in order]
    ax.set_xticks(range(len(order)), short)
    ax.tick_params(axis="x", labelsize=SMALL - 1)
    ax.set_ylim(0, 1.03)
    ax.annotate("", (6.05, 0.09), (-0.1, 0.09), arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1.4})
    ax.text(-0.1, 0.03, "leave the classifier unsure", fontsize=SMALL, color=GREY)
    ax.text(6.05, 0.03, "leave it sure", fontsize=SMALL, color=GREY, ha="right")
    ax.legend(fontsize=SMALL, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.12))
    named(ax, "Which score sees which attack (Fashion-MNIST, student)", "", "AUROC, attacked against clean")
    save(made, "threats-scores")


def quadrants() -> None:
    """Digits before and after two attacks: how far the classifier is wrong, and how high the guard's score is."""
    import keras

    from demur import AdversarialAE, datasets
    from demur.demo import build_classifier
    from demur.evaluation.attacks import PGD, WeightedPGD
    from demur.evaluation.target import Target

    keras.utils.set_random_seed(0)
    data = datasets.load("digits", seed=0)
    classifier = build_classifier(data.train.x.shape[1:], 10)
    classifier.compile("adam", "sparse_categorical_crossentropy")
    classifier.fit(data.train.x, data.train.y, epochs=20, verbose=0)
    detector = AdversarialAE(model=classifier, data_type="image").fit(data.train.x, epochs=30, verbose=False)
    detector.infer_threshold(data.held_out.x, fpr=0.05)
    target = Target(detector, (0.0, 1.0))
    x, y = data.test.x[:150], data.test.y[:150]
    right = target.verdict(x).reference == y
    x, y = x[right], y[right]
    rows = {
        "unchanged": x,
        "PGD 0.1, which does not know the guard": PGD(0.1).run(target, x, y, seed=0).x,
        "PGD 0.1 on error and score, which does": WeightedPGD(0.1).run(target, x, y, seed=0).x,
    }
    made, axes = figure(9.6, 3, sharex=True, sharey=True)
    limit = float(detector.threshold)
    for ax, (title, changed), colour in zip(axes, rows.items(), (CLEAN, ORANGE, BAD), strict=True):
        log_p = target.classifier_outputs(changed)[0].astype("float64")
        own = log_p[np.arange(len(y)), y]
        log_p[np.arange(len(y)), y] = -np.inf
        ahead, score = log_p.max(axis=1) - own, np.maximum(target.verdict(changed).score, 1e-5)
        ax.axhspan(1e-6, limit, 0, 1, color="#000000", alpha=0.035, linewidth=0)
        ax.axvline(0, color=GREY, linewidth=1)
        ax.axhline(limit, color=INK, linestyle="--", linewidth=1.4)
        ax.plot(ahead, score, "o", color=colour, markersize=5, alpha=0.75, markeredgewidth=0)
        through = int(((ahead > 0) & (score <= limit)).sum())
        ax.set_yscale("log")
        ax.set(xlim=(-14, 9), ylim=(1e-5, 60))
        ax.text(
            8.7,
            1.7e-5,
            f"accepted and wrong:\n{through} of {len(y)}",
            ha="right",
            va="bottom",
            fontsize=NORMAL,
            color=INK,
        )
        named(ax, title, "", "score, nats")
    axes[0].text(-13.7, limit * 1.5, "flagged", fontsize=SMALL, color=INK)
    axes[0].text(-13.7, limit / 1.5, "accepted", fontsize=SMALL, color=INK, va="top")
    axes[-1].set_xlabel(
        "nats by which a wrong class leads; right of 0, the classifier errs", fontsize=NORMAL, color=INK
    )
    save(made, "threats-quadrants")


if __name__ == "__main__":
    knowledge()
    scores()
    quadrants()
