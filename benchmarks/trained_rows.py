"""What if calibration rows are rows that the classifier was trained on? How often flags are false, and who warns.

    DEMUR_DATA=FOLDER KERAS_BACKEND=tensorflow python benchmarks/trained_rows.py

MAGIC (FOLDER/magic.npz) and tables of scikit-learn. The student never sees the calibration rows; the classifier has
either been trained on them or not. Then: how often do nine classifiers on five tables make `is_like_training` warn,
where calibration rows were trained on (power) and where they were held out (false warnings)? Writes
docs/results/trained-rows.json.
"""

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine
from scipy.stats import mannwhitneyu
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from demur import ModelDistillation
from demur.calibration.held_out import is_like_training

OUT = Path(__file__).resolve().parent.parent / "docs/results/trained-rows.json"
FPR, CALIBRATED, BATCH, SEEDS, DRAWS = 0.05, 2000, 500, 2, 200
SIZES = (200, 500, 1000)

Array = Any
CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda _: LogisticRegression(max_iter=200),
    "naive Bayes": lambda _: GaussianNB(),
    "random forest": lambda seed: RandomForestClassifier(60, random_state=seed),
    "random forest, leaves of 20": lambda seed: RandomForestClassifier(60, min_samples_leaf=20, random_state=seed),
    "boosted trees": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "boosted trees, leaves of 2": lambda seed: HistGradientBoostingClassifier(min_samples_leaf=2, random_state=seed),
    "small network": lambda seed: MLPClassifier((64,), max_iter=60, random_state=seed),
    "large network": lambda seed: MLPClassifier((128, 128), max_iter=80, random_state=seed),
    "5 nearest neighbours": lambda _: KNeighborsClassifier(5),
}


def magic() -> tuple[Array, Array]:
    """19,020 rows of ten numbers, standardised."""
    with np.load(Path(os.environ["DEMUR_DATA"]) / "magic.npz") as arrays:
        return standardised(arrays["x"]), arrays["y"].astype(int)


def tables() -> Iterator[tuple[str, Array, Array]]:
    """Real tables, and one made up with a fifth and one with a twentieth of its labels drawn at random."""
    yield "MAGIC", *magic()
    for name, load in (("digits", load_digits), ("breast cancer", load_breast_cancer)):
        X, y = load(return_X_y=True)
        yield name, standardised(X), y
    for noise in (0.05, 0.2):
        X, y = make_classification(6000, 20, n_informative=8, flip_y=noise, random_state=0)
        yield f"made up, {noise:.0%} noise", standardised(X), y


def standardised(X: Array) -> Array:
    return ((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)).astype("float32")


def flagged(X: Array, y: Array, make: Callable[[int], Any], seed: int) -> dict[str, dict[str, float]]:
    """How often new rows are flagged, and batches of them raise an alarm, by which rows calibrated.

    What is computed of the scores is what `infer_threshold` and `drift.test` compute, without scoring all rows again.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    student, trained, new = np.split(order, [5000, 8000])
    both = np.concatenate([student, trained])
    detector = ModelDistillation(model=make(seed).fit(X[both], y[both]), data_type="tabular", seed=seed)
    detector.fit(X[student], epochs=20, batch_size=256, verbose=False)
    scores = {"trained on": detector.score(X[trained], batch_size=1024)}
    unseen = detector.score(X[new], batch_size=1024)
    rng, found = np.random.default_rng(seed), {}
    for name in ("trained on", "held out"):
        flags, alarms = [], []
        for _ in range(DRAWS):
            new_scores, held_out = np.split(rng.permutation(unseen), [-CALIBRATED])
            rows = rng.permutation(scores[name])[:CALIBRATED] if name in scores else held_out
            threshold = np.sort(rows)[math.ceil((len(rows) + 1) * (1 - FPR)) - 1]
            flags.append(np.mean(new_scores > threshold))
            alarms.append(mannwhitneyu(new_scores[:BATCH], rows, alternative="greater").pvalue < FPR)
        found[name] = {"flagged": float(np.mean(flags)), "alarms": float(np.mean(alarms))}
    return found


def warned(X: Array, y: Array, make: Callable[[int], Any]) -> dict[str, Any]:
    """How often it is warned, by how many rows calibrate and whether the classifier was trained on them."""
    hits: dict[str, dict[int, list[bool]]] = {name: {n: [] for n in SIZES} for name in ("trained on", "held out")}
    errors: dict[str, list[float]] = {"trained on": [], "held out": []}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        order, half = rng.permutation(len(y)), min(3000, len(y) // 2)
        train, test = order[:half], order[half : 2 * half]
        model = make(seed).fit(X[train], y[train])
        wrong = {name: model.predict(X[rows]) != y[rows] for name, rows in (("trained on", train), ("held out", test))}
        for name, found in wrong.items():
            errors[name].append(float(found.mean()))
            for n in SIZES:
                draws = [rng.permutation(len(found))[:n] for _ in range(DRAWS)] if n <= len(found) else []
                hits[name][n] += [is_like_training(found[rows], wrong["trained on"]) for rows in draws]
    return {
        name: {
            "errors": float(np.mean(errors[name])),
            "warned": {str(n): float(np.mean(found)) if found else None for n, found in hits[name].items()},
        }
        for name in hits
    }


def main() -> int:
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = magic()
    false_flags: dict[str, Any] = {}
    for name in ("logistic regression", "boosted trees", "random forest", "5 nearest neighbours"):
        runs = [flagged(X, y, CLASSIFIERS[name], seed) for seed in range(SEEDS)]
        false_flags[name] = {
            which: {key: float(np.mean([run[which][key] for run in runs])) for key in runs[0][which]}
            for which in runs[0]
        }
        print(name, false_flags[name], flush=True)
    warnings_of: dict[str, Any] = {}
    for table, X, y in tables():
        warnings_of[table] = {name: warned(X, y, make) for name, make in CLASSIFIERS.items()}
        print(table, json.dumps(warnings_of[table]), flush=True)
    document = {"machine": machine(), "seed": 0, "fpr": FPR, "false_flags": false_flags, "warnings": warnings_of}
    OUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
