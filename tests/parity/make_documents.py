"""Make a file of every kind as demur wrote them before msgspec read them, for every later one: see test_documents.py.

    KERAS_BACKEND=tensorflow python tests/parity/make_documents.py

Run it never again on the folder that it made: a later format gets a folder of its own.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from documents import monitors, rows_and_labels, rule, watched
from keras import layers

from demur import AdversarialAE, ModelDistillation, drift, runtime
from demur.evaluation import evaluate

DATA = Path(__file__).parent / "data" / "documents"


def small(*widths: int) -> keras.Model:
    """A network of four numbers with a softmax, or as many numbers, at its end."""
    *hidden, last = widths
    ends = [layers.Dense(last, activation=None if last == 4 else "softmax")]
    return keras.Sequential([layers.Input((4,)), *(layers.Dense(width, activation="relu") for width in hidden), *ends])


def named(detector, y):
    """Labels as the detector calls its classes."""
    return y if detector.classes is None else np.array(detector.classes)[y]


def louder(X, severity, seed):
    return (X + 0.2 * severity * np.random.default_rng(seed).normal(size=X.shape)).astype("float32")


def taught(detector, x, y, **threshold):
    """A detector with all that it can learn."""
    detector.fit(x[:600], epochs=60, batch_size=32, verbose=False)
    detector.infer_threshold(x[600:1000], fpr=0.1, **threshold)
    drift.calibrate_accuracy(detector, x[600:1000], named(detector, y[600:1000]), corruptions={"noise": louder})
    return detector


def saved(name: str, detector, x) -> None:
    """Save a detector, and what it answers."""
    detector.save(DATA / name)
    accuracy = drift.estimate_accuracy(detector, x)["data"]["accuracy"]
    np.savez_compressed(DATA / f"{name}.npz", **detector.correct(x)["data"], accuracy=accuracy)


def exported(name: str, detector, x) -> None:
    """Export a detector, and what the file answers."""
    detector.export(DATA / f"{name}.onnx")
    model = rule if name == "outside" else None
    np.savez_compressed(DATA / f"{name}.npz", **runtime.load(DATA / f"{name}.onnx", model=model).correct(x)["data"])


def main() -> int:
    if DATA.exists() and any(DATA.iterdir()):
        print(f"{DATA} is there: files of an earlier version are not made by a later one")
        return 1
    DATA.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    x, y = rows_and_labels(1600, seed=0)
    new, truth = rows_and_labels(60, seed=1)
    classifier = small(8, 3)
    classifier.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    classifier.fit(x[1000:], y[1000:], epochs=30, verbose=0)
    distilled = ModelDistillation(model=classifier, distilled_model=small(3), classes=["ale", "lager", "stout"])
    saved("distilled", taught(distilled, x, y, groups="predicted"), new)
    rebuilt = AdversarialAE(model=classifier, ae=small(3, 4), temperature=0.5)
    saved("rebuilt", taught(rebuilt, x, y), new)
    exported("inside", distilled, new)
    exported("outside", taught(ModelDistillation(model=rule, distilled_model=small(3)), x, y), new)
    evidence = {}
    for name, monitor in monitors(distilled).items():
        watched(monitor, x[1000:1100], 0.0).save(DATA / f"monitor_{name}.json")
        evidence[name] = watched(monitor, new, 100.0).log_evidence
    np.savez_compressed(DATA / "monitors.npz", **evidence)
    asked = {"attacks": ["FGSM"], "corruptions": {"noise": louder}, "baselines": ["entropy"]}
    found = evaluate(distilled, new[:20], named(distilled, truth[:20]), **asked, resamples=20, verbose=False)
    found.to_json(DATA / "evaluation.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
