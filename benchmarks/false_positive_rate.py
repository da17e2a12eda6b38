"""Does the promised false-positive rate hold? 200 random splits of real scores, for three rates, in all and by class.

    KERAS_BACKEND=tensorflow python benchmarks/false_positive_rate.py

Trains a classifier and both detectors on Fashion-MNIST (`$DEMUR_DATA/fashion_mnist.npz`, or downloaded by Keras),
scores the 10,000 test images, which nothing was trained on, and splits them again and again into halves: one
calibrates, the other counts false alarms. Writes docs/results/false-positive-rate.json and
docs/images/false-positive-rate.png.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from demur import datasets
from demur.calibration.thresholds import conformal_threshold, percentile_threshold
from demur.demo import build_classifier
from demur.detectors import AdversarialAE, ModelDistillation

ROOT = Path(__file__).resolve().parent.parent
RATES = (0.01, 0.05, 0.10)
SPLITS = 200
TRAIN = 20_000


def simulate(score: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> dict:
    """False-positive rates of SPLITS random halves: in all, by class, and with a percentile for comparison."""
    found = {"marginal": [], "per class": [], "percentile": []}
    for _ in range(SPLITS):
        order = rng.permutation(len(score))
        calibrating, testing = np.split(order, 2)
        for rates, rule in (("marginal", conformal_threshold), ("percentile", percentile)):
            found[rates].append([np.mean(score[testing] > rule(score[calibrating], rate)) for rate in RATES])
        row = []
        for rate in RATES:
            for k in np.unique(group):
                mine, theirs = calibrating[group[calibrating] == k], testing[group[testing] == k]
                row.append(np.mean(score[theirs] > conformal_threshold(score[mine], rate)))
        found["per class"].append(row)
    return {name: np.array(rows) for name, rows in found.items()}


def percentile(score: np.ndarray, rate: float) -> float:
    return percentile_threshold(score, 100 * (1 - rate))


def summary(rates: np.ndarray) -> dict:
    """Mean over the splits and its standard error, and the central 90 % of the splits."""
    low, high = np.percentile(rates, [5, 95])
    return {
        "mean": float(rates.mean()),
        "standard_error": float(rates.std(ddof=1) / np.sqrt(len(rates))),
        "low": float(low),
        "high": float(high),
    }


def main() -> int:
    keras.utils.set_random_seed(0)
    data = datasets.load("fashion_mnist")
    x, y = data.train.x[:TRAIN], data.train.y[:TRAIN]
    classifier = build_classifier(x.shape[1:], 10)
    xla = False if keras.backend.backend() == "tensorflow" else "auto"
    classifier.compile("adam", "sparse_categorical_crossentropy", jit_compile=xla)
    classifier.fit(x, y, epochs=6, batch_size=64, verbose=2)
    detectors = {
        "AdversarialAE": AdversarialAE(model=classifier, temperature=0.5, score_type="kld").fit(
            x, w_recon=0.1, epochs=5, verbose=2
        ),
        "ModelDistillation": ModelDistillation(model=classifier, temperature=0.5, score_type="kld").fit(
            x, epochs=5, verbose=2
        ),
    }
    results = {"splits": SPLITS, "calibration": 5000, "test": 5000, "detectors": {}}
    drawn = {}
    for name, detector in detectors.items():
        score, reference, _ = detector.score(data.test.x, return_predictions=True)
        found = simulate(score, reference.argmax(axis=-1), np.random.default_rng(0))
        drawn[name] = found
        classes = len(np.unique(reference.argmax(axis=-1)))
        entry = {}
        for i, rate in enumerate(RATES):
            by_class = found["per class"][:, i * classes : (i + 1) * classes]
            entry[f"{rate:g}"] = {
                "marginal": summary(found["marginal"][:, i]),
                "percentile": summary(found["percentile"][:, i]),
                "per class": [summary(by_class[:, k]) for k in range(classes)],
            }
        # What a percentile of the training images themselves promises, as it is often done.
        train_score = detector.score(x[:5000])
        entry["percentile of training images"] = {
            f"{rate:g}": float(np.mean(score > percentile(train_score, rate))) for rate in RATES
        }
        results["detectors"][name] = entry
    (ROOT / "docs/results/false-positive-rate.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(drawn, ROOT / "docs/images/false-positive-rate.png")
    return 0


def draw(drawn: dict, path: Path) -> None:
    """One panel a rate: the splits' rates, marginal and by class, for each detector, against what was asked."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    colours = {"AdversarialAE": "#4477aa", "ModelDistillation": "#cc7711"}
    for i, (axis, rate) in enumerate(zip(figure.subplots(1, len(RATES)), RATES, strict=True)):
        for j, (name, found) in enumerate(drawn.items()):
            classes = found["per class"].shape[1] // len(RATES)
            by_class = found["per class"][:, i * classes : (i + 1) * classes]
            axis.boxplot(
                100 * found["marginal"][:, i],
                positions=[j],
                widths=0.5,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": colours[name], "alpha": 0.5},
                medianprops={"color": "#222222"},
            )
            axis.plot(
                np.full(classes, 2 + j) + np.linspace(-0.25, 0.25, classes),
                100 * by_class.mean(axis=0),
                "o",
                color=colours[name],
                markersize=4,
            )
        axis.axhline(100 * rate, color="#222222", linestyle="--", linewidth=1)
        axis.set_xlim(-0.6, 3.6)
        axis.set_ylim(0, 100 * rate * 1.6)
        axis.set_xticks(range(4), ["AE", "student", "AE\nby class", "student\nby class"], fontsize=8)
        axis.set_title(f"asked: {100 * rate:g} %", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("false-positive rate, %", fontsize=9)
    figure.savefig(path, dpi=130, facecolor="white")


if __name__ == "__main__":
    sys.exit(main())
