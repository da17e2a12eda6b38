"""How well scores tell bad inputs from clean ones, and harmful corruption from harmless. No Keras."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np
import numpy.typing as npt

from demur.checks import check_whole
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType

__all__ = [
    "Estimate",
    "HarmSplit",
    "ScoreEvaluation",
    "auroc",
    "cohens_d",
    "evaluate_scores",
    "flagged_rate",
    "roc_curve",
    "share",
    "split_by_harm",
]
__dir__ = __all__.copy

Scores = npt.NDArray[np.floating[Any]]
ROUNDING = 1e-12
"""Equal numbers in float64 differ by this share of their size, from rounding alone."""
Z95 = 1.959964
"""The 97.5 % quantile of the normal distribution: of 95 % intervals."""
MOST_AT_ONCE = 2_000_000
"""Scores that are resampled together: 16 MB an array."""


def auroc(score_clean: Scores, score_bad: Scores) -> float:
    """Area under the ROC curve: the chance that a bad input scores above a clean one, ties counting half.

    Examples:
        >>> auroc([0.1, 0.2, 0.3], [0.25, 0.4])
        0.8333333333333334

    Args:
        score_clean: `(n,)`, scores of clean inputs.
        score_bad: `(m,)`, scores of inputs that should be flagged.

    Raises:
        EmptyInput: one of them is empty.
        NonFinite: a score is NaN.
    """
    clean, bad = _checked(score_clean, "score_clean"), _checked(score_bad, "score_bad")
    return float(_figures(*_ranked(clean, bad))[0, 0])


def flagged_rate(score: Scores, threshold: float) -> float:
    """Share of the scores strictly above the threshold: the false-positive rate of clean inputs, the true of bad ones.

    Examples:
        >>> flagged_rate([0.1, 0.2, 0.3, 0.9], threshold=0.25)
        0.5

    Raises:
        EmptyInput: there are no scores.
    """
    if np.size(score) == 0:
        raise EmptyInput("a rate needs at least one score; got none")
    return float(np.mean(np.asarray(score) > threshold))


class HarmSplit(NamedTuple):
    """Which instances a corruption harmed: booleans `(n,)`, both False where the prediction was wrong before."""

    harmful: npt.NDArray[np.bool_]
    """The prediction was right and is now wrong."""
    harmless: npt.NDArray[np.bool_]
    """The prediction was right and still is."""


def split_by_harm(y: npt.NDArray[Any], before: npt.NDArray[Any], after: npt.NDArray[Any]) -> HarmSplit:
    """Split instances by what a corruption did to the classifier's prediction.

    Examples:
        >>> split = split_by_harm(y=[0, 1, 1], before=[0, 1, 0], after=[1, 1, 1])
        >>> split.harmful.tolist(), split.harmless.tolist()
        ([True, False, False], [False, True, False])

    Args:
        y: `(n,)`, true classes.
        before: `(n,)`, the classifier's classes on the clean instances.
        after: `(n,)`, the classifier's classes on the corrupted instances.
    """
    was_right, still_right = (np.asarray(found) == np.asarray(y) for found in (before, after))
    return HarmSplit(harmful=was_right & ~still_right, harmless=was_right & still_right)


class Estimate(NamedTuple):
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class ScoreEvaluation(TypedDict):
    """How well scores tell bad inputs from clean ones; see `evaluate_scores`."""

    auroc: Estimate
    average_precision: Estimate
    tpr_at_1_fpr: Estimate
    tpr_at_5_fpr: Estimate
    tpr_at_10_fpr: Estimate
    fpr_at_95_tpr: Estimate


def evaluate_scores(score_clean: Scores, score_bad: Scores, *, resamples: int = 1000, seed: int = 0) -> ScoreEvaluation:
    """Evaluate scores as a test for bad inputs, with 95 % intervals.

    The true-positive rate at 5 % false positives is the highest true-positive rate of all thresholds that flag at most
    5 % of these clean scores; the false-positive rate at 95 % true positives is the lowest likewise. Average precision
    depends on how many inputs of each kind there are. Intervals are percentiles of the bootstrap (Efron & Tibshirani,
    1993): clean and bad scores are resampled apart, with replacement.

    Examples:
        >>> found = evaluate_scores([0.1, 0.2, 0.3], [0.25, 0.4, 0.5])
        >>> round(found["auroc"].value, 3), found["tpr_at_5_fpr"].value
        (0.889, 0.6666666666666666)

    Args:
        score_clean: `(n,)`, scores of clean inputs; infinity is a score like any other.
        score_bad: `(m,)`, scores of inputs that should be flagged.
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        EmptyInput: one of them is empty.
        NonFinite: a score is NaN.
        InvalidSetting: fewer than one resample.
    """
    clean, bad = _checked(score_clean, "score_clean"), _checked(score_bad, "score_bad")
    if resamples < 1:
        raise InvalidSetting(f"resamples is a whole number of at least 1; got {resamples}")
    values = _figures(*_ranked(clean, bad))[0]
    rng = np.random.default_rng(seed)
    together = max(1, MOST_AT_ONCE // (len(clean) + len(bad)))
    sizes = [min(together, resamples - done) for done in range(0, resamples, together)]
    drawn = np.concatenate(
        [_figures(*_ranked(clean, bad, _drawn(rng, size, len(clean)), _drawn(rng, size, len(bad)))) for size in sizes]
    )
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    found = (Estimate(*map(float, figures)) for figures in zip(values, low, high, strict=True))
    return cast("ScoreEvaluation", dict(zip(ScoreEvaluation.__annotations__, found, strict=True)))


class Lead(NamedTuple):
    """By how much one score is ahead of another, in AUROC on the same rows, with the 95 % interval."""

    value: float
    low: float
    high: float
    p: float
    """The chance of a difference this large, either way, if neither score is better."""


class Pair(NamedTuple):
    """Two scores of the same rows, unchanged and changed by one threat."""

    clean: tuple[Scores, Scores]
    """Of all unchanged rows, `(n,)` each."""
    bad: tuple[Scores, Scores]
    """Of the changed rows that should be flagged, `(m,)` each."""
    rows: npt.NDArray[np.integer[Any]]
    """The numbers of the changed rows among the unchanged ones: `(m,)`."""


def lead(pairs: Sequence[Pair]) -> Lead:
    """By how much the second score is ahead of the first, in AUROC, on average over several threats.

    The test of DeLong, DeLong & Clarke-Pearson (1988): an AUROC is the mean over rows of the share of other rows that
    each is ranked above, and the variance of the AUROC is the variance of these shares. A row occurs unchanged and,
    under several threats, changed: the shares of a row are added up before the variance is taken. For the p-value, the
    variance grows by what the difference adds if neither score is better, as in McNemar's test: few rows prove nothing.

    Examples:
        >>> clean, bad = np.linspace(0, 1, 200), np.linspace(0.9, 2, 100)
        >>> ahead = lead([Pair((-clean, clean), (-bad, bad), np.arange(100))])
        >>> ahead.value > 0.9, ahead.p < 0.001
        (True, True)

    Raises:
        EmptyInput, NonFinite: as `auroc`; there are no pairs.
        ShapeMismatch: the scores of a pair are not of the same rows, or `rows` is not among the unchanged rows.
    """
    if not pairs:
        raise EmptyInput("lead compares two scores under one threat or more; got no pairs")
    n, found = len(pairs[0].clean[0]), list[float]()
    for pair in pairs:
        sizes = {len(pair.clean[0]), len(pair.clean[1])}, {len(pair.bad[0]), len(pair.bad[1]), len(pair.rows)}
        if sizes[0] != {n} or len(sizes[1]) > 1 or not np.isin(pair.rows, np.arange(n)).all():
            raise ShapeMismatch(
                "both scores of a pair must be of the same rows: as many clean ones in each, and as many bad ones in "
                "each as there are rows, each of which is the number of a clean score"
            )
    influence = np.zeros(n)
    for pair in pairs:
        (clean, bad), (other_clean, other_bad) = (_placements(c, b) for c, b in zip(pair.clean, pair.bad, strict=True))
        difference = float(np.mean(other_bad - bad))
        of_row = other_clean - clean - difference
        of_row[pair.rows] += n / len(bad) * (other_bad - bad - difference)
        influence += of_row / len(pairs)
        found.append(difference)
    value, m = float(np.mean(found)), len(np.unique(np.concatenate([pair.rows for pair in pairs])))
    variance = float(np.square(influence).sum()) / (n * max(n - 1, 1))
    reach = Z95 * math.sqrt(variance)
    of_chance = variance + value**2 * (1 / m + 1 / n)
    p = math.erfc(abs(value) / math.sqrt(2 * of_chance)) if value else 1.0
    return Lead(value, value - reach, value + reach, p)


def _placements(score_clean: Scores, score_bad: Scores) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The share of bad scores above each clean one, and of clean scores below each bad one; ties count half."""
    clean, bad = _checked(score_clean, "score_clean"), _checked(score_bad, "score_bad")
    return 1 - share_below(clean, bad), share_below(bad, clean)


