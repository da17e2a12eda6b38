"""Harmful drift: what corruption does to a classifier, and how scores without labels tell, batch by batch and for ever.

    python examples/harmful_drift_cifar10.py [--dataset fashion_mnist] [--small] [--out FILE] [--plot FILE]

The classifier of the data set is loaded from benchmarks/models or, where there is none, trained. A student is distilled
from it and calibrated on held-out images. Then test images are corrupted. Images come from Keras, unless $DEMUR_DATA
names a folder with cifar10.npz; with --small, scikit-learn's digits stand in for them.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before Keras is imported

import keras
import numpy as np
from drift_report import BATCH, STREAM_SHARE, draw, lines

import demur
from demur import ModelDistillation, datasets, drift
from demur.demo import build_classifier
from demur.evaluation.corruptions import corrupt

MODELS = Path(__file__).resolve().parent.parent / "benchmarks/models"
CORRUPTIONS = ("gaussian noise", "impulse noise", "gaussian blur", "contrast", "fog", "pixelate", "jpeg compression")
SEVERITIES = (1, 2, 3, 4, 5)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
STREAM = 2000


class Plan(NamedTuple):
    """How much is done on a data set."""

    epochs: int
    tested: int
    repeats: int


PLANS = {"cifar10": Plan(20, 1000, 100), "fashion_mnist": Plan(10, 1000, 100), "digits": Plan(20, 300, 20)}


class Drifted(NamedTuple):
    """Scores of test images by what became of them, and what was seen by severity."""

    clean: np.ndarray
    harmful: np.ndarray
    """Of corrupted images that the classifier got right before and gets wrong now."""
    harmless: np.ndarray
    """Of those that it still gets right."""
    severities: list[dict[str, float]]


def classifier_for(name: str, data: datasets.Dataset) -> Any:
    """The kept classifier, or a small one trained here."""
    file = MODELS / f"{name}-0.keras"
    if file.is_file():
        return keras.models.load_model(file)
    keras.utils.set_random_seed(0)
    model = build_classifier(data.train.x.shape[1:], len(data.class_names))
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data.train, epochs=10, batch_size=64, verbose=2)
    return model


def drifted(detector: Any, x: np.ndarray, y: np.ndarray) -> Drifted:
    """Corrupt test images at every severity, and score them."""
    before = detector.correct(x)["data"]
    right, kept, rows = before["no_defense"] == y, {True: [], False: []}, []
    for severity in SEVERITIES:
        found, changed = [], []
        for name in CORRUPTIONS:
            images = corrupt(x, name=name, severity=severity, seed=1)
            after = detector.correct(images)["data"]
            harmed = right & (after["no_defense"] != y)
            found.append((after["instance_score"], harmed, right & ~harmed, after["no_defense"] == y))
            changed.append(images)
        score, harmed, spared, still = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        estimate = drift.estimate_accuracy(detector, np.concatenate(changed))["data"]
        kept[True].append(score[harmed])
        kept[False].append(score[spared])
        rows.append(
            {
                "severity": severity,
                "accuracy": float(still.mean()),
                "estimated_accuracy": estimate["accuracy"],
                "harmful_score": float(score[harmed].mean()),
                "harmless_score": float(score[spared].mean()),
            }
        )
    return Drifted(before["instance_score"], np.concatenate(kept[True]), np.concatenate(kept[False]), rows)


def mean_p_values(detector: Any, found: Drifted, repeats: int) -> list[dict[str, float]]:
    """Of batches in which a share of the images has drifted: the mean p-value, for harmful and for harmless drift."""
    rng, rows = np.random.default_rng(0), []
    for share in SHARES:
        row = {"share": share}
        for kind, pool in (("harmful", found.harmful), ("harmless", found.harmless)):
            p = []
            for _ in range(repeats):
                bad = round(share * BATCH)
                batch = np.concatenate([rng.choice(found.clean, BATCH - bad), rng.choice(pool, bad)])
                p.append(drift.test(detector, scores=batch)["data"]["p_value"])
            row[kind] = float(np.mean(p))
        rows.append(row)
    return rows


def watched(detector: Any, found: Drifted) -> dict[str, Any]:
    """A stream that turns bad half-way: what the monitor says after each score, and when it raises the alarm."""
    rng = np.random.default_rng(1)
    clean, bad = rng.choice(found.clean, STREAM), rng.choice(found.harmful, STREAM)
    turned = (np.arange(STREAM) >= STREAM // 2) & (rng.random(STREAM) < STREAM_SHARE)
    monitor, evidence = drift.Monitor(detector, alpha=0.01), []
    for score in np.where(turned, bad, clean):
        evidence.append(monitor.update(scores=score).log_evidence)
    at = monitor.alarms[0].at if monitor.alarms else None
    return {
        "turns_at": STREAM // 2,
        "alarm_at": at,
        "log_limit": float(np.log(monitor.limit)),
        "log_evidence": evidence,
    }


def main() -> None:
    """Do all of it, print what was found, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("cifar10", "fashion_mnist"), default="cifar10")
    parser.add_argument("--small", action="store_true", help="on digits, as the tests run it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures to this JSON file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them in this picture")
    arguments = parser.parse_args()
    name = "digits" if arguments.small else arguments.dataset
    plan, data = PLANS[name], datasets.load(name)
    detector = ModelDistillation(model=classifier_for(name, data), data_type="image")
    detector.fit(data.train.x, epochs=plan.epochs, verbose=2).infer_threshold(data.held_out.x, fpr=0.05)
    drift.calibrate_accuracy(
        detector, *data.held_out, corruptions=["shot noise", "defocus blur", "brightness"], rows=200
    )
    x, y = data.test.x[: plan.tested], data.test.y[: plan.tested]
    found = drifted(detector, x, y)
    results = {
        "versions": {"demur": demur.__version__, "keras": keras.__version__},
        "dataset": name,
        "clean_accuracy": float(np.mean(detector.correct(x)["data"]["no_defense"] == y)),
        "severities": found.severities,
        "p_values": mean_p_values(detector, found, plan.repeats),
        "stream": watched(detector, found),
    }
    print("", *lines(results), sep="\n")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        draw(results, arguments.plot)


if __name__ == "__main__":
    main()
