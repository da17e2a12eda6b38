"""P-values that hold given the calibration scores, and so may be used again and again.

A conformal p-value holds on average over calibration sets: given a set that happens to lie too low it is too small, and
on a long stream this adds up. Here it is replaced by an upper bound of the chance that a normal score exceeds as many
calibration scores. All bounds hold at once, but for a share `delta` of calibration sets (Bates et al., 2023,
arXiv:2104.08279; for martingales Prinster et al., 2026, arXiv:2602.13848).
"""

import functools

import numpy as np
import numpy.typing as npt

from demur.extras import extra

Array = npt.NDArray[np.float64]

RATIO = 1.01
"""Ranks up to 100 are bounded one by one, larger ranks in steps of a hundredth."""
NOTHING = 1e-18
"""Smaller probabilities are dropped, which makes the bounds wider."""
HALVINGS = 14


@functools.lru_cache(maxsize=64)
def conditional_p_values(n: int, delta: float) -> Array:
    """The p-value of a score that `r - 1` of `n` calibration scores reach, for `r` from 1 to `n + 1`: `(n + 1,)`.

    The chance `U_k` that a normal score exceeds the k-th largest calibration score has the distribution Beta(k, n+1-k)
    (or is smaller, with ties). The bounds `b_k` are quantiles of these distributions at one level, chosen so that
    `P(U_k <= b_k for all k) = 1 - delta`. Whatever the distribution of scores, the p-values of independent normal
    scores are then independent, given the calibration scores, and no smaller than uniform numbers.

    Args:
        n: how many calibration scores there are.
        delta: share of calibration sets for which this may fail, above 0 and below 1.

    Raises:
        MissingExtra: SciPy is not installed.
    """
    with extra("scipy", "drift"):
        from scipy.stats import beta
    ranks = _ranks(n)
    low, high = np.log(delta / len(ranks)), np.log(delta)  # the union bound, and a single rank
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        holds = _stays_below(n, ranks, beta.isf(np.exp(middle), ranks, n + 1 - ranks)) >= 1 - delta
        low, high = (middle, high) if holds else (low, middle)
    bounds = beta.isf(np.exp(low), ranks, n + 1 - ranks)
    table = np.ones(n + 1)
    table[:n] = bounds[np.searchsorted(ranks, np.arange(1, n + 1))]  # between two ranks, the bound of the larger rank
    table.setflags(write=False)
    return table


def _ranks(n: int) -> npt.NDArray[np.int64]:
    ranks = [1]
    while ranks[-1] < n:
        ranks.append(min(n, max(ranks[-1] + 1, int(ranks[-1] * RATIO))))
    return np.array(ranks)


def _stays_below(n: int, ranks: npt.NDArray[np.int64], bounds: Array) -> float:
    """The chance, rounded down, that for all ranks k the k-th smallest of n uniform numbers is at most bound k.

    The number of uniform numbers below a bound is a Poisson process of rate n, given that it ends at n. The
    distribution is carried from bound to bound by convolutions, and cut off where it falls behind a rank.
    """
    from scipy.signal import fftconvolve
    from scipy.stats import poisson

    chance, start, before = np.ones(1), 0, 0.0
    for rank, bound in zip(ranks, bounds, strict=True):
        mean = n * (bound - before)
        reach = 10 * np.sqrt(mean) + 12
        least = max(0, int(mean - reach))
        step = poisson.pmf(np.arange(least, int(mean + reach) + 2), mean)
        convolve = fftconvolve if len(step) * len(chance) > 200_000 else np.convolve
        chance, start, before = convolve(chance, step), start + least, bound
        behind = max(0, int(rank) - start)
        chance, start = chance[behind : n + 1 - start], start + behind
        kept = np.flatnonzero(chance > NOTHING)
        if len(kept) == 0:
            return 0.0
        chance, start = chance[kept[0] : kept[-1] + 1], start + int(kept[0])
    missing = n - (start + np.arange(len(chance)))
    return float((chance * poisson.pmf(missing, n * (1 - before))).sum() / poisson.pmf(n, n))