def share_below(scores: Scores, others: Scores) -> npt.NDArray[np.float64]:
    """The share of the other scores that lie below each score, an equal one counting half: `(n,)`."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(ordered)))


def mcnemar(better: int, worse: int) -> float:
    """The p-value of a change that turned some rows right and some wrong, if both are as likely (McNemar, 1947).

    Exact and two-sided, by the binomial distribution of the rows that changed.

    Examples:
        >>> round(mcnemar(9, 1), 6), mcnemar(0, 0)
        (0.021484, 1.0)

    Raises:
        InvalidSetting: `better` or `worse` is not a whole number, or is below 0.
    """
    check_whole("better", better, 0)
    check_whole("worse", worse, 0)
    return min(1.0, 2 * binomial_cdf(min(better, worse), better + worse, 0.5))


def binomial_cdf(k: int, n: int, p: float) -> float:
    """The chance of at most k of n, at a chance p of each, above 0 and below 1."""
    i = np.arange(k + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    choices = log_factorials[n] - log_factorials[i] - log_factorials[n - i]
    return float(np.exp(choices + i * math.log(p) + (n - i) * math.log1p(-p)).sum())


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several p-values are small enough that the chance of any false one is at most `level` (Holm, 1979).

    This holds however the tests depend on each other.

    Examples:
        >>> holm([0.001, 0.04, 0.02])
        [True, True, True]
        >>> holm([0.001, 0.04, 0.03])
        [True, False, False]

    Raises:
        InvalidSetting, WrongType: the p-values are not numbers from 0 to 1.
    """
    found_p = numbers(p_values, "p_values")
    if not ((found_p >= 0) & (found_p <= 1)).all():
        raise InvalidSetting(f"p_values are numbers from 0 to 1; got {p_values!r}")
    order = np.argsort(found_p, kind="stable")
    too_large = found_p[order] > level / np.arange(len(order), 0, -1)
    found = np.empty(len(order), bool)
    found[order] = ~np.logical_or.accumulate(too_large)
    return found.tolist()


