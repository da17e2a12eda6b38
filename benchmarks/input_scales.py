"""Do ready companions learn as well from images on other scales? With and without what they learn of the scale.

    DEMUR_DATA=FOLDER KERAS_BACKEND=tensorflow python benchmarks/input_scales.py [DATASET ...]

A small classifier of Fashion-MNIST and of CIFAR-10, trained on images in 0 to 1, with a layer in front that takes
images from 0 to 255, or standardised ones, to that scale. A ready student and a ready autoencoder of each are trained
on 10,000 images for five epochs, once as `fit` trains them, with the scales that they learn from the training rows, and
once as networks of one's own are, whose numbers stay as they come. Agreement with the classifier is that on 2,000 test
images. Writes docs/results/input-scales.json, and goes on where that file ends.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from measuring import machine

from demur import AdversarialAE, ModelDistillation, datasets
from demur._version import __version__
from demur.network import nets

OUT = Path(__file__).resolve().parent.parent / "docs/results/input-scales.json"
ROWS, TESTED, EPOCHS, SEEDS = 10_000, 2_000, 5, (0, 1)


def classifier(shape: tuple[int, ...], x: Any, y: Any) -> Any:
    """A small network of images in 0 to 1."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input(shape),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=5, batch_size=128, verbose=0)
    return model


def scales(x: Any) -> dict[str, tuple[Any, Any]]:
    """By name, what images in 0 to 1 are multiplied by, and what is added then."""
    mean, deviation = x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2))
    return {"0 to 1": (1.0, 0.0), "0 to 255": (255.0, 0.0), "standardised": (1 / deviation, -mean / deviation)}


def agreement(kind: Any, model: Any, x: Any, test: Any, seed: int, *, learns: bool) -> float:
    """How often a trained companion agrees with the classifier on test images."""
    own: dict[str, Any] = {}
    if not learns:
        shape = x.shape[1:]
        own = {"ae": nets.autoencoder(shape, seed=seed)} if kind is AdversarialAE else {}
        own = own or {"distilled_model": nets.student(shape, 10, seed=seed)}
    detector = kind(model=model, seed=seed, **own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(x, epochs=EPOCHS, validation_data=test, verbose=False)
    return float(detector.agreement.share)


def main(asked: list[str]) -> int:
    found = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {"runs": {}}
    for name in asked:
        data = datasets.load(name)
        x, y, test = data.train.x[:ROWS], data.train.y[:ROWS], data.test.x[:TESTED]
        model = classifier(x.shape[1:], x, y)
        runs = found["runs"].setdefault(name, {})
        runs["accuracy"] = float((model.predict(test, verbose=0).argmax(1) == data.test.y[:TESTED]).mean())
        for kind in (ModelDistillation, AdversarialAE):
            for scale, (by, plus) in scales(x).items():
                front = layers.Rescaling((1 / np.asarray(by)).tolist(), (-np.asarray(plus) / by).tolist())
                scaled = keras.Sequential([layers.Input(x.shape[1:]), front, model])
                for learns in (False, True):
                    key = f"{kind.__name__}, {scale}, {'learned' if learns else 'as they come'}"
                    if key in runs:
                        continue
                    began = time.monotonic()
                    shares = [
                        agreement(
                            kind,
                            scaled,
                            *(np.asarray(part * by + plus, "float32") for part in (x, test)),
                            seed,
                            learns=learns,
                        )
                        for seed in SEEDS
                    ]
                    runs[key] = shares
                    print(name, key, shares, f"{time.monotonic() - began:.0f} s", flush=True)
                    found |= {"version": __version__, "rows": ROWS, "epochs": EPOCHS, "seeds": SEEDS}
                    found["machine"] = machine()
                    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["fashion_mnist", "cifar10"]))
