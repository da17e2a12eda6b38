"""How much what a guard catches depends on its classifier: the ready student of weaker and weaker ones.

    KERAS_BACKEND=tensorflow python benchmarks/weaker.py

The kept classifier for Fashion-MNIST of seed 0, and the same network after less training, are each attacked on 100 test
images that they get right. Writes docs/results/weaker.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from guarded import classifier_of
from measuring import machine

from demur import ModelDistillation, datasets
from demur.calibration.metrics import flagged_rate
from demur.demo import build_classifier
from demur.evaluation.attacks import PGD, Attack, CarliniWagner
from demur.evaluation.target import Target

FILE = Path(__file__).resolve().parent.parent / "docs/results/weaker.json"
TRAINED = {"1 epoch of 6,000 images": (6_000, 1), "4 epochs of 6,000 images": (6_000, 4)}
ATTACKS: dict[str, Attack] = {"C&W": CarliniWagner(), "PGD": PGD(0.1)}
ROWS = 100


def classifiers(data: datasets.Dataset) -> dict[str, Any]:
    """By how they were trained, the weakest first."""
    found = {}
    for title, (rows, epochs) in TRAINED.items():
        keras.utils.set_random_seed(0)
        model = build_classifier(data.train.x.shape[1:], len(data.class_names))
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
        model.fit(data.train.x[:rows], data.train.y[:rows], epochs=epochs, batch_size=64, verbose=0)
        found[title] = model
    return {**found, "as in the table": classifier_of("fashion_mnist", data, 0)}


def measured(model: Any, data: datasets.Dataset) -> dict[str, Any]:
    """What its ready student catches at 5 % false alarms, of attacks that fooled it."""
    detector = ModelDistillation(model=model).fit(data.train.x[:25_000], epochs=10, verbose=False)
    detector.infer_threshold(data.held_out.x, fpr=0.05)
    target, x, y = Target(detector), data.test.x[: 2 * ROWS], data.test.y[: 2 * ROWS]
    right = np.flatnonzero(target.verdict(x).reference == y)[:ROWS]
    found: dict[str, Any] = {"accuracy": float(np.mean(target.verdict(data.test.x).reference == data.test.y))}
    for title, attack in ATTACKS.items():
        verdict = target.verdict(attack.run(target, x[right], y[right]).x)
        fooled = verdict.reference != y[right]
        found[title] = {
            "fooled": float(fooled.mean()),
            "caught": flagged_rate(verdict.score[fooled], detector.threshold),
        }
    return found


def main() -> int:
    data = datasets.load("fashion_mnist", seed=0)
    found = {}
    for title, model in classifiers(data).items():
        found[title] = measured(model, data)
        print(title, found[title], flush=True)
    document = {"machine": machine(), "rows": ROWS, "classifiers": found}
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
