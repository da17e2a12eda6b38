"""From the scores of normal instances to thresholds whose false-positive rate holds, and to p-values. NumPy only."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.checks import is_number
from demur.errors import EmptyInput, InvalidSetting, NonFinite, TooFewInstances
from demur.rows.arrays import as_array

__all__ = [
    "Calibration",
    "ScoreDistribution",
    "Threshold",
    "benjamini_hochberg",
    "conformal_threshold",
    "instances_needed",
    "percentile_threshold",
]
__dir__ = __all__.copy

Scores = npt.NDArray[np.floating[Any]]

Threshold = float | npt.NDArray[np.float64]
"""One threshold for all, or `(classes,)`, one for each class that the classifier predicts. In nats."""

SKETCH_SIZE = 10_000
"""Most scores that a calibration keeps."""
WHOLE = "whole_"
"""Begins, in files, the names of the scores of all calibration rows."""


def percentile_threshold(scores: Scores, threshold_perc: float, margin: float = 0.0) -> float:
    """The `threshold_perc` percentile (linear interpolation) of the scores, plus a margin. Promises no rate.

    Examples:
        >>> percentile_threshold([0.1, 0.2, 0.3, 0.4, 0.5], threshold_perc=75)
        0.4

    Args:
        scores: `(n,)`, the scores of normal instances, in nats.
        threshold_perc: percentage, from 0 to 100, of `scores` that shall lie at or below the threshold.
        margin: added to the percentile, in nats; a positive one flags less.

    Raises:
        EmptyInput: there are no scores.
        NonFinite: a score is NaN or infinite.
        InvalidSetting: `threshold_perc` is not between 1 and 100, nor 0, or `margin` is not finite.
    """
    check_percentile(threshold_perc, margin)
    check_scores(scores)
    return float(np.percentile(scores, threshold_perc) + margin)


def conformal_threshold(scores: Scores, fpr: float, margin: float = 0.0) -> float:
    """The `ceil((n + 1)(1 - fpr))`-th smallest score, plus a margin: flags at most `fpr` of exchangeable instances.

    Split-conformal prediction (Vovk, Gammerman & Shafer, 2005; Papadopoulos et al., 2002): if the calibration scores
    and a new score are exchangeable, the new score lies strictly above the threshold with a probability of at most
    `fpr`, over the draw of both, for any distribution of scores, ties included.

    Examples:
        >>> conformal_threshold(np.arange(1.0, 20.0), fpr=0.1)
        18.0

    Args:
        scores: `(n,)`, the scores of normal instances that the detector was not trained on, in nats.
        fpr: false-positive rate, above 0 and below 1.
        margin: added, in nats; a positive margin flags less and keeps the promise, a negative margin breaks it.

    Raises:
        InvalidSetting: `fpr` is not between 0 and 1, or `margin` is not finite.
        TooFewInstances: no threshold can promise so low a rate from so few scores.
        EmptyInput, NonFinite: see `percentile_threshold`.
    """
    check_margin(margin)
    check_scores(scores)
    place = conformal_rank(len(scores), fpr) - 1
    return float(np.partition(scores, place)[place]) + margin


def conformal_rank(n: int, fpr: float) -> int:
    """The rank, from 1, of the threshold among n scores; raises as `conformal_threshold` does."""
    # (n + 1) fpr in rational arithmetic: 20 * (1 - 0.05) is 19 here, and not the next float above it.
    allowed = math.floor((n + 1) * rational(fpr))
    if allowed < 1:
        raise TooFewInstances(
            f"a false-positive rate of {fpr:g} needs at least {instances_needed(fpr)} instances; got {n}: "
            "pass more, or ask for a higher rate"
        )
    return n + 1 - allowed


def instances_needed(fpr: float) -> int:
    """The fewest calibration scores that can promise a false-positive rate: the least n with `(n + 1) fpr >= 1`.

    Examples:
        >>> instances_needed(0.05), instances_needed(0.01)
        (19, 99)
    """
    return math.ceil(1 / rational(fpr)) - 1


def rational(fpr: float) -> Fraction:
    """The rate as the fraction that is meant by the float, such as 1/20; InvalidSetting if it is not from 0 to 1."""
    if not (is_number(fpr) and 1e-9 <= fpr < 1):
        raise InvalidSetting(f"fpr is a false-positive rate above 0 and below 1, 0.05 for 5 %; got {fpr!r}")
    return Fraction(float(fpr)).limit_denominator(10**12)


@dataclass(frozen=True)
class ScoreDistribution:
    """The calibration scores, sorted: what p-values are read off.

    Of more than 10,000 scores, a sketch is kept: the scores of the ranks `ceil(j n / 10,000)`. P-values from the sketch
    are never below the exact p-values, and above them by less than 1/10,000.

    Examples:
        >>> ScoreDistribution.of([0.1, 0.2, 0.3, 0.4]).p_values([0.05, 0.35, 9.0]).tolist()
        [1.0, 0.4, 0.2]

    Attributes:
        kept: `(m,)`, ascending, float32.
        n: how many scores they stand for.
    """

    kept: npt.NDArray[np.float32] = field(repr=False)
    n: int

    @classmethod
    def of(cls, scores: Scores) -> "ScoreDistribution":
        """Sort scores and keep at most 10,000 of them."""
        check_scores(scores)
        ordered = np.sort(np.asarray(scores, "float32"))
        return cls(ordered[kept_ranks(len(ordered), SKETCH_SIZE) - 1], len(ordered))

    @classmethod
    def pooled(cls, parts: Iterable["ScoreDistribution"]) -> "ScoreDistribution":
        """The distribution of the scores of several groups together, each kept score with the number it stands for.

        Examples:
            >>> parts = [ScoreDistribution.of([0.1, 0.3]), ScoreDistribution.of([0.2])]
            >>> pooled = ScoreDistribution.pooled(parts)
            >>> pooled.kept.tolist() == sorted(np.float32([0.1, 0.2, 0.3]).tolist()), pooled.n
            (True, 3)
        """
        scores, counts = weighted(parts)
        order = np.argsort(scores, kind="stable")
        upto = np.cumsum(counts[order])
        n = int(upto[-1])
        return cls(scores[order][np.searchsorted(upto, kept_ranks(n, SKETCH_SIZE))], n)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many scores each kept score stands for: `(m,)`, `n` in all."""
        return np.diff(self._below_by_place())

    def p_values(self, scores: Scores) -> npt.NDArray[np.float64]:
        """`(1 + #{calibration scores >= s}) / (n + 1)` for each score s: `(k,)`, at most 1 and at least `1 / (n + 1)`.

        The p-value of an instance exchangeable with the calibration instances is at most `a` with a probability of at
        most `a`. A score of plus infinity gets the smallest p-value.
        """
        return np.asarray((1 + self.n - self.below(scores)) / (self.n + 1), "float64")

    def below(self, scores: Scores, *, ties: bool = False) -> npt.NDArray[np.int64]:
        """How many calibration scores are known to be smaller than each score, or with `ties` not larger: `(k,)`."""
        found = np.searchsorted(self.kept, np.asarray(scores, "float32"), side="right" if ties else "left")
        return self._below_by_place()[found]

    def p_values_by_place(self) -> npt.NDArray[np.float64]:
        """The p-values of scores that are larger than 0, 1, ... m of the kept scores: `(m + 1,)`."""
        return np.asarray((1 + self.n - self._below_by_place()) / (self.n + 1), "float64")

    def _below_by_place(self) -> npt.NDArray[np.int64]:
        return np.concatenate([[0], kept_ranks(self.n, len(self.kept))])


