"""The networks that the benchmarks run on: untrained, because speed does not depend on weights."""

from typing import Any

import keras
import numpy as np
from keras import layers


def cnn28() -> tuple[Any, Any]:
    """A small CNN for 28x28x1 and the published kind of autoencoder for it."""
    classifier = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return classifier, published_autoencoder((28, 28, 1), (32, 64))


def resnet20() -> tuple[Any, Any]:
    """ResNet-20 for CIFAR-10 (He et al., 2016, arXiv:1512.03385) and the published autoencoder."""
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, residual(inputs, 20, 10)), published_autoencoder((32, 32, 3), (32, 64, 256))


def residual(x: Any, depth: int, classes: int) -> Any:
    """What a residual network of that depth, 20 or 56 say, makes of images: probabilities (arXiv:1512.03385)."""
    x = _unit(x, 16)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            stride = 2 if stage and not block else 1
            y = _unit(_unit(x, filters, stride), filters, activation=None)
            if stride == 2:
                x = layers.Conv2D(filters, 1, 2)(x)
            x = layers.ReLU()(layers.Add()([x, y]))
    return layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def mlp() -> tuple[Any, Any]:
    """A classifier of rows of 30 features, and an autoencoder for them."""

    def dense(sizes: list[int], activation: str | None) -> Any:
        hidden = [layers.Dense(size, activation="relu") for size in sizes[:-1]]
        return keras.Sequential([layers.Input((30,)), *hidden, layers.Dense(sizes[-1], activation=activation)])

    return dense([128, 128, 5], "softmax"), dense([128, 16, 128, 30], None)


def published_autoencoder(shape: tuple[int, int, int], filters: tuple[int, ...], code: int = 40) -> Any:
    """Strided convolutions of kernel 4, a dense code, transposed convolutions, as published (docs/results/speed.md)."""
    down = [layers.Conv2D(n, 4, 2, padding="same", activation="relu") for n in filters]
    side = shape[0] // 2 ** len(filters)
    up = [layers.Conv2DTranspose(n, 4, 2, padding="same", activation="relu") for n in filters[:0:-1]]
    return keras.Sequential(
        [
            layers.Input(shape),
            *down,
            layers.Flatten(),
            layers.Dense(code),
            layers.Dense(side * side * filters[-1], activation="relu"),
            layers.Reshape((side, side, filters[-1])),
            *up,
            layers.Conv2DTranspose(shape[-1], 4, 2, padding="same"),
        ]
    )


def rows(shape: tuple[int, ...], n: int) -> np.ndarray:
    """Random rows, float32 in [0, 1]."""
    return np.random.default_rng(0).random((n, *shape), dtype="float32")


def _unit(x: Any, filters: int, stride: int = 1, activation: str | None = "relu") -> Any:
    x = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return x if activation is None else layers.Activation(activation)(x)


NETWORKS = {"MLP, 30 features": mlp, "CNN, 28x28x1": cnn28, "ResNet-20, 32x32x3": resnet20}
