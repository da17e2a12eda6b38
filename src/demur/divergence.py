"""How far an opinion is from a reference: the formulas, once, on log-probabilities.

Everything here takes and returns backend tensors of log-probabilities `(n, classes)`, in nats. Working on logarithms
keeps each result finite and unsaturated where working on probabilities would round to 0 and 1.
"""

from typing import Any, TypeAlias

from keras import ops

Tensor: TypeAlias = Any

PROBABILITY_FLOOR = 1e-7
"""Probabilities are clipped here before the logarithm where nothing but probabilities can be had."""

LOG_FLOOR = -1e30
"""Stands for log(0). Low enough to mean zero, high enough that temperature and products keep it finite."""


def log_softmax(logits: Tensor) -> Tensor:
    """Turn logits `(n, classes)` into float32 log-probabilities; a logit of minus infinity becomes a finite one."""
    return ops.log_softmax(ops.maximum(ops.cast(logits, "float32"), LOG_FLOOR), axis=-1)


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Take the logarithm of probabilities `(n, classes)`, clipped at 1e-7."""
    return ops.log(ops.clip(ops.cast(probabilities, "float32"), PROBABILITY_FLOOR, 1.0))


def sharpen(log_p: Tensor, temperature: float) -> Tensor:
    """Temper log-probabilities: below 1 sharpens, above 1 flattens. Equals `p^(1/T) / sum p^(1/T)` in log space."""
    return ops.log_softmax(log_p / temperature, axis=-1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence `sum_k p_k (log p_k - log q_k)` of each row, in nats: `(n,)`, never below 0."""
    return ops.maximum(ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1), 0.0)


def cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Cross-entropy `-sum_k p_k log q_k` of each row, in nats: `(n,)`."""
    return -ops.sum(ops.exp(log_p) * log_q, axis=-1)