def weighted(parts: Iterable[ScoreDistribution]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The kept scores of several groups, and how many scores each of them stands for: `(m,)` each."""
    groups = list(parts)
    return np.concatenate([part.kept for part in groups]), np.concatenate([part.counts for part in groups])


def kept_ranks(n: int, size: int) -> npt.NDArray[np.int64]:
    """The ranks, from 1, of the at most `size` scores that are kept of n."""
    m = min(n, size)
    return -(-np.arange(1, m + 1, dtype="int64") * n // m)


@dataclass(frozen=True)
class Calibration:
    """The scores of normal rows that a detector remembers, of all classes or of each predicted class.

    Examples:
        >>> distribution = ScoreDistribution.of([0.1, 0.2, 0.3, 0.4])
        >>> calibration = Calibration({None: distribution}, threshold=0.4, fpr=0.2)
        >>> calibration.p_values(np.array([0.35, 9.0]), predicted=np.array([0, 1])).tolist()
        [0.4, 0.2]

    Attributes:
        distributions: by predicted class, or under None for all classes.
        threshold: what was inferred from the scores.
        fpr: the false-positive rate asked for; None where the threshold is a percentile, which promises no rate.
        percentage: the percentile; None where `fpr` was asked for, and in calibrations from before this was saved.
        margin: added to the threshold, in nats.
        whole: the scores of all calibration rows, by predicted class or under None, where `distributions` has only the
            rows that the classifier gets right; None where `distributions` has all rows.
    """

    distributions: Mapping[int | None, ScoreDistribution]
    threshold: Threshold
    fpr: float | None = None
    percentage: float | None = None
    margin: float = 0.0
    whole: Mapping[int | None, ScoreDistribution] | None = None

    @property
    def ordinary(self) -> Mapping[int | None, ScoreDistribution]:
        """The scores of all calibration rows: what drift tests and monitors compare with."""
        return self.distributions if self.whole is None else self.whole

    @property
    def by_class(self) -> bool:
        """Whether each predicted class has a distribution of its own."""
        return None not in self.distributions

    def p_values(self, scores: Scores, predicted: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The p-value of each score, `(k,)`, given the classes that the classifier predicts, `(k,)`."""
        if not self.by_class:
            return self.distributions[None].p_values(scores)
        found = np.empty(len(scores), "float64")
        for group, distribution in self.distributions.items():
            found[predicted == group] = distribution.p_values(scores[predicted == group])
        return found

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for saving."""
        arrays: dict[str, npt.NDArray[Any]] = {"threshold": np.asarray(self.threshold)}
        settings = {"fpr": self.fpr, "percentage": self.percentage, "margin": self.margin or None}
        arrays |= {name: np.asarray(value) for name, value in settings.items() if value is not None}
        for prefix, distributions in (("", self.distributions), (WHOLE, self.whole or {})):
            for group, distribution in distributions.items():
                name = prefix + ("all" if group is None else f"class_{group}")
                arrays[f"{name}_scores"] = distribution.kept
                arrays[f"{name}_n"] = np.asarray(distribution.n)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "Calibration":
        """The calibration that `as_arrays` described."""
        found: dict[bool, dict[int | None, ScoreDistribution]] = {False: {}, True: {}}
        for name in (name.removesuffix("_scores") for name in arrays if name.endswith("_scores")):
            group = name.removeprefix(WHOLE)
            found[name.startswith(WHOLE)][None if group == "all" else int(group.removeprefix("class_"))] = (
                ScoreDistribution(arrays[f"{name}_scores"], int(arrays[f"{name}_n"]))
            )
        threshold = arrays["threshold"] if arrays["threshold"].ndim else float(arrays["threshold"])
        settings = {name: float(arrays[name]) for name in ("fpr", "percentage", "margin") if name in arrays}
        return cls(found[False], threshold, **settings, whole=found[True] or None)


def benjamini_hochberg(p_values: npt.NDArray[np.floating[Any]], level: float) -> npt.NDArray[np.bool_]:
    """Which of a batch's p-values are rejected so that the false-discovery rate is at most `level`: bool `(n,)`.

    The step-up procedure of Benjamini & Hochberg, 1995: the k smallest, for the largest k with `p_(k) <= k level / n`.
    It is valid for conformal p-values against one calibration set, which depend on each other (Bates et al., 2023,
    arXiv:2104.08279).

    Examples:
        >>> benjamini_hochberg(np.array([0.001, 0.02, 0.04, 0.8]), level=0.05).tolist()
        [True, True, False, False]

    Raises:
        InvalidSetting: `level` is not between 0 and 1.
    """
    check_level(level)
    ordered = np.sort(p_values)
    passing = np.flatnonzero(ordered <= level * np.arange(1, len(ordered) + 1) / len(ordered))
    return np.asarray(p_values <= (ordered[passing[-1]] if len(passing) else -1.0))


def check_level(level: float) -> None:
    """Raise InvalidSetting unless the level is a rate between 0 and 1."""
    if not (is_number(level) and 0 < level < 1):
        raise InvalidSetting(f"level is a false-discovery rate above 0 and below 1; got {level!r}")


def check_scores(scores: Scores) -> None:
    """Raise EmptyInput or NonFinite unless there are scores and all of them are finite."""
    if np.size(scores) == 0:
        raise EmptyInput("a calibration needs at least one score; got none")
    if not np.isfinite(scores).all():
        raise NonFinite("a calibration needs finite scores; some are NaN or infinite")


def check_percentile(threshold_perc: float, margin: float) -> None:
    """Raise InvalidSetting unless `threshold_perc` is a percentage, and not a share, and the margin a finite number."""
    if not (is_number(threshold_perc) and 0 <= threshold_perc <= 100):
        raise InvalidSetting(f"threshold_perc is a percentage between 0 and 100; got {threshold_perc!r}")
    if 0 < threshold_perc < 1:
        raise InvalidSetting(
            f"threshold_perc is a percentage, 95 for 95 %; got {threshold_perc!r}, which would flag all but "
            f"{threshold_perc:g} % of normal rows: pass threshold_perc={100 * threshold_perc:g}"
        )
    check_margin(margin)


def check_margin(margin: float) -> None:
    """Raise InvalidSetting unless the margin is a finite number."""
    if not is_number(margin):
        raise InvalidSetting(f"margin is a finite number of nats; got {margin!r}")


def as_threshold(value: Any, classes: int | None, *, or_none: bool = False) -> Threshold:
    """A threshold as a caller gives it: a number of nats or, for each class, an array of them.

    Args:
        value: the threshold.
        classes: how many classes there are; 0 where there is one threshold for all, None where any number may do.
        or_none: whether the caller may also pass None, for the message.

    Raises:
        InvalidSetting: the value is neither.
        ShapeMismatch: lists in it are of several lengths.
    """
    if is_number(value) or (isinstance(value, np.ndarray) and value.ndim == 0 and is_number(value.item())):
        return float(value)
    is_given = classes != 0 and (isinstance(value, list | tuple) or hasattr(value, "__array__"))
    limits = as_array(value, "threshold") if is_given else np.array(np.nan)
    are_finite = limits.dtype.kind in "fiu" and bool(np.isfinite(limits).all())
    if not are_finite or limits.shape != (limits.size if classes is None else classes,):
        each = "" if classes == 0 else f", an array of {classes or 'them'}, one for each predicted class,"
        either = f"{each} or None" if or_none else each.replace(", an", " or an", 1)
        raise InvalidSetting(f"threshold is a finite number of nats{either}; got {value!r}")
    return limits.astype("float64")
