"""Real images for the demonstration and the examples, as float32 in [0, 1] with classes, split for honest use."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from demur.checks import chosen
from demur.errors import InvalidSetting
from demur.extras import extra

__all__ = ["Dataset", "Part", "load"]
__dir__ = __all__.copy

NAMES = ("digits", "fashion_mnist", "mnist", "cifar10")

CLASS_NAMES = {
    "fashion_mnist": ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"],
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
}


class Part(NamedTuple):
    """Images `(n, height, width, channels)` float32 in [0, 1] and their classes `(n,)` int64."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]


class Dataset(NamedTuple):
    """Three disjoint parts: to train on, to set thresholds on, to test on."""

    name: str
    train: Part
    held_out: Part
    test: Part
    class_names: list[str]


def load(name: str, *, seed: int = 0) -> Dataset:
    """Load a data set.

    `digits` comes with scikit-learn. The others are read from `$DEMUR_DATA/<name>.npz` (`x_train`, `y_train`,
    `x_test`, `y_test`, uint8) if that variable is set, and are downloaded by `keras.datasets` otherwise.

    Examples:
        >>> data = load("digits")
        >>> data.train.x.shape, len(data.held_out.y), data.class_names[:3]
        ((1000, 8, 8, 1), 400, ['0', '1', '2'])

    Args:
        name: "digits", "fashion_mnist", "mnist" or "cifar10".
        seed: of the split; the published test set stays the test set.

    Raises:
        InvalidSetting: there is no data set of that name, or its file is missing.
        MissingExtra: scikit-learn is not installed.
    """
    name = chosen(name, NAMES, "dataset")
    rng = np.random.default_rng(seed)
    class_names = CLASS_NAMES.get(name, [str(digit) for digit in range(10)])
    if name == "digits":
        every = _digits()
        order = rng.permutation(len(every.y))
        train, held_out, test = (Part(every.x[rows], every.y[rows]) for rows in np.split(order, [1000, 1400]))
        return Dataset(name, train, held_out, test, class_names)
    train, test = _published(name)
    order = rng.permutation(len(train.y))
    learn, hold = order[:-5000], order[-5000:]
    return Dataset(name, Part(train.x[learn], train.y[learn]), Part(train.x[hold], train.y[hold]), test, class_names)


def _digits() -> Part:
    with extra("scikit-learn", "demo"):
        from sklearn.datasets import load_digits
    images, classes = load_digits(return_X_y=True)
    return Part((images / 16).astype("float32").reshape(-1, 8, 8, 1), classes.astype("int64"))


def _published(name: str) -> tuple[Part, Part]:
    folder = os.environ.get("DEMUR_DATA")
    if folder:
        file = Path(folder) / f"{name}.npz"
        if not file.is_file():
            raise InvalidSetting(f"DEMUR_DATA is set, but there is no {file}; put the file there or unset DEMUR_DATA")
        with np.load(file, allow_pickle=False) as arrays:
            pairs = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
    else:
        import keras

        try:
            pairs = getattr(keras.datasets, name).load_data()
        except Exception as error:  # Keras raises nothing narrower where there is no network
            raise InvalidSetting(
                f"{name} could not be downloaded: {error}. Take 'digits', which need no network, or put {name}.npz "
                "into a folder and name that in the environment variable DEMUR_DATA"
            ) from error
    images = [x / np.float32(255) for x, _ in pairs]
    images = [x if x.ndim == 4 else x[..., None] for x in images]
    train, test = (Part(x, y.astype("int64").reshape(-1)) for x, (_, y) in zip(images, pairs, strict=True))
    return train, test
