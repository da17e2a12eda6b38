"""How much a companion that agrees too little with its classifier costs: harmful rows found, by agreement.

The score is the divergence alone (`score_type="kld"`), as published: the default score adds the classifier's own
doubt, which a companion that has learned nothing does not spoil. A companion is trained in steps. After each, its
agreement with the classifier on held-out rows is noted, and the share of rows that noise makes the classifier get wrong
which is flagged at a false-positive rate of 5 %.

    python benchmarks/agreement.py [DATA ...]          # writes docs/results/agreement.json
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from demur import ModelDistillation
from demur._version import __version__

RESULT = Path(__file__).parents[1] / "docs" / "results" / "agreement.json"
STEPS = (1, 2, 3, 10)
"""Epochs of each step."""
FPR = 0.05


def digits() -> dict[str, tuple[Any, Any]]:
    """Digits, and one digit against the others: balanced and imbalanced classes."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("float32")
    return {"ten digits": (X, y), "one digit against the others": (X, (y == 8).astype(int))}


def classifier(X: Any, y: Any) -> Any:
    """A small network, trained."""
    model = keras.Sequential(
        [
            layers.Input(X.shape[1:]),
            layers.Dense(64, activation="relu"),
            layers.Dense(int(y.max()) + 1, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(X, y, epochs=15, verbose=0)
    return model


def measured(detector: Any, X: Any, noisy: Any, harmful: Any) -> dict[str, Any]:
    """Agreement and what is flagged."""
    detector.infer_threshold(X, fpr=FPR)
    flagged = detector.predict(noisy)["data"]["is_adversarial"]
    found = detector.agreement
    return {
        "agreement": round(found.share, 4),
        "beyond_chance": round(found.beyond_chance, 4),
        "harmful_flagged": round(float(flagged[harmful].mean()), 4),
        "is_poor": found.is_poor,
    }


def main(asked: list[str]) -> None:
    """Measure on the data sets asked for, and write the result beside that of the others."""
    before = json.loads(RESULT.read_text(encoding="utf-8"))["runs"] if RESULT.exists() else []
    runs = [run for run in before if run["data"] not in asked]
    for name in asked:
        X, y = digits()[name]
        keras.utils.set_random_seed(0)
        model = classifier(X[:900], y[:900])
        noisy = X[1300:] + np.random.default_rng(0).normal(0, 0.35, X[1300:].shape).astype("float32")
        harmful = model.predict(noisy, verbose=0).argmax(1) != y[1300:]
        detector, epochs = ModelDistillation(model=model, score_type="kld"), 0
        for step in STEPS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                detector.fit(X[:900], epochs=step, verbose=False, validation_data=X[1100:1300])
            epochs += step
            found = measured(detector, X[900:1300], noisy, harmful)
            runs.append({"data": name, "detector": "ModelDistillation", "epochs": epochs, **found})
            print(runs[-1], int(harmful.sum()), flush=True)
    RESULT.write_text(json.dumps({"fpr": FPR, "version": __version__, "runs": runs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or list(digits()))
