"""The binomial distribution, for tests on numbers of rows. NumPy only."""

import math

import numpy as np


def binomial_cdf(k: int, n: int, p: float) -> float:
    """The chance of at most k of n, at a chance p of each, above 0 and below 1."""
    i = np.arange(k + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    choices = log_factorials[n] - log_factorials[i] - log_factorials[n - i]
    return float(np.exp(choices + i * math.log(p) + (n - i) * math.log1p(-p)).sum())
