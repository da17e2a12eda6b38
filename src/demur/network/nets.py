"""Ready companions for an input shape: an autoencoder, a student, and the random heads on hidden layers.

The images' decoder grows by sub-pixel convolution (Shi et al., 2016, arXiv:1609.05158) rather than by transposed
convolution: each output pixel sees as many inputs, and JAX on a CPU, which trains transposed convolutions many times
slower than other ones, is not held up (`benchmarks/upsampling.py` measures it).
"""

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from demur.backends import current
from demur.errors import ShapeMismatch, WrongType
from demur.rows.layout import Shape, describe
from demur.rows.rows import check_array

__all__ = ["autoencoder", "random_head", "student", "token_student"]
__dir__ = __all__.copy

SMALL_IMAGE = 64
"""Up to this many pixels a side an autoencoder squeezes through a dense code; beyond, it stays convolutional."""
FARTHEST = 16.0
"""Standardised numbers of the rows that scales are learned from are no larger than this."""


@keras.saving.register_keras_serializable("demur")
class Standardize(layers.Layer):  # type: ignore[misc]
    """Brings numbers to mean 0 and standard deviation 1, or back; it changes none until `learn_scales`.

    Args:
        axis: of the columns, or channels.
        back: whether it undoes what such a layer does.
        together: whether numbers are brought to 0..1 instead, all columns by one scale. Autoencoders of images do that:
            the published ones take images from 0 to 1 as they are, and agree better so (`benchmarks/input_scales.py`).
        **settings: see `keras.layers.Layer`.
    """

    def __init__(self, axis: int = -1, back: bool = False, together: bool = False, **settings: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **settings})
        self.axis, self.back, self.together = axis, back, together

    def build(self, shape: Any) -> None:
        """Make the weights, which no training changes."""
        alike = [1] * (len(shape) - 1)
        alike[self.axis if self.axis < 0 else self.axis - 1] = shape[self.axis]
        self.mean = self.add_weight(name="mean", shape=alike, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=alike, initializer="ones", trainable=False)

    def call(self, x: Any) -> Any:
        """Shift and scale a batch."""
        return x * self.scale + self.mean if self.back else (x - self.mean) / self.scale

    def get_config(self) -> dict[str, Any]:
        """The settings."""
        return {**super().get_config(), "axis": self.axis, "back": self.back, "together": self.together}


def learn_scales(network: Any, rows: Any) -> None:
    """Have a ready network learn from rows how large their numbers are; other networks stay as they are.

    `fit` does that for the networks that it makes. A column becomes one of mean 0 and standard deviation 1, or of a
    smaller one where a number would be larger than 16; one that does not vary, but for rounding, becomes 0. For an
    autoencoder of images all numbers together are brought to 0..1.

    Examples:
        >>> network = student((13,), classes=3)
        >>> learn_scales(network, rows)

    Args:
        network: what `autoencoder` or `student` made.
        rows: `(n, *input_shape)`.

    Raises:
        WrongType: the network is no Keras model, or rows are no numbers.
        ShapeMismatch, EmptyInput, NonFinite: see `demur.errors`.
    """
    if not isinstance(network, keras.Model):
        raise WrongType(f"network is one that demur.nets made; got {type(network).__name__}")
    set_scales(network, check_array(rows, tuple(network.input_shape[1:]), "rows"))


def set_scales(network: Any, rows: Any) -> None:
    """Set the scales from rows that were not checked: rows that are not finite are left out."""
    for layer in (layer for layer in network.layers if isinstance(layer, Standardize)):
        x = np.moveaxis(np.asarray(rows, "float64"), layer.axis, -1)
        x = x.reshape(-1, x.shape[-1])
        x = x[np.isfinite(x).all(axis=1)]
        if not len(x):
            return
        if layer.together:
            x = np.array([[x.min()], [x.max()]]).repeat(x.shape[1], axis=1)
            mean, spread = x[0], x[1] - x[0]
        else:
            mean, spread = x.mean(axis=0), x.std(axis=0)
        rounding = 2 * np.finfo("float32").eps * np.abs(x).max(axis=0)
        scale = np.maximum(spread, np.abs(x - mean).max(axis=0) / FARTHEST)
        for weight, values in ((layer.mean, mean), (layer.scale, np.where(spread > rounding, scale, 1.0))):
            weight.assign(values.reshape(weight.shape).astype("float32"))


def take_scales(network: Any, other: Any) -> None:
    """Have a network that is made like another one have the scales that the other has learned."""
    for layer, learned in zip(network.layers, other.layers, strict=True):
        if isinstance(learned, Standardize):
            layer.set_weights(learned.get_weights())


