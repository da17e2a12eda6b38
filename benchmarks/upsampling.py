"""How should a decoder double an image's sides? Training speed of an autoencoder with each of four ways.

    for b in tensorflow jax torch; do KERAS_BACKEND=$b python benchmarks/upsampling.py; done

The ways alternate; medians of their speeds, in samples a second for 28x28x1 and 128 a batch, go to
docs/results/upsampling-BACKEND.json.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
X = np.random.default_rng(0).random((1024, 28, 28, 1), dtype="float32")


def transposed(_: int, filters: int) -> list[Any]:
    return [layers.Conv2DTranspose(filters, 4, 2, padding="same", activation="relu")]


def resized(_: int, filters: int) -> list[Any]:
    return [layers.UpSampling2D(), layers.Conv2D(filters, 3, padding="same", activation="relu")]


def subpixel(side: int, filters: int, kernel: int) -> list[Any]:
    return [
        layers.Conv2D(4 * filters, kernel, padding="same", activation="relu"),
        layers.Reshape((side, side, 2, 2, filters)),
        layers.Permute((1, 3, 2, 4, 5)),
        layers.Reshape((2 * side, 2 * side, filters)),
    ]


WAYS = {
    "transposed convolution, kernel 4": transposed,
    "resize, then convolution, kernel 3": resized,
    "sub-pixel convolution, kernel 3": lambda side, filters: subpixel(side, filters, 3),
    "sub-pixel convolution, kernel 2": lambda side, filters: subpixel(side, filters, 2),
}


def model_of(grow: Any) -> Any:
    """An autoencoder that grows its images in one of the ways, compiled and trained for an epoch."""
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 4, 2, padding="same", activation="relu"),
            layers.Conv2D(64, 4, 2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(40),
            layers.Dense(7 * 7 * 64, activation="relu"),
            layers.Reshape((7, 7, 64)),
            *grow(7, 64),
            *grow(14, 32),
            layers.Conv2D(1, 3, padding="same"),
        ]
    )
    model.compile("adam", "mse", jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
    model.fit(X, X, batch_size=128, verbose=0)
    return model


def speed(model: Any) -> float:
    """Samples a second of training, compilation left out."""
    start = time.perf_counter()
    model.fit(X, X, batch_size=128, verbose=0)
    return len(X) / (time.perf_counter() - start)


def main() -> int:
    models = {name: model_of(grow) for name, grow in WAYS.items()}
    rounds = [{name: speed(model) for name, model in models.items()} for _ in range(ROUNDS)]
    found = {name: statistics.median(measured[name] for measured in rounds) for name in WAYS}
    backend = keras.backend.backend()
    (ROOT / f"docs/results/upsampling-{backend}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(backend, {name: round(value) for name, value in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
