"""How many scores are tied far from the data? The published definition, clipped at 1e-7, against ours.

    KERAS_BACKEND=tensorflow python benchmarks/ties.py

A CNN on scikit-learn's digits and both detectors; the scores of its test digits and of ones far out of distribution:
brighter than any digit, and uniform noise. Writes docs/results/ties.json.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from demur import datasets
from demur.demo import build_classifier
from demur.detectors import AdversarialAE, Detector, ModelDistillation

ROOT = Path(__file__).resolve().parent.parent
FLOOR = 1e-7


def published(detector: Detector, rows: np.ndarray) -> np.ndarray:
    """K-L divergence of float32 probabilities clipped at 1e-7, as published."""
    p = detector.model.predict(rows, verbose=0)
    if isinstance(detector, AdversarialAE):
        q = detector.model.predict(detector.reconstruct(rows), verbose=0)
    else:
        q = detector.distilled_model.predict(rows, verbose=0)
    p, q = (np.clip(values, FLOOR, 1).astype("float32") for values in (p, q))
    return np.sum(p * np.log(p / q), axis=-1)


def tied(score: np.ndarray) -> float:
    """Share of the scores that equal another one's."""
    _, index, counts = np.unique(score, return_inverse=True, return_counts=True)
    return float(np.mean(counts[index] > 1))


def main() -> int:
    keras.utils.set_random_seed(0)
    data = datasets.load("digits")
    x, y = data.train
    classifier = build_classifier(x.shape[1:], 10)
    xla = False if keras.backend.backend() == "tensorflow" else "auto"
    classifier.compile("adam", "sparse_categorical_crossentropy", jit_compile=xla)
    classifier.fit(x, y, epochs=60, batch_size=64, verbose=0)
    rng = np.random.default_rng(0)
    rows = {"test digits": data.test.x}
    for factor in (10, 30, 100):
        rows[f"digits x {factor}"] = data.test.x * np.float32(factor)
    rows["noise, 0 to 30"] = rng.uniform(0, 30, data.test.x.shape).astype("float32")
    detectors = {
        "AdversarialAE": AdversarialAE(model=classifier, score_type="kld").fit(x, epochs=40, verbose=False),
        "ModelDistillation": ModelDistillation(model=classifier, score_type="kld").fit(x, epochs=40, verbose=False),
    }
    results = {}
    for name, detector in detectors.items():
        results[name] = {}
        for title, inputs in rows.items():
            ours, clipped = detector.score(inputs), published(detector, inputs)
            results[name][title] = {
                "clipped": tied(clipped),
                "ours": tied(ours),
                "ours, at 0": float(np.mean(ours == 0)),
                "ours, above 0": float(tied(ours[ours > 0]) * np.mean(ours > 0)) if (ours > 0).any() else 0.0,
                "largest clipped": float(clipped.max()),
                "largest ours": float(ours.max()),
                "negative clipped": float(np.mean(clipped < 0)),
            }
            shares = ", ".join(f"{key} {results[name][title][key]:.1%}" for key in ("clipped", "ours", "ours, above 0"))
            print(f"{name:18} {title:18} tied: {shares}")
    (ROOT / "docs/results/ties.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
