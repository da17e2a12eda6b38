"""Makes what is served: two guards for 28x28 images that answer differently, and images to ask about.

    KERAS_BACKEND=tensorflow python -m serving.guards FOLDER

A process of its own: nothing that measures holds Keras.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("guard", "other")
IMAGES = 256


def images() -> tuple[Any, Any]:
    """The digits of scikit-learn, enlarged to 28x28x1, with some noise, in steps of 1/255; and their classes."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = np.kron(X.reshape(-1, 8, 8) / 16, np.ones((3, 3)))
    X = np.pad(X, ((0, 0), (2, 2), (2, 2)))
    X = np.clip(X + np.random.default_rng(0).normal(0, 0.05, X.shape), 0, 1)
    return (np.round(255 * X) / 255).astype("float32")[..., None], y


def networks() -> tuple[Any, Any]:
    """A classifier and an autoencoder that take microseconds: what is measured is the server."""
    import keras
    from keras import layers

    def dense(*more: Any) -> Any:
        hidden = layers.Dense(32, activation="relu")
        return keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), hidden, *more])

    return (
        dense(layers.Dense(10, activation="softmax")),
        dense(layers.Dense(784, activation="sigmoid"), layers.Reshape((28, 28, 1))),
    )


def make(folder: Path) -> None:
    """Write `guard.onnx` and `other.onnx`, `images.npy`, and `machine.json`: what this runs on."""
    import keras
    from measuring import machine

    from demur import AdversarialAE

    X, y = images()
    held_out, X, y = X[:IMAGES], X[IMAGES:], y[IMAGES:]
    for seed, name in enumerate(NAMES):
        keras.utils.set_random_seed(seed)
        classifier, autoencoder = networks()
        classifier.compile("adam", "sparse_categorical_crossentropy")
        classifier.fit(X, y, epochs=5, verbose=0)
        detector = AdversarialAE(model=classifier, ae=autoencoder)
        detector.fit(X, epochs=5, verbose=0).infer_threshold(X, fpr=0.05)
        detector.export(folder / f"{name}.onnx")
    np.save(folder / "images.npy", held_out)
    (folder / "machine.json").write_text(json.dumps(machine()))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
