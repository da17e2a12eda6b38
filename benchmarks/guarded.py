"""The classifiers that the measurements of quality guard: trained once for a data set and seed, and kept.

    KERAS_BACKEND=tensorflow python benchmarks/guarded.py NAME [--seed N]

NAME is a data set, for a classifier that a CPU trains within an hour, or `cifar10-full` for the published one, which
wants a GPU. The weights go to benchmarks/models/NAME-SEED.keras, without the optimizer's state.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from networks import residual

from demur import datasets
from demur.backends import current
from demur.demo import build_classifier

MODELS = Path(__file__).resolve().parent / "models"


class Guarded(NamedTuple):
    """How a classifier is built and trained."""

    dataset: str
    build: Callable[[tuple[int, ...], int], Any]
    epochs: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    is_augmented: bool = False
    """Whether training images are mirrored and moved by up to 4 pixels."""
    weight_decay: float = 0.0
    """Decoupled from the gradient."""


def standardised_residual(depth: int) -> Callable[[tuple[int, ...], int], Any]:
    """A residual network that standardises each image by itself, so that images stay in [0, 1] for everyone else."""

    def build(shape: tuple[int, ...], classes: int) -> Any:
        inputs = keras.Input(shape)
        standardised = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, epsilon=1e-6)(inputs)
        return keras.Model(inputs, residual(standardised, depth, classes))

    return build


CLASSIFIERS = {
    "mnist": Guarded("mnist", build_classifier, 6),
    "fashion_mnist": Guarded("fashion_mnist", build_classifier, 12),
    "cifar10": Guarded("cifar10", standardised_residual(20), 24, 128, 4e-3, True, 5e-4),
    "cifar10-full": Guarded("cifar10", standardised_residual(56), 40, 128, 4e-3, True, 5e-2),
}


class Augmented(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of images, half of them mirrored, all moved by up to 4 pixels."""

    def __init__(self, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self.x, self.y, self.size, self.rng = x, y, batch_size, np.random.default_rng(seed)
        self.order = self.rng.permutation(len(y))

    def __len__(self) -> int:
        return len(self.y) // self.size

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[i * self.size : (i + 1) * self.size]
        wide = np.pad(self.x[rows], ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
        height, width = self.x.shape[1:3]
        moves, mirrored = self.rng.integers(0, 9, (len(rows), 2)), self.rng.random(len(rows)) < 0.5
        images = [wide[j, a : a + height, b : b + width] for j, (a, b) in enumerate(moves)]
        turned = [image[:, ::-1] if mirror else image for image, mirror in zip(images, mirrored, strict=True)]
        return np.stack(turned), self.y[rows]

    def on_epoch_end(self) -> None:
        """Shuffle."""
        self.order = self.rng.permutation(len(self.y))


def classifier_of(name: str, data: datasets.Dataset, seed: int) -> Any:
    """The classifier to be guarded: from its file, or trained and written to it."""
    file = MODELS / f"{name}-{seed}.keras"
    if file.is_file():
        return keras.models.load_model(file)
    plan, (x, y) = CLASSIFIERS[name], data.train
    keras.utils.set_random_seed(seed)
    model = plan.build(x.shape[1:], len(data.class_names))
    steps = plan.epochs * (len(y) // plan.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        plan.learning_rate / 20, steps, warmup_target=plan.learning_rate, warmup_steps=steps // 6
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=plan.weight_decay)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=current().xla)
    if plan.is_augmented:
        model.fit(Augmented(x, y, plan.batch_size, seed), epochs=plan.epochs, verbose=2)
    else:
        model.fit(x, y, batch_size=plan.batch_size, epochs=plan.epochs, verbose=2)
    bare = type(model).from_config(model.get_config())  # not compiled: without the optimizer's state
    bare.set_weights(model.get_weights())
    file.parent.mkdir(exist_ok=True)
    bare.save(file)
    return bare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CLASSIFIERS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    data = datasets.load(CLASSIFIERS[arguments.name].dataset, seed=arguments.seed)
    model = classifier_of(arguments.name, data, arguments.seed)
    said = model.predict(data.test.x, batch_size=512, verbose=0).argmax(axis=1)
    print(f"accuracy {np.mean(said == data.test.y):.4f} after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