def autoencoder(input_shape: Shape, *, code: int = 40, channels_first: bool = False, seed: int = 0) -> Any:
    """Build an untrained autoencoder `(n, *input_shape) -> (n, *input_shape)`.

    Tabular rows `(features,)` and sequences `(steps, channels)` go through dense layers; images
    `(height, width, channels)` of at most 64 pixels a side through strided convolutions and a dense code, as published;
    larger ones through convolutions alone. The output is linear, so any scaling of the inputs will do.

    Examples:
        >>> autoencoder((8, 8, 1), code=10).output_shape
        (None, 8, 8, 1)

    Args:
        input_shape: shape of one row, without the batch; every size known.
        code: length of the dense code.
        channels_first: whether images are `(channels, height, width)`, as PyTorch has them.
        seed: seed of the initial weights.

    Raises:
        ShapeMismatch: a size is unknown, or the shape is of another rank.
    """
    shape = _known(input_shape, "autoencoder", "ae=")
    init = _Seeds(seed)
    is_image = len(shape) == 3
    images = _Images(init, channels_first)
    body = _image_autoencoder(shape, code, images) if is_image else _dense_autoencoder(shape, code, init)
    axis = 1 if is_image and channels_first else -1
    ends = (
        Standardize(axis, together=is_image, name="standardize"),
        Standardize(axis, back=True, together=is_image, name="back"),
    )
    return keras.Sequential([layers.Input(shape), ends[0], *body, ends[1]], name="autoencoder")


def student(input_shape: Shape, classes: int, *, channels_first: bool = False, seed: int = 0) -> Any:
    """Build an untrained small classifier `(n, *input_shape) -> (n, classes)` probabilities, to be distilled.

    Examples:
        >>> student((13,), classes=3).output_shape
        (None, 3)

    Args:
        input_shape: shape of one row, without the batch; every size known.
        classes: number of classes.
        channels_first: whether images are `(channels, height, width)`, as PyTorch has them.
        seed: seed of the initial weights.

    Raises:
        ShapeMismatch: a size is unknown, or the shape is of another rank.
    """
    shape = _known(input_shape, "student", "distilled_model=")
    init = _Seeds(seed)
    body: list[Any]
    if len(shape) == 3:
        images = _Images(init, channels_first)
        height, width, _ = images.sides(shape)
        body = [
            *images.turned(),
            images.convolution(16, 3, strides=_stride(height, width), activation="relu"),
            images.convolution(32, 3, strides=2, activation="relu"),
            images.convolution(32, 3, activation="relu"),
            images.pooled() if max(height, width) > SMALL_IMAGE else layers.Flatten(),
            layers.Dense(32, activation="relu", **init.weights()),
        ]
    else:
        body = [
            *([layers.Flatten()] if len(shape) > 1 else []),
            layers.Dense(64, activation="relu", **init.weights()),
            layers.Dense(32, activation="relu", **init.weights()),
        ]
    output = layers.Dense(classes, activation="softmax", **init.weights())
    scaled = Standardize(1 if len(shape) == 3 and channels_first else -1, name="standardize")
    return keras.Sequential([layers.Input(shape), scaled, *body, output], name="student")


def token_student(vocabulary: int, length: int | None, classes: int, *, seed: int = 0) -> Any:
    """Build an untrained small classifier of tokens, `(n, length) -> (n, classes)` probabilities, to be distilled.

    Examples:
        >>> token_student(vocabulary=50, length=12, classes=2).output_shape
        (None, 2)

    Args:
        vocabulary: how many tokens there are: 0 to `vocabulary - 1`.
        length: tokens a row; None for any number.
        classes: number of classes.
        seed: seed of the initial weights.
    """
    init = _Seeds(seed)
    start = keras.initializers.RandomUniform(-0.05, 0.05, seed=int(init.rng.integers(2**31)))
    body = [
        layers.Embedding(vocabulary, 32, embeddings_initializer=start),
        layers.Conv1D(64, 3, padding="same", activation="relu", **init.weights()),
        layers.GlobalMaxPooling1D(),
        layers.Dense(32, activation="relu", **init.weights()),
        layers.Dense(classes, activation="softmax", **init.weights()),
    ]
    return keras.Sequential([layers.Input((length,), dtype="int32"), *body], name="student")


def random_head(feature_shape: Shape, classes: int, *, seed: int) -> Any:
    """Build the fixed random projection of a feature map to `classes` logits: flatten, then a Dense never trained.

    The weights are Glorot-uniform from NumPy's generator, so that a seed gives the same head on every backend.

    Raises:
        ShapeMismatch: a size of the feature map is unknown.
    """
    shape = _known(feature_shape, "hidden-layer head", "model_hl=", ranks=None)
    size = math.prod(shape)
    limit = math.sqrt(6 / (size + classes))
    weights = np.random.default_rng(seed).uniform(-limit, limit, (size, classes)).astype("float32")
    # zeros: an initialiser without a seed would draw one from Python's global generator
    dense = layers.Dense(classes, trainable=False, kernel_initializer="zeros")
    head = keras.Sequential([layers.Input(shape), layers.Flatten(), dense])
    dense.set_weights([weights, np.zeros(classes, "float32")])
    return head