def share(values: npt.ArrayLike) -> Estimate:
    """The share of True among values, with the 95 % interval by Wilson's score (Wilson, 1927).

    Examples:
        >>> share([True, True, True, False])
        Estimate(value=0.75, low=0.30..., high=0.95...)

    Raises:
        EmptyInput: there are no values.
    """
    found = np.asarray(values, bool).reshape(-1)
    n = len(found)
    if n == 0:
        raise EmptyInput("a share needs at least one value; got none")
    p, z = float(found.mean()), Z95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return Estimate(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def cohens_d(one: Scores, other: Scores) -> float | None:
    """By how many pooled standard deviations the mean of one sample exceeds the mean of the other (Cohen, 1988).

    None where this is not defined: a sample has fewer than two numbers, or all numbers are equal.

    Examples:
        >>> cohens_d([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
        1.0
    """
    a, b = np.asarray(one, "float64"), np.asarray(other, "float64")
    if len(a) < 2 or len(b) < 2:
        return None
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    spread, size = float(np.sqrt(pooled)), max(np.abs(a).max(), np.abs(b).max())
    return float((a.mean() - b.mean()) / spread) if spread > ROUNDING * size else None


def roc_curve(score_clean: Scores, score_bad: Scores) -> tuple[Scores, Scores]:
    """The ROC curve: false-positive and true-positive rates, each ascending from 0 to 1.

    Examples:
        >>> false, true = roc_curve([0.1, 0.2], [0.15, 0.3])
        >>> false.tolist(), true.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])

    Raises:
        EmptyInput, NonFinite: as `auroc`.
    """
    false, true = _ranked(_checked(score_clean, "score_clean"), _checked(score_bad, "score_bad"))
    return false[0] / false[0, -1], true[0] / true[0, -1]


Counts = npt.NDArray[np.int64]


def _drawn(rng: np.random.Generator, resamples: int, n: int) -> Counts:
    """How often each of n scores is drawn in each resample: `(resamples, n)`."""
    chosen = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(chosen.ravel(), minlength=resamples * n).reshape(resamples, n).astype("int64")


def _ranked(
    clean: Scores, bad: Scores, times_clean: Counts | None = None, times_bad: Counts | None = None
) -> tuple[Counts, Counts]:
    """False and true positives at each threshold, from above all scores to below: `(resamples, thresholds)`.

    A score counts as often as `times` say, `(resamples, n)` and `(resamples, m)`; once by default.
    """
    thresholds = np.unique(np.concatenate([-clean, -bad]))

    def positives(scores: Scores, times: Counts | None) -> Counts:
        order = np.argsort(-scores, kind="stable")
        counted = np.ones((1, len(scores)), "int64") if times is None else times
        up_to = np.zeros((len(counted), len(scores) + 1), "int64")
        np.cumsum(counted[:, order], axis=1, out=up_to[:, 1:])
        reached = np.searchsorted(-scores[order], thresholds, side="right")
        return up_to.take(np.append(0, reached), axis=1)

    return positives(clean, times_clean), positives(bad, times_bad)


def _figures(false: Counts, true: Counts) -> npt.NDArray[np.float64]:
    """The figures of each resample, in the order of ScoreEvaluation: `(resamples, figures)`."""
    fpr, tpr = false / false[:, -1:], true / true[:, -1:]
    area = np.einsum("ij,ij->i", np.diff(fpr, axis=1), tpr[:, 1:] + tpr[:, :-1]) / 2
    precision = true[:, 1:] / np.maximum(false[:, 1:] + true[:, 1:], 1)
    average_precision = np.einsum("ij,ij->i", np.diff(tpr, axis=1), precision)
    each = np.arange(len(fpr))
    # Both rates rise from threshold to threshold.
    reached = [tpr[each, (fpr <= rate).sum(axis=1) - 1] for rate in (0.01, 0.05, 0.10)]
    return np.stack([area, average_precision, *reached, fpr[each, (tpr < 0.95).sum(axis=1)]], axis=1)


def numbers(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Scores as an array of float64 of the same shape; WrongType if they are not numbers."""
    try:
        return np.asarray(values, "float64")
    except (TypeError, ValueError):
        raise WrongType(f"{name} holds scores, numbers; got {type(values).__name__}") from None


def _checked(score: Scores, name: str) -> Scores:
    values = numbers(score, name).reshape(-1)
    if len(values) == 0:
        raise EmptyInput(f"scores of both kinds are needed; {name} is empty")
    if np.isnan(values).any():
        raise NonFinite(f"{name} holds NaN")
    return np.asarray(np.nan_to_num(values))  # infinity, which curves refuse, becomes the largest number
