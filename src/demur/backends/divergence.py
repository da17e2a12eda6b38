"""How far an opinion is from a reference: the formulas, once, on log-probabilities.

Everything here takes and returns backend tensors of log-probabilities `(n, classes)`, in nats. Working on logarithms
keeps each result finite and unsaturated where working on probabilities would round to 0 and 1.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from keras import ops

from demur.checks import chosen

Tensor: TypeAlias = Any

PROBABILITY_FLOOR = 1e-7
"""Probabilities are clipped here before the logarithm where nothing but probabilities can be had."""

SMALL, LARGE = 0.03, 10.0
"""Log-ratios between which `exp(d) - 1 - d` is computed as it stands."""

SMALLEST = 1e-30
"""Stands for 0 in a denominator."""

LOG_FLOOR = -1e30
"""Stands for log(0). Low enough to mean zero, high enough that temperature and products keep it finite."""


_basic = contextvars.ContextVar("basic", default=False)


@contextlib.contextmanager
def basic_operations() -> Iterator[None]:
    """Have `log1p` and `expm1` made of operations that ONNX has: it has neither of the two. For tracing a graph."""
    token = _basic.set(True)
    try:
        yield
    finally:
        _basic.reset(token)


def log1p(x: Tensor) -> Tensor:
    """`log(1 + x)` of numbers from 0 on, exact where they are small."""
    if not _basic.get():
        return ops.log1p(x)
    total = 1.0 + x
    return ops.log(total) + (x - (total - 1.0)) / total  # what was lost in rounding 1 + x, to first order


def expm1(x: Tensor) -> Tensor:
    """`exp(x) - 1`, exact where x is small."""
    if not _basic.get():
        return ops.expm1(x)
    return ops.tanh(x / 2.0) * (ops.exp(x) + 1.0)


def log_softmax(logits: Tensor) -> Tensor:
    """Turn logits `(n, classes)` into float32 log-probabilities; a logit of minus infinity becomes a finite one.

    The largest probability is `1 / (1 + rest)`, so its logarithm is `-log1p(rest)`: exact where it is close to 0, at
    which the textbook formula rounds to the nearest 6e-8.
    """
    logits = ops.maximum(ops.cast(logits, "float32"), LOG_FLOOR)
    shifted = logits - ops.max(logits, axis=-1, keepdims=True)
    largest = ops.cast(shifted >= 0, "float32")
    ties = ops.sum(largest, axis=-1, keepdims=True) - 1.0
    rest = ops.sum(ops.exp(shifted) - largest, axis=-1, keepdims=True) + ties
    return shifted - log1p(rest)


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Take the logarithm of probabilities `(n, classes)`, clipped at 1e-7, and have them sum to 1 again."""
    return log_softmax(ops.log(ops.clip(ops.cast(probabilities, "float32"), PROBABILITY_FLOOR, 1.0)))


def sharpen(log_p: Tensor, temperature: float) -> Tensor:
    """Temper log-probabilities: below 1 sharpens, above 1 flattens. Equals `p^(1/T) / sum p^(1/T)` in log space.

    Examples:
        >>> log_p = np.log([[0.5, 0.25, 0.25]])
        >>> [round(float(np.exp(float(p))), 3) for p in sharpen(log_p, 0.5)[0]]
        [0.667, 0.167, 0.167]
    """
    return log_p if temperature == 1.0 else log_softmax(log_p / temperature)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence `sum_k p_k (log p_k - log q_k)` of each row, in nats: `(n,)`, never below 0.

    Both distributions sum to 1, so `q_k - p_k` may be added to each term: `sum_k p_k (exp(d_k) - 1 - d_k)` with
    `d = log q - log p`. No term is negative then, so nothing cancels, and divergences keep their relative precision
    down to 1e-37 where the sum as it is defined drowns in rounding errors below 1e-7.

    Examples:
        >>> log_p, log_q = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
        >>> round(float(kl(log_p, log_q)[0]), 4)
        0.5108
    """
    p, d = ops.exp(log_p), log_q - log_p
    # Three ways to the same term, for small, middling and large d; each is fed only what it can bear, because the
    # gradient of a way that is not taken must be finite too.
    small = ops.where(ops.abs(d) < SMALL, d, 0.0)
    series = small * small * (1 / 2 + small * (1 / 6 + small * (1 / 24)))
    middling = ops.minimum(d, LARGE)
    direct = expm1(middling) - middling
    large = ops.exp(log_q) - p * (1.0 + ops.maximum(d, LARGE))
    return ops.sum(ops.where(d > LARGE, large, p * ops.where(ops.abs(d) < SMALL, series, direct)), axis=-1)


def jeffreys(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Jeffreys' divergence, `KL(p || q) + KL(q || p)` of each row, in nats: `(n,)` (Jeffreys, 1946).

    Where K-L is capped by how unsure `q` is, this one grows with how sure `p` is of what `q` does not say.

    Examples:
        >>> log_p, log_q = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
        >>> round(float(jeffreys(log_p, log_q)[0]), 4)
        0.8789
    """
    d = ops.subtract(log_q, log_p)
    # That is `sum_k (q_k - p_k) d_k`, and `q - p` is `p expm1(d)` where they are close; no term is negative.
    p = ops.exp(log_p)
    gap = ops.where(d > LARGE, ops.exp(log_q) - p, p * expm1(ops.minimum(d, LARGE)))
    return ops.sum(gap * d, axis=-1)


def uncertainty(log_p: Tensor) -> Tensor:
    """Minus the logarithm of each row's largest probability: `(n,)`, in nats; 0 where the classifier is certain."""
    return -ops.max(log_p, axis=-1)


def length(a: Tensor, b: Tensor) -> Tensor:
    """`sqrt(a^2 + b^2)` of numbers not below 0, exactly `a` where `b` is 0, and with finite gradients at 0."""
    larger = ops.maximum(a, b)
    ratio = ops.minimum(a, b) / ops.maximum(larger, SMALLEST)
    return larger * ops.sqrt(1.0 + ratio * ratio)


def cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Cross-entropy `-sum_k p_k log q_k` of each row, in nats: `(n,)`."""
    return -ops.sum(ops.exp(log_p) * log_q, axis=-1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"kld": kl, "xent": cross_entropy, "jeffreys": jeffreys}
"""By name: what a reference and an opinion may be compared by."""


_ELSEWHERE = {
    "kl": "kld",
    "kl_divergence": "kld",
    "cross_entropy": "xent",
    "categorical_crossentropy": "xent",
}
"""What other libraries call divergences."""


def divergence_named(name: Any, argument: str) -> str:
    """The name in `DIVERGENCES` that is meant.

    Raises:
        InvalidSetting: no divergence has this name.
    """
    return chosen(name, DIVERGENCES, argument, _ELSEWHERE)