class _Seeds:
    """Hands out initialisers, each with a seed of its own drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def weights(self) -> dict[str, Any]:
        return {"kernel_initializer": keras.initializers.GlorotUniform(seed=int(self.rng.integers(2**31)))}


def _known(shape: Shape, what: str, instead: str, ranks: tuple[int, ...] | None = (1, 2, 3)) -> tuple[int, ...]:
    if any(size is None for size in shape):
        raise ShapeMismatch(f"no {what} can be built for inputs of shape {describe(shape)}: pass your own as {instead}")
    if ranks is not None and len(shape) not in ranks:
        raise ShapeMismatch(
            f"there is a ready {what} for rows (features,), sequences (steps, channels) and images (height, width, "
            f"channels); got inputs of shape {describe(shape)}: pass your own as {instead}"
        )
    return tuple(int(size) for size in shape if size is not None)


class _Images:
    """Makes the layers for images in one order of their axes.

    Channels come first only where the backend convolves them so, on PyTorch; elsewhere axes are turned at both ends.
    """

    def __init__(self, init: _Seeds, channels_first: bool) -> None:
        self.init, self.given_first = init, channels_first
        self.first = channels_first and current().convolves_channels_first
        self.format = {"data_format": "channels_first" if self.first else "channels_last"}

    def sides(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Height, width and channels of a row's shape."""
        return (shape[1], shape[2], shape[0]) if self.given_first else (shape[0], shape[1], shape[2])

    def turned(self, back: bool = False) -> list[Any]:
        """What puts the axes in the order that the layers take, or back in the rows' own."""
        if self.given_first == self.first:
            return []
        return [layers.Permute((3, 1, 2) if back else (2, 3, 1))]

    def convolution(self, filters: int, size: int, **settings: Any) -> Any:
        return layers.Conv2D(filters, size, padding="same", **self.format, **settings, **self.init.weights())

    def reshaped(self, height: int, width: int, channels: int) -> Any:
        return layers.Reshape((channels, height, width) if self.first else (height, width, channels))

    def pooled(self) -> Any:
        return layers.GlobalAveragePooling2D(**self.format)


def _stride(height: int, width: int) -> int:
    """Look at every pixel of a tiny image, at every other pixel of a larger one."""
    return 1 if min(height, width) < 16 else 2


def _dense_autoencoder(shape: tuple[int, ...], code: int, init: _Seeds) -> list[Any]:
    size = math.prod(shape)
    width = min(512, max(32, 4 * size))
    # Rows of few features are squeezed less than by half, or nothing of them would be left.
    code = min(code, max(2, math.ceil(size * 0.6)))
    return [
        *([layers.Flatten()] if len(shape) > 1 else []),
        layers.Dense(width, activation="relu", **init.weights()),
        layers.Dense(width // 2, activation="relu", **init.weights()),
        layers.Dense(code, **init.weights()),
        layers.Dense(width // 2, activation="relu", **init.weights()),
        layers.Dense(width, activation="relu", **init.weights()),
        layers.Dense(size, **init.weights()),
        *([layers.Reshape(shape)] if len(shape) > 1 else []),
    ]


def _image_autoencoder(shape: tuple[int, ...], code: int, images: _Images) -> list[Any]:
    height, width, channels = images.sides(shape)
    small = max(height, width) <= SMALL_IMAGE
    halvings = max(1, min(3, int(math.log2(max(1, min(height, width) / 4))))) if small else 4
    filters = [32, 64, 256][:halvings] if small else [32, 64, 128, 128]
    # Sizes that do not halve evenly are padded on the way in and cropped on the way out.
    rows, columns = (-(-side // 2**halvings) for side in (height, width))
    extra = (rows * 2**halvings - height, columns * 2**halvings - width)
    margins = tuple((side // 2, side - side // 2) for side in extra)

    body: list[Any] = images.turned()
    body += [layers.ZeroPadding2D(margins, **images.format)] if any(extra) else []
    body += [images.convolution(count, 4, strides=2, activation="relu") for count in filters]
    if small:
        body += [
            layers.Flatten(),
            layers.Dense(code, **images.init.weights()),
            layers.Dense(rows * columns * filters[-1], activation="relu", **images.init.weights()),
            images.reshaped(rows, columns, filters[-1]),
        ]
    else:
        body.append(images.convolution(32, 1))
    for step, count in enumerate(reversed(filters), start=1):
        body += _grow(rows * 2**step, columns * 2**step, count, images)
    body.append(images.convolution(channels, 3))
    body += [layers.Cropping2D(margins, **images.format)] if any(extra) else []
    return body + images.turned(back=True)


def _grow(height: int, width: int, filters: int, images: _Images) -> list[Any]:
    """Double an image's sides by sub-pixel convolution: four times the channels, folded into two by two pixels."""
    folded = (2, 2, filters, height // 2, width // 2) if images.first else (height // 2, width // 2, 2, 2, filters)
    return [
        images.convolution(4 * filters, 2, activation="relu"),
        layers.Reshape(folded),
        layers.Permute((3, 4, 1, 5, 2) if images.first else (1, 3, 2, 4, 5)),
        images.reshaped(height, width, filters),
    ]
