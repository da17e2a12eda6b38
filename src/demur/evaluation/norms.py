"""Norms: how far rows may be changed, and steps inside a ball. NumPy only; rows come first, of any shape."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from demur.checks import chosen, is_number
from demur.errors import InvalidSetting, WrongType
from demur.rows.layout import Shape

Norm = Literal["Linf", "L2", "L1"]
Array = npt.NDArray[Any]

NORMS: tuple[Norm, ...] = ("Linf", "L2", "L1")
ROUNDING = 1e-6
SPARSE = 0.99
"""L1 steps change the numbers above this quantile of the gradient (Tramèr & Boneh, 2019)."""


def size(change: Array, norm: Norm) -> Array:
    """How large each row's change is: `(n,)`, in the units of the rows."""
    rows = change.reshape(len(change), -1)
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
    return np.asarray(np.linalg.norm(rows, order, axis=1))


def steepest(gradient: Array, norm: Norm) -> Array:
    """The change of size 1 that climbs fastest along the gradient of each row; 0 where the gradient is 0.

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
    """The orthogonal projection onto the ball; onto the L1 ball by sorting (Duchi et al., 2008)."""
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
    """A change to start from, inside the ball: uniform in a box, or of random direction and length."""
    drawn = rng.uniform(-1, 1, shape) if norm == "Linf" else rng.normal(size=shape)
    if norm == "Linf":
        return np.asarray(radius * drawn, "float32")
    length = size(drawn, norm).reshape(-1, *[1] * (len(shape) - 1))
    return np.asarray(drawn / length * radius * rng.random(length.shape), "float32")


COLOUR: dict[Norm, float] = {"Linf": 8 / 255, "L2": 0.5, "L1": 12.0}
"""For 3x32x32 in [0, 1], as RobustBench has it (Croce et al., 2021, arXiv:2010.09670)."""
GREY: dict[Norm, float] = {"Linf": 0.1, "L2": 1.5, "L1": 10.0}
"""For 28x28 in [0, 1]."""
TABLE: dict[Norm, float] = {"Linf": 0.2, "L2": 0.5, "L1": 1.0}
"""For standardised columns: in standard deviations."""


def default_epsilons(shape: tuple[int, ...], bounds: tuple[float, float]) -> dict[Norm, float]:
    """The largest change of a row by norm, for rows of a shape (three axes: an image) and bounds of numbers.

    For images of another size, the Euclidean budget grows with the root of the number of pixels and the L1 budget with
    the number of pixels, so that a pixel may change as much as in a small image.
    """
    if len(shape) != 3:
        return dict(TABLE)
    is_colour = 3 in (shape[0], shape[-1])
    base, pixels = (COLOUR, 3 * 32 * 32) if is_colour else (GREY, 28 * 28)
    share, span = math.prod(shape) / pixels, bounds[1] - bounds[0]
    return {
        "Linf": base["Linf"] * span,
        "L2": base["L2"] * math.sqrt(share) * span,
        "L1": base["L1"] * share * span,
    }


def doubt_about(X: Any, epsilons: Mapping[Norm, float]) -> str | None:
    """A note where the default budgets, which are for standardised columns, do not suit a table `(n, columns)`."""
    spread = np.asarray(X, "float64").std(axis=0)
    usual = float(np.median(spread[spread > 0])) if (spread > 0).any() else 1.0
    if 1 / 3 <= usual <= 3:
        return None
    return (
        f"The budgets of the attacks are for standardised columns, and the columns of X have a standard deviation of "
        f"{usual:.3g} (the median): standardise them, or pass epsilons={{'Linf': {epsilons['Linf'] * usual:.2g}, "
        f"'L2': {epsilons['L2'] * usual:.2g}, 'L1': {epsilons['L1'] * usual:.2g}}}."
    )


def epsilons_of(
    given: Mapping[str, float] | None, shape: tuple[int, ...], bounds: tuple[float, float]
) -> dict[Norm, float]:
    """The default budgets, replaced by the budgets that were given."""
    if given is not None and not isinstance(given, Mapping):
        raise WrongType(f"epsilons are sizes by norm, such as {{'Linf': 0.03}}; got {given!r}")
    found = default_epsilons(shape, bounds)
    for name, epsilon in (given or {}).items():
        norm: Any = chosen(name, NORMS, "epsilons is keyed by norm, which")
        if not (is_number(epsilon) and epsilon > 0):
            raise InvalidSetting(f"epsilons[{norm!r}] is a number above 0; got {epsilon!r}")
        check_size(f"epsilons[{norm!r}]", norm, epsilon, shape, bounds)
        found[norm] = float(epsilon)
    return found


def check_size(name: str, norm: Norm, epsilon: float, shape: Shape, bounds: tuple[float, float]) -> None:
    """Raise InvalidSetting if a budget is larger than the distance of any two rows of a shape within the bounds."""
    numbers = math.prod(size or math.inf for size in shape) if shape else math.inf
    apart = (bounds[1] - bounds[0]) * {"Linf": 1.0, "L2": math.sqrt(numbers), "L1": numbers}[norm]
    if epsilon > apart * (1 + ROUNDING):
        raise InvalidSetting(
            f"{name} is {epsilon:g}, and no two rows whose numbers lie between {bounds[0]:.4g} and {bounds[1]:.4g} are "
            f"further than {apart:.4g} apart in {norm}: pass a smaller one, in the units of X"
        )


def bounds_of(given: Any, X: Any, shape: tuple[int, ...]) -> tuple[float, float]:
    """The smallest and largest value of a number: as given, 0 and 1 for images within them, or as found in the rows."""
    low, high = float(np.min(X)), float(np.max(X))
    if given is None:
        return (0.0, 1.0) if len(shape) == 3 and low >= 0 and high <= 1 else (low, high)
    pair = tuple(given) if isinstance(given, list | tuple | np.ndarray) else ()
    if len(pair) != 2 or not all(map(is_number, pair)) or not pair[0] < pair[1]:
        raise InvalidSetting(f"bounds are two numbers, the smaller first; got {given!r}")
    rounding = ROUNDING * (pair[1] - pair[0])
    if low < pair[0] - rounding or high > pair[1] + rounding:
        raise InvalidSetting(f"X holds numbers from {low:.4g} to {high:.4g}, outside the bounds {pair[0]} to {pair[1]}")
    return float(pair[0]), float(pair[1])
