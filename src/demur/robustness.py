"""A companion that keeps its opinion: trained on rows perturbed against itself, inside the training step.

The adversarial half of TRADES (Zhang et al., 2019, arXiv:1901.08573): the classifier's prediction on the unchanged row
is what the companion shall say of the worst row near it. No attack on the classifier and no label is needed for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from demur.data import is_number
from demur.divergence import Tensor
from demur.errors import InvalidSetting


@dataclass(frozen=True)
class Robust:
    """How far training rows are perturbed, and how much the perturbed ones count.

    Args:
        epsilon: the largest change of a number (L-infinity), in the units of the rows.
        steps: of projected gradient ascent; the training step takes about `1 + steps` times as long.
        weight: of the perturbed rows' loss; that of the unchanged rows counts 1.
        bounds: smallest and largest value of a number; None for none.

    Raises:
        InvalidSetting: a setting outside what it can mean.
    """

    epsilon: float
    steps: int = 3
    weight: float = 1.0
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("epsilon", "weight"):
            value = getattr(self, name)
            if not (is_number(value) and value > 0):
                raise InvalidSetting(f"robust's {name} is a number above 0; got {value!r}")
        if not (isinstance(self.steps, int) and not isinstance(self.steps, bool) and self.steps >= 1):
            raise InvalidSetting(f"robust's steps is a whole number of at least 1; got {self.steps!r}")
        pair = self.bounds
        if pair is not None and not (
            isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_number, pair)) and pair[0] < pair[1]
        ):
            raise InvalidSetting(f"robust's bounds are two numbers, the smaller first; got {pair!r}")

    def perturbed(self, loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """The rows near `x` with the highest loss that a few steps find; no gradient goes back through them.

        Args:
            loss: `x -> (n,)`, differentiable and without side effects.
            x: `(n, *input_shape)`, floating-point numbers.
        """
        # A fixed direction to start from: at x itself, where companion and classifier agree, the gradient is flat.
        start = 0.5 * self.epsilon * ops.sign(input_gradient(loss, x))
        now = self._near(x + start, x)
        size = 2.0 * self.epsilon / self.steps
        for _ in range(self.steps):
            now = self._near(now + size * ops.sign(input_gradient(loss, now)), x)
        return ops.stop_gradient(now)

    def _near(self, changed: Tensor, x: Tensor) -> Tensor:
        changed = ops.minimum(ops.maximum(changed, x - self.epsilon), x + self.epsilon)
        return changed if self.bounds is None else ops.clip(changed, *self.bounds)


def as_robust(robust: Any) -> Robust | None:
    """A `Robust` as it is, a number as its epsilon, None as none.

    Raises:
        InvalidSetting: it is none of these.
    """
    if robust is None or isinstance(robust, Robust):
        return robust
    if not is_number(robust):
        raise InvalidSetting(f"robust is the largest change of a number, a demur.Robust or None; got {robust!r}")
    return Robust(float(robust))


def input_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a function's sum by its argument, inside whatever the backend is compiling."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x))
        return tape.gradient(total, x)
    if backend == "jax":
        import jax

        return jax.grad(lambda x: function(x).sum())(x)
    import torch

    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        return torch.autograd.grad(function(x).sum(), x)[0]
