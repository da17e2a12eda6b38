"""A companion that keeps its opinion: trained on rows perturbed against itself, inside the training step.

The adversarial half of TRADES (Zhang et al., 2019, arXiv:1901.08573): the classifier's prediction on the unchanged row
is what the companion shall say of the worst row near it. No attack on the classifier and no label is needed for that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from demur.backends import current
from demur.backends.divergence import Tensor
from demur.checks import is_number
from demur.errors import InvalidSetting
from demur.rows.layout import Field, Layout, describe_layout

SMALLEST = 1e-12
"""Stands for 0 in a denominator."""
ROUNDING = 1e-6
"""How far rows may lie outside of the bounds, in shares of what lies within."""


@dataclass(frozen=True)
class Robust:
    """How far training rows are perturbed, and how much the perturbed ones count.

    Examples:
        >>> robust = Robust({"Linf": 0.1, "L2": 1.5}, bounds=(0, 1))
        >>> guard = ModelDistillation(model=classifier, distilled_model="copy")
        >>> guard.fit(X_train[:32], robust=robust, epochs=1, verbose=False)
        <ModelDistillation on 'digits', inputs (8, 8, 1), threshold not set, agreement ...>

    Args:
        epsilon: the largest change of a number (L-infinity), in the units of the rows; or a radius for each of the
            norms "Linf" and "L2", such as `{"Linf": 0.1, "L2": 1.5}`: the rows of a batch then take turns.
        steps: of projected gradient ascent; the training step takes about `1 + steps` times as long.
        weight: of the perturbed rows' loss; that of the unchanged rows counts 1.
        bounds: smallest and largest value of a number; None for none.

    Raises:
        InvalidSetting: a setting outside what it can mean.
    """

    epsilon: float | Mapping[str, float]
    steps: int = 3
    weight: float = 1.0
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.epsilon, Mapping):
            known = set(self.epsilon) <= set(BALLS)
            if not (self.epsilon and known and all(is_number(r) and r > 0 for r in self.epsilon.values())):
                raise InvalidSetting(
                    f"robust's epsilon by norm is a number above 0 for {' or '.join(map(repr, BALLS))}; "
                    f"got {dict(self.epsilon)!r}"
                )
        elif not (is_number(self.epsilon) and self.epsilon > 0):
            raise InvalidSetting(f"robust's epsilon is a number above 0, or one for each norm; got {self.epsilon!r}")
        if not (is_number(self.weight) and self.weight > 0):
            raise InvalidSetting(f"robust's weight is a number above 0; got {self.weight!r}")
        if not (isinstance(self.steps, int) and not isinstance(self.steps, bool) and self.steps >= 1):
            raise InvalidSetting(f"robust's steps is a whole number of at least 1; got {self.steps!r}")
        pair = self.bounds
        if pair is not None and not (
            isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_number, pair)) and pair[0] < pair[1]
        ):
            raise InvalidSetting(f"robust's bounds are two numbers, the smaller first; got {pair!r}")

    def check(self, rows: Sequence[Any]) -> None:
        """Check that the largest changes are smaller than what rows differ by.

        Args:
            rows: batches of them, `(n, *input_shape)`.

        Raises:
            InvalidSetting: they are not, or the rows lie outside the bounds.
        """
        low = np.min([np.min(batch, axis=0) for batch in rows], axis=0).astype("float64")
        high = np.max([np.max(batch, axis=0) for batch in rows], axis=0).astype("float64")
        if self.bounds is not None:
            least, most = self.bounds
            rounding = ROUNDING * (most - least)
            if low.min() < least - rounding or high.max() > most + rounding:
                raise InvalidSetting(
                    f"robust's bounds are {least:g} and {most:g}, and X holds numbers from {low.min():.4g} to "
                    f"{high.max():.4g}: pass bounds that hold all rows"
                )
            low, high = np.full_like(low, least), np.full_like(high, most)
        apart = {"Linf": float((high - low).max()), "L2": float(np.sqrt(np.square(high - low).sum()))}
        for norm, radius in self.radii.items():
            if radius >= apart[norm] > 0:
                raise InvalidSetting(
                    f"robust's epsilon is {radius:g} in {norm}, and the numbers of X lie between {low.min():.4g} and "
                    f"{high.max():.4g}: within it, any row could become any other. Pass a smaller epsilon, in the "
                    "units of the rows"
                )

    @property
    def radii(self) -> dict[str, float]:
        """How far a row may be moved, by norm."""
        epsilon = self.epsilon
        return dict(epsilon) if isinstance(epsilon, Mapping) else {"Linf": float(epsilon)}

    def perturbed(self, loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """The rows near `x` with the highest loss that a few steps find; no gradient goes back through them.

        Args:
            loss: `x -> (n,)`, differentiable and without side effects.
            x: `(n, *input_shape)`, floating-point numbers.
        """
        # Where companion and classifier agree, as a copy does, the gradient at x itself is 0: any way does to start.
        way = current().input_gradient(loss, x)
        is_flat = ops.all(way == 0, axis=_within(x), keepdims=True)
        now = self._moved(x, ops.where(is_flat, _some_way(x), way), 0.5, x)
        for _ in range(self.steps):
            now = self._moved(now, current().input_gradient(loss, now), 2.0 / self.steps, x)
        return ops.stop_gradient(now)

    def _moved(self, now: Tensor, way: Tensor, share: float, x: Tensor) -> Tensor:
        """A step of a share of the radius, back into the ball around `x` and within the bounds."""
        balls = [
            project(now + share * radius * steepest(way), x, radius)
            for radius, (steepest, project) in ((radius, BALLS[norm]) for norm, radius in self.radii.items())
        ]
        moved = balls[0]
        for i, other in enumerate(balls[1:], start=1):
            moved = ops.where(_places(x) % len(balls) == i, other, moved)
        return moved if self.bounds is None else ops.clip(moved, *self.bounds)


def _within(x: Tensor) -> tuple[int, ...]:
    """The axes of a row."""
    return tuple(range(1, len(x.shape)))


def _length(x: Tensor) -> Tensor:
    return ops.maximum(ops.sqrt(ops.sum(ops.square(x), axis=_within(x), keepdims=True)), SMALLEST)


def _into_cube(changed: Tensor, x: Tensor, radius: float) -> Tensor:
    return ops.minimum(ops.maximum(changed, x - radius), x + radius)


def _into_ball(changed: Tensor, x: Tensor, radius: float) -> Tensor:
    change = changed - x
    return x + change * ops.minimum(1.0, radius / _length(change))


BALLS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, float], Tensor]]] = {
    "Linf": (ops.sign, _into_cube),
    "L2": (lambda way: way / _length(way), _into_ball),
}
"""By norm: the steepest way of length 1, of a gradient; and a row moved back into the ball around another."""


def _places(x: Tensor) -> Tensor:
    """The place of each row in the batch, shaped to go with it."""
    return ops.reshape(ops.arange(ops.shape(x)[0]), (-1, *[1] * (len(x.shape) - 1)))


def _some_way(x: Tensor) -> Tensor:
    """Plus or minus 1 for each number of a row, the same for all rows: it looks random, and draws nothing."""
    flat = ops.reshape(x, (ops.shape(x)[0], -1))
    count = 1 + ops.arange(ops.shape(flat)[1], dtype="float32")
    row = ops.where(ops.sin(count * count) > 0, 1.0, -1.0)
    return ops.reshape(row, (1, *ops.shape(x)[1:]))


def as_robust(robust: Any, layout: Layout) -> Robust | None:
    """The setting `robust=` as a `Robust`: a number is its epsilon; None stays None.

    Raises:
        InvalidSetting: `robust` is anything else, or rows of the layout cannot be perturbed.
    """
    if robust is None:
        return None
    if isinstance(robust, Robust):
        found = robust
    elif is_number(robust):
        found = Robust(float(robust))
    else:
        raise InvalidSetting(f"robust is the largest change of a number, a demur.Robust or None; got {robust!r}")
    if not (isinstance(layout, Field) and str(layout.dtype or "float32").startswith("float")):
        raise InvalidSetting(
            f"robust perturbs rows that are one array of floating-point numbers; these are {describe_layout(layout)}"
        )
    return found
