"""Make files as demur wrote them at one version, for every later one to read: see test_earlier.py.

    KERAS_BACKEND=tensorflow python -m tests.parity.make_earlier

Run it never again on the folder that it made: a later format gets a folder of its own.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from demur import ModelDistillation, drift
from demur.onnx import runtime
from tests.parity.earlier import frame, rule

DATA = Path(__file__).parent / "data" / "earlier"


def table() -> None:
    """A guard of a function on a data frame, with a threshold for each class and errors learned from labels."""
    rows = frame(900, seed=0)
    detector = ModelDistillation(model=rule).fit(rows[:500], epochs=20, verbose=False)
    detector.infer_threshold(rows[500:], fpr=0.1, groups="predicted")
    labels = (rows["length"].to_numpy() + np.random.default_rng(1).normal(0, 0.3, 900) > 2).astype(int)
    changes = {"longer": lambda X, severity, seed: X.assign(length=X["length"] + 0.2 * severity)}
    drift.calibrate_accuracy(detector, rows[500:], labels[500:], corruptions=changes)
    detector.save(DATA / "table")
    new = frame(60, seed=2)
    answer = detector.correct(new)["data"]
    np.savez_compressed(
        DATA / "table.npz", **answer, accuracy=drift.estimate_accuracy(detector, new)["data"]["accuracy"]
    )


def file() -> None:
    """An exported guard of small images, and the state of a monitor that watches it."""
    keras.utils.set_random_seed(0)
    images, classes = load_digits(return_X_y=True)
    x = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    classifier = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")])
    classifier.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    classifier.fit(x[:1000], classes[:1000], epochs=15, verbose=0)
    student = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")])
    detector = ModelDistillation(model=classifier, distilled_model=student).fit(x[:1000], epochs=10, verbose=False)
    detector.infer_threshold(x[1000:1400], fpr=0.05).export(DATA / "guard.onnx")
    guard = runtime.load(DATA / "guard.onnx")
    monitor = drift.Monitor(guard, alpha=0.01).update(x[1400:1500])
    monitor.save(DATA / "monitor.json")
    monitor.update(x[1500:1600])
    answer = guard.correct(x[1400:1460])["data"]
    np.savez_compressed(DATA / "guard.npz", **answer, x=x[1400:1600], log_evidence=monitor.log_evidence)


def main() -> int:
    if DATA.exists() and any(DATA.iterdir()):
        print(f"{DATA} is there: files of an earlier version are not made by a later one")
        return 1
    DATA.mkdir(exist_ok=True)
    table()
    file()
    return 0


if __name__ == "__main__":
    sys.exit(main())
