"""Tests of whether the scores of a batch are larger than normal: one-sided two-sample tests."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from demur import checks
from demur._version import __version__
from demur.calibration.dependence import dependence_of
from demur.calibration.metrics import share_below
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.checks import check_whole, is_number
from demur.drift.evidence import Array
from demur.drift.reference import Given, calibration_of, check_known, flags_invalid, scores_of
from demur.errors import DependentRows, EmptyInput, InvalidSetting
from demur.extras import extra
from demur.guards.base import Guard
from demur.guards.results import Meta, Result

Method = Literal["mann-whitney", "ks", "permutation"]
PERMUTATIONS = 9999
TOGETHER = 10_000_000
"""Numbers that are permuted at once."""
EXACT, LARGEST = 10_000, 700.0
"""The test of Kolmogorov & Smirnov is exact for so many scores, if the number of ways to draw the batch has no larger
logarithm than this."""
TIED = 1e-3
"""There are many ties from this `sum(t^3 - t) / N^3` on, over groups of t equal scores among N: a tenth is equal."""
FEW, MOST = 8, 100
"""The test is exact for so many rows; with many ties, for so many rows whose score is not the most frequent score."""
LEVELS = 2000
"""Divided by the number of rows drawn: levels that ranks are rounded to. The test of rounded ranks is exact, too."""
NOTHING = 1e-15
"""Smaller chances are left out, and added to the p-value as a whole."""


class DriftData(TypedDict):
    """The result of a test of a batch."""

    is_drift: bool
    p_value: float
    statistic: float
    """U of Mann & Whitney, D+ of Kolmogorov & Smirnov, or the difference of the means in nats."""
    n: int
    """Scores that were compared."""
    mean_score: float
    """In nats."""
    reference_mean: float
    """Of the calibration scores, in nats; classes have the shares that they have in the batch."""
    effect_size: float
    """Cliff's delta, from -1 to 1: the chance that a score of the batch is larger than a calibration score, less the
    chance that it is smaller."""
    invalid: NotRequired[int]
    """Rows that could not be judged and were left out, from a detector with `on_invalid="flag"`."""


DriftResult = Result[DriftData]
"""What `demur.drift.test` returns."""


@checks.explained
def test(
    detector: Guard | Calibration,
    X: Any = None,
    *,
    scores: Any = None,
    predicted: Any = None,
    alpha: float = 0.05,
    method: Method = "mann-whitney",
    seed: int = 0,
    batch_size: int = 256,
) -> DriftResult:
    """Test whether the scores of a batch are stochastically larger than the calibration scores.

    Harmful drift raises scores: the p-value is the chance of scores this large or larger if the batch is like all rows
    that `infer_threshold` was given. That holds because these rows were held out from `fit`.

    The chance of a false alarm is for independent rows. It is larger for frames of one film, or rows that come several
    times; a warning says so where such rows come in their order.

    Scores of a detector with `groups="predicted"` are compared with the calibration scores of their own class, so that
    another mixture of classes alone is no drift. Scores that are given without `predicted` are compared with the
    calibration scores of all classes together.

    Examples:
        >>> found = demur.drift.test(detector, X_held_out[:50])["data"]
        >>> found["n"], found["is_drift"]
        (50, False)

    Args:
        detector: a calibrated detector, or the `calibration` of one, with `scores`.
        X: `(n, *input_shape)`, the batch, or a stream or a Dask collection of such rows.
        scores: `(n,)`, scores of the batch in nats, in place of `X`.
        predicted: `(n,)`, the classes that the classifier predicted, with scores of a detector whose predicted classes
            have thresholds of their own.
        alpha: the chance of a false alarm: `is_drift` says whether the p-value is at most this.
        method: "mann-whitney" for the U test (Mann & Whitney, 1947), "ks" for the test of Kolmogorov & Smirnov,
            "permutation" for a permutation test of the mean; each tests against larger scores.
        seed: of the permutations.
        batch_size: rows a forward pass.

    Returns:
        `{"meta": ..., "data": ...}`, see `DriftData`.

    Raises:
        NotCalibrated: `infer_threshold` was not called.
        EmptyInput: there is no row, or none that can be judged.
        InvalidSetting, WrongType, ShapeMismatch, NonFinite, MissingExtra: see `demur.errors`.

    Warns:
        WrongRows: rows in memory are on another scale than the rows of `fit`: a mistake, not drift.
    """
    if not (is_number(alpha) and 0 < alpha < 1):
        raise InvalidSetting(f"alpha is the chance of a false alarm, above 0 and below 1; got {alpha!r}")
    method = checks.chosen(method, TESTS, "method")  # type: ignore[assignment]
    check_whole("seed", seed, 0)
    with extra("scipy", "drift"):
        import scipy.stats  # noqa: F401
    calibration = calibration_of(detector)
    by_class = calibration.by_class and (scores is None or predicted is not None)
    given = scores_of(detector, X, scores, predicted, by_class=by_class, batch_size=batch_size)
    if X is not None and isinstance(detector, Guard):
        detector.check_scale(X)
    if len(given.scores) == 0:
        raise EmptyInput(f"none of the {len(given.valid)} rows can be judged: their scores are not finite")
    pools = pools_of(calibration, given)
    statistic, p_value = TESTS[method](pools, seed)
    shares = np.array([len(pool.batch) for pool in pools]) / len(given.scores)
    dependence = dependence_of(given.scores, given.predicted)
    if dependence is not None:
        checks.warn(
            f"of the batch, {dependence.said}. Test every {dependence.every}th row alone: X[::{dependence.every}], or "
            "so many scores",
            DependentRows,
        )
    data = DriftData(
        is_drift=bool(p_value <= alpha),
        p_value=float(p_value),
        statistic=float(statistic),
        n=len(given.scores),
        mean_score=float(shares @ [pool.batch.mean() for pool in pools]),
        reference_mean=float(shares @ [pool.reference.mean() for pool in pools]),
        effect_size=float(shares @ [cliffs_delta(*pool) for pool in pools]),
    )
    if flags_invalid(detector):
        data["invalid"] = int((~given.valid).sum())
    return DriftResult.of(drift_meta(detector), data, alpha=alpha)


test.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test otherwise


class Pool(NamedTuple):
    """The scores of a batch and the calibration scores that they are compared with, of one class or of all."""

    batch: Array
    """`(m,)`, at least one."""
    reference: Array
    """`(n,)`, at least one."""


def pools_of(calibration: Calibration, given: Given) -> list[Pool]:
    """The scores of a batch beside calibration scores, for each class or, if classes are not known, for all."""
    scores = given.scores.astype("float32").astype("float64")  # as the calibration scores are kept
    if given.predicted is None:
        return [Pool(scores, ScoreDistribution.pooled(calibration.ordinary.values()).kept.astype("float64"))]
    check_known(calibration, given.predicted)
    return [
        Pool(scores[given.predicted == group], distribution.kept.astype("float64"))
        for group, distribution in calibration.ordinary.items()
        if (given.predicted == group).any()
    ]


def cliffs_delta(batch: Array, reference: Array) -> float:
    """`P(a > b) - P(a < b)` for a score a of the batch and b of the reference (Cliff, 1993)."""
    return float(2 * share_below(batch, reference).mean() - 1)


def drift_meta(detector: Guard | Calibration) -> Meta:
    """The `meta` of a result: who says so."""
    if isinstance(detector, Guard):
        return Meta(**{**detector.meta, "detector_type": "drift"})
    return Meta(name=type(detector).__name__, detector_type="drift", data_type=None, online=False, version=__version__)


class Ranked:
    """The scores of a pool by rank: m of the batch, n of the calibration.

    Attributes:
        midranks: `(k,)`, the rank of each distinct score, from 1; equal scores share the middle of their ranks.
        counts: `(k,)`, how often each score occurs; `drawn`: how often in the batch.
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

    Each group, of `counts` equal `scores`, has a whole number from 0 on as score. The number drawn of a group is
    binomial, given that the total is k, at most half of all. The most frequent score comes last, in one step, so that
    only the numbers of the others are carried along.
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


