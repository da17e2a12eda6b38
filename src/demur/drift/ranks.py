"""The rank-sum test of Mann & Whitney, within classes: by a normal approximation, or exact where that would be off."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TIED = 1e-3
"""There are many ties from this `sum(t^3 - t) / N^3` on, over groups of t equal scores among N: a tenth is equal."""
FEW, MOST = 8, 100
"""The test is exact for so many rows; with many ties, for so many rows whose score is not the most frequent score."""
LEVELS = 2000
"""Divided by the number of rows drawn: levels that ranks are rounded to. The test of rounded ranks is exact, too."""
NOTHING = 1e-15
"""Smaller chances are left out, and added to the p-value as a whole."""


class Pool(NamedTuple):
    """The scores of a batch and the calibration scores that they are compared with, of one class or of all."""

    batch: Array
    """`(m,)`, at least one."""
    reference: Array
    """`(n,)`, at least one."""


class Ranked:
    """The scores of a pool by rank.

    Attributes:
        midranks: `(k,)`, the rank of each distinct score, from 1; equal scores share the middle of their ranks.
        counts: `(k,)`, how often each score occurs.
        drawn: `(k,)`, how often each score occurs in the batch.
        m: how many scores the batch has.
        n: how many the calibration has.
        u: pairs in which the score of the batch is larger; pairs of equal scores count half.
        ties: `sum(t^3 - t)` over the groups of t equal scores.
    """

    def __init__(self, pool: Pool) -> None:
        self.m, self.n = map(len, pool)
        _, place, self.counts = np.unique(np.concatenate(pool), return_inverse=True, return_counts=True)
        self.midranks = np.cumsum(self.counts) - (self.counts - 1) / 2
        self.drawn = np.bincount(place[: self.m], minlength=len(self.counts))
        self.u = float(self.drawn @ self.midranks - self.m * (self.m + 1) / 2)
        t = self.counts.astype("float64")
        self.ties = float((t**3 - t).sum())

    @property
    def size(self) -> int:
        """How many scores there are in all."""
        return self.m + self.n

    @property
    def variance(self) -> float:
        """Of `u`, over all ways to draw the batch."""
        return self.m * self.n / 12 * ((self.size + 1) - self.ties / (self.size * (self.size - 1)))


def mann_whitney(pools: Sequence[Pool]) -> tuple[float, float]:
    """U, and the chance of a U as large over all ways to draw the batch from the pooled scores of each class.

    With several classes, the test is of the sum of the places of the scores among the calibration scores of their own
    class (van Elteren, 1960, but for one row in the weights). The chance is exact for few rows, and where many scores
    are equal; elsewhere it is the normal approximation.
    """
    from scipy.special import ndtr

    ranked = [Ranked(pool) for pool in pools]
    u = sum(one.u for one in ranked)
    are_tied = any(one.ties > TIED * float(one.size) ** 3 for one in ranked)
    if sum(min(one.m, one.n) for one in ranked) <= FEW or (are_tied and sum(map(_apart, ranked)) <= MOST):
        return u, _exact(ranked)
    largest = max(one.n for one in ranked)
    above = sum((one.u - one.m * one.n / 2) * (largest / one.n) for one in ranked)
    variance = sum(one.variance * (largest / one.n) ** 2 for one in ranked)
    return u, float(ndtr(-(above - 0.5) / np.sqrt(variance))) if variance else 1.0


def _apart(ranked: Ranked) -> int:
    """How many scores of the smaller part may differ from the most frequent score."""
    return _most(ranked.counts, min(ranked.m, ranked.n))


def _most(counts: npt.NDArray[np.int64], k: int) -> int:
    from scipy.stats import hypergeom

    size = int(counts.sum())
    return min(k, int(hypergeom.isf(NOTHING, size, size - int(counts.max()), k)))


def _exact(ranked: Sequence[Ranked]) -> float:
    """The chance of places as large as those found, rounded to levels."""
    levels = max(2, LEVELS // max(1, sum(map(_apart, ranked))))
    if len(ranked) == 1:
        levels = min(levels, 2 * ranked[0].size)
    chances, start, found = np.ones(1), 0, 0
    widest = max(one.size / one.n for one in ranked)
    for one in ranked:
        places = (one.midranks - 0.5) / one.size * (one.size / one.n / widest)
        scores = np.rint(places * levels).astype("int64")
        of_smaller = chances_of_sum(scores, one.counts, min(one.m, one.n))
        total = int(scores @ one.counts)
        # The batch is what the calibration leaves, and the other way round.
        of_batch, begin = (of_smaller, 0) if one.m <= one.n else (of_smaller[::-1], total - len(of_smaller) + 1)
        chances, start, found = np.convolve(chances, of_batch), start + begin, found + int(scores @ one.drawn)
    return float(min(1.0, chances[max(found - start, 0) :].sum() + NOTHING * len(chances)))


def chances_of_sum(scores: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], k: int) -> Array:
    """The distribution of the sum of k scores drawn without replacement: `(1 + k * max(scores),)`, by the sum.

    The number drawn of each group of equal scores is binomial, given that the total is k. The most frequent score comes
    last, in one step, so that only the numbers of the others are carried along.

    Args:
        scores: `(groups,)`, whole numbers from 0 on; groups may have the same score.
        counts: `(groups,)`, how many scores each group has.
        k: how many scores are drawn, at most half of all.
    """
    from scipy.stats import binom

    counts = np.bincount(scores, weights=counts).astype("int64")
    mode, highest, most = int(counts.argmax()), len(counts) - 1, _most(counts, k)
    share = k / int(counts.sum())
    carried = np.zeros((most + 1, most * highest + 1))  # by how many were drawn, and their sum
    carried[0, 0] = 1.0
    for score in np.flatnonzero(counts):
        if score == mode:
            continue
        weights = binom.pmf(np.arange(min(int(counts[score]), most) + 1), counts[score], share)
        before = carried
        carried = weights[0] * before
        for j in np.flatnonzero(weights > NOTHING)[1:]:
            carried[j:, j * score :] += weights[j] * before[: most + 1 - j, : before.shape[1] - j * score]
    found = np.zeros(k * highest + 1)
    for j, row in enumerate(carried):
        kept = row[: len(found) - mode * (k - j)]
        found[mode * (k - j) :][: len(kept)] += binom.pmf(k - j, counts[mode], share) * kept
    return np.asarray(found / binom.pmf(k, counts.sum(), share))
