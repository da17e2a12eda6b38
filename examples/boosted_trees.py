"""Boosted trees on a table, watched by ModelDistillation: a changed unit, a dead sensor, noise, swapped columns.

    python examples/boosted_trees.py [--small] [--out FILE]

XGBoost learns from a pandas DataFrame to tell gamma rays from hadrons by the traces that they leave in a telescope
(MAGIC: 19,020 rows of 10 numbers). The detector asks it by `predict_proba`, with the named columns; its student learns
from the same rows, standardised. The table is read from $DEMUR_DATA/magic.npz (x, y) if that variable is set, and
fetched from OpenML by scikit-learn otherwise; with --small, scikit-learn's breast-cancer table stands in for it.
"""

import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # of the student; any will do

import common
import keras
import numpy as np
import pandas as pd
import xgboost
from sklearn.datasets import fetch_openml, load_breast_cancer

from demur import ModelDistillation

MAGIC = ["fLength", "fWidth", "fSize", "fConc", "fConc1", "fAsym", "fM3Long", "fM3Trans", "fAlpha", "fDist"]


class Table(NamedTuple):
    """Rows and classes, and what can happen to such rows."""

    X: pd.DataFrame
    y: np.ndarray
    lengths: list[str]
    """Columns in millimetres."""
    sensor: str
    """A column that can get stuck."""
    swapped: tuple[str, str]
    """Columns that can be mistaken for one another."""


def magic() -> Table:
    """Traces of gamma rays (1) and of hadrons (0)."""
    if folder := os.environ.get("DEMUR_DATA"):
        with np.load(Path(folder) / "magic.npz") as arrays:
            X, y = pd.DataFrame(arrays["x"], columns=MAGIC), arrays["y"].astype(int)
    else:
        fetched = fetch_openml("MagicTelescope", version=1, as_frame=True)
        X = fetched.data.rename(columns=lambda name: name.rstrip(":"))[MAGIC].astype("float32")
        y = (fetched.target == "g").to_numpy().astype(int)
    lengths = ["fLength", "fWidth", "fAsym", "fM3Long", "fM3Trans", "fDist"]
    return Table(X, y, lengths, "fAlpha", ("fLength", "fWidth"))


def breast_cancer() -> Table:
    """Nuclei of benign (1) and of malignant (0) cells."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    lengths = [name for name in X.columns if "radius" in name or "perimeter" in name]
    return Table(X, y.to_numpy(), lengths, "worst concave points", ("worst radius", "worst texture"))


def changes(table: Table, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What may happen to the test rows on their way to the classifier."""
    rng = np.random.default_rng(0)
    spread, (one, other) = train.std(), table.swapped

    def noise(share: float) -> pd.DataFrame:
        return test + share * spread.to_numpy() * rng.normal(size=test.shape)

    return {
        "lengths 10 % too large": test.assign(**{name: test[name] * 1.1 for name in table.lengths}),
        "lengths in inches": test.assign(**{name: test[name] / 25.4 for name in table.lengths}),
        f"{table.sensor} stuck at its median": test.assign(**{table.sensor: train[table.sensor].median()}),
        f"{table.sensor} stuck at its maximum": test.assign(**{table.sensor: train[table.sensor].max()}),
        f"{one} and {other} swapped": test.assign(**{one: test[other], other: test[one]}),
        "noise of 0.1 standard deviations": noise(0.1),
        "noise of 0.5 standard deviations": noise(0.5),
        "noise of 1 standard deviation": noise(1),
    }


def main() -> None:
    """Train, watch, change, measure."""
    arguments = common.options(__doc__)
    keras.utils.set_random_seed(0)
    table = breast_cancer() if arguments.small else magic()
    order = np.random.default_rng(0).permutation(len(table.y))
    train, held_out, test = np.split(order, [len(order) // 2, 3 * len(order) // 4])

    model = xgboost.XGBClassifier(
        n_estimators=200, max_depth=4, learning_rate=0.1, subsample=0.8, random_state=0, n_jobs=1
    )
    model.fit(table.X.iloc[train], table.y[train])

    detector = ModelDistillation(model=model, data_type="tabular")
    detector.fit(table.X.iloc[train], epochs=30, batch_size=64, verbose=2)
    detector.infer_threshold(table.X.iloc[held_out], fpr=common.FPR)

    changed = changes(table, table.X.iloc[train], table.X.iloc[test])
    found = common.measure(detector, table.X.iloc[test], table.y[test], changed, batch=20 if arguments.small else 100)
    results = {
        "backend": keras.backend.backend(),
        "rows": {"train": len(train), "held out": len(held_out), "test": len(test)},
        "detectors": {"ModelDistillation": found},
    }
    common.report(results, ["pandas", "xgboost"], arguments.out)


if __name__ == "__main__":
    main()