def _kolmogorov_smirnov(pools: Sequence[Pool], seed: int) -> tuple[float, float]:
    """SciPy's test if there is one class: with equal scores, the p-values are rather too large than too small."""
    from scipy.stats import ks_2samp

    if len(pools) > 1:
        return _by_permutation(pools, _largest_gap, seed)
    ((batch, reference),) = pools
    m, n = len(batch), len(reference)
    ways = math.lgamma(m + n + 1) - math.lgamma(m + 1) - math.lgamma(n + 1)
    method = "exact" if ways < LARGEST and max(m, n) <= EXACT else "asymp"  # as SciPy chooses, without its warning
    found = ks_2samp(batch, reference, alternative="less", method=method)  # the batch's distribution is the smaller one
    return found.statistic, found.pvalue


def _largest_gap(weights: Array, values: Array) -> Array:
    """How far the distribution function of the batch falls below that of the calibration scores, at most: `(k,)`."""
    gaps = np.cumsum(weights, axis=-1)
    return np.asarray(gaps[..., np.append(values[1:] > values[:-1], True)].max(axis=-1))


def _by_permutation(
    pools: Sequence[Pool], statistic: Callable[[Array, Array], Array], seed: int
) -> tuple[float, float]:
    """A statistic, and the share of 9,999 permutations within classes with a statistic as large.

    The statistic is a function of weights `(k, n)` and ascending values `(n,)`: a score of the batch weighs -1 / m; the
    calibration scores of a class weigh, together, as much as the scores of the batch in this class.
    """
    m = sum(len(pool.batch) for pool in pools)
    parts = [np.repeat([-1 / m, len(p.batch) / m / len(p.reference)], [len(p.batch), len(p.reference)]) for p in pools]
    values = np.concatenate([scores for pool in pools for scores in pool])
    order = np.argsort(values, kind="stable")
    found = float(statistic(np.concatenate(parts)[order], values[order]))
    rng, reached, left = np.random.default_rng(seed), 1, PERMUTATIONS
    near = 1e-9 * max(abs(found), float(np.abs(values).mean()) * 1e-3)  # sums in another order differ by rounding
    while left:
        some = min(left, max(1, TOGETHER // len(values)))
        drawn = np.concatenate([rng.permuted(np.tile(part, (some, 1)), axis=1) for part in parts], axis=1)
        reached += int((statistic(drawn[:, order], values[order]) >= found - near).sum())
        left -= some
    return found, reached / (PERMUTATIONS + 1)


TESTS: dict[str, Callable[[Sequence[Pool], int], tuple[float, float]]] = {
    "mann-whitney": lambda pools, _: mann_whitney(pools),
    "ks": _kolmogorov_smirnov,
    "permutation": lambda pools, seed: _by_permutation(pools, lambda weights, values: -(weights @ values), seed),
}
"""`pools, seed -> statistic, p-value`."""
