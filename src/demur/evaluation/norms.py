"""Balls around rows, and the steepest way up inside them. NumPy only; rows come first, of any shape."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Norm = Literal["Linf", "L2", "L1"]
Array = npt.NDArray[Any]

SPARSE = 0.99
"""L1 steps change the share of numbers above this quantile of the gradient (Tramèr & Boneh, 2019)."""


def size(change: Array, norm: Norm) -> Array:
    """How large each row's change is: `(n,)`, in the units of the rows."""
    rows = change.reshape(len(change), -1)
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
    return np.asarray(np.linalg.norm(rows, order, axis=1))


def steepest(gradient: Array, norm: Norm) -> Array:
    """The change of size 1 that climbs fastest along each row's gradient; 0 where that is 0.

    For L1, the numbers whose gradient is in the top percent share the step (Tramèr & Boneh, 2019, arXiv:1904.13000).
    """
    if norm == "Linf":
        return np.sign(gradient)
    rows = gradient.reshape(len(gradient), -1)
    if norm == "L1":
        limit = np.quantile(np.abs(rows), SPARSE, axis=1, keepdims=True)
        rows = np.where((np.abs(rows) >= limit) & (rows != 0), np.sign(rows), 0.0)
    length = np.linalg.norm(rows, 2 if norm == "L2" else 1, axis=1, keepdims=True)
    return np.asarray((rows / np.maximum(length, 1e-30)).reshape(gradient.shape), gradient.dtype)


def projected(change: Array, norm: Norm, radius: float) -> Array:
    """The nearest change that is no larger than `radius`.

    Onto the L1 ball by the sorting of Duchi et al., 2008.
    """
    if norm == "Linf":
        return np.clip(change, -radius, radius)
    rows = change.reshape(len(change), -1)
    if norm == "L2":
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows * np.minimum(1.0, radius / np.maximum(length, 1e-30))
        return np.asarray(rows.reshape(change.shape), change.dtype)
    magnitudes = np.abs(rows)
    ordered = -np.sort(-magnitudes, axis=1)
    excess = (ordered.cumsum(axis=1) - radius) / np.arange(1, rows.shape[1] + 1)
    last = (ordered > excess).cumsum(axis=1).argmax(axis=1)
    cut = np.maximum(np.take_along_axis(excess, last[:, None], axis=1), 0.0)
    inside = magnitudes.sum(axis=1, keepdims=True) <= radius
    shrunk = np.where(inside, rows, np.sign(rows) * np.maximum(magnitudes - cut, 0.0))
    return np.asarray(shrunk.reshape(change.shape), change.dtype)


def random_change(shape: tuple[int, ...], norm: Norm, radius: float, rng: np.random.Generator) -> Array:
    """A change to start from, inside the ball: uniform in a box, or in a direction of its own."""
    drawn = rng.uniform(-1, 1, shape) if norm == "Linf" else rng.normal(size=shape)
    if norm == "Linf":
        return np.asarray(radius * drawn, "float32")
    length = size(drawn, norm).reshape(-1, *[1] * (len(shape) - 1))
    return np.asarray(drawn / length * radius * rng.random(length.shape), "float32")
