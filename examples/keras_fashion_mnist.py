"""A Keras CNN for clothes, guarded by an autoencoder: attacks and noise are caught, and their classes corrected.

    python examples/keras_fashion_mnist.py [--small] [--out FILE] [--plot FILE]

Fashion-MNIST is downloaded by Keras, unless $DEMUR_DATA names a folder with fashion_mnist.npz; with --small,
scikit-learn's digits stand in for it.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before Keras is imported; any will do

import common
import keras
import numpy as np
from keras import layers

from demur import AdversarialAE, datasets, load_detector, plots
from demur.evaluation.attacks import Attack
from demur.evaluation.corruptions import corrupt
from demur.evaluation.target import Target


class Plan(NamedTuple):
    """How much is done on a data set."""

    train: int
    classifier_epochs: int
    detector_epochs: int
    attacks: tuple[tuple[str, float], ...]


FULL = Plan(12_000, 6, 10, (("FGSM", 0.02), ("PGD", 0.02), ("PGD", 0.05)))
SMALL = Plan(1000, 15, 20, (("FGSM", 0.1), ("PGD", 0.1)))


def trained_cnn(x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    """A small CNN; what is done to it afterwards needs its predictions alone."""
    model = keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="clothes",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=64, verbose=2)
    return model


def picture(file: Path, detector: AdversarialAE, data: datasets.Dataset, x: np.ndarray, attacked: np.ndarray) -> None:
    """The first attacked images that fool the classifier: before, after, and as the autoencoder redraws them."""
    before, after, y = detector.correct(x)["data"], detector.correct(attacked)["data"], data.test.y[: len(x)]
    fooled = np.flatnonzero((before["no_defense"] == y) & (after["no_defense"] != y))
    shown = fooled[:8]

    def row(name: str, images: np.ndarray, classes: np.ndarray, says: str) -> plots.Row:
        words = [f"{data.class_names[classes[i]]}{says if after['is_adversarial'][i] else ''}" for i in shown]
        return plots.Row(name, images, words, [plots.GOOD if classes[i] == y[i] else plots.BAD for i in shown])

    rows = [
        row("original", x[shown], before["no_defense"], ""),
        row("attacked", attacked[shown], after["no_defense"], "\nflagged"),
        row("redrawn", detector.reconstruct(attacked[shown]), after["defense"], ""),
    ]
    scores = plots.Histogram(
        "scores", before["instance_score"], after["instance_score"][fooled], float(detector.threshold)
    )
    plots.attack_picture(file, "what the classifier says of each image: green is right, red is wrong", rows, [scores])


def main() -> None:
    """Train, guard, attack, corrupt, correct, measure."""
    arguments = common.options(__doc__, plot=True)
    plan = SMALL if arguments.small else FULL
    keras.utils.set_random_seed(0)
    data = datasets.load("digits" if arguments.small else "fashion_mnist")
    x_train, y_train = data.train.x[: plan.train], data.train.y[: plan.train]
    x_held_out, x_test, y_test = data.held_out.x, data.test.x[:1000], data.test.y[:1000]
    classifier = trained_cnn(x_train, y_train, plan.classifier_epochs)

    detector = AdversarialAE(model=classifier, data_type="image")
    detector.fit(x_train, w_recon=0.1, epochs=plan.detector_epochs, verbose=2)
    detector.infer_threshold(x_held_out, fpr=0.05)

    # The attacker knows the classifier and its gradients, and not the guard.
    target = Target(detector)
    changed = {
        f"{name} eps {eps:g}": Attack.registry[name](eps).run(target, x_test, y_test).x for name, eps in plan.attacks
    }
    changed |= {name: corrupt(x_test, name=name, severity=3) for name in common.CORRUPTIONS}
    found = common.measure(detector, x_test, y_test, changed)

    with tempfile.TemporaryDirectory() as folder:
        detector.save(folder + "/guard")
        guard = load_detector(folder + "/guard")
    difference = float(np.abs(guard.score(x_test) - detector.score(x_test)).max())

    results = {
        "backend": keras.backend.backend(),
        "rows": {"train": len(x_train), "held out": len(x_held_out), "test": len(y_test)},
        "difference_after_loading": difference,
        "detectors": {"AdversarialAE": found},
    }
    common.report(results, [], arguments.out)
    if arguments.plot:
        picture(arguments.plot, detector, data, x_test, list(changed.values())[1])


if __name__ == "__main__":
    main()
