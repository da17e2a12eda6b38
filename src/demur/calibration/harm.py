"""What a score says about the classifier's errors, learned from labelled rows. NumPy only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from demur.documents import from_arrays

Array = npt.NDArray[np.float64]

CONFIDENCE, NORMAL_QUANTILE = 0.9, 1.645
"""How often intervals hold, and how many standard deviations that is."""
PRIOR = np.array([0.0, 0.0, 0.5])
"""Weights where no corruption says otherwise: the mean (Bates and Granger, 1969) of two forecasts, an accuracy that
stays and an accuracy that falls as much as the confidence."""
PULLS = tuple(float(pull) for pull in np.logspace(-2, 6, 17))
"""How strongly the weights may be drawn towards `PRIOR`, ascending; with the last, the weights are `PRIOR`."""
KNOTS, FEWEST_A_KNOT = 200, 20
"""The curve of the chance of an error has at most so many points, each the share of errors of at least so many rows."""


class Limits(NamedTuple):
    """What as many labelled rows exceed as the classifier gets wrong, in nats (Garg et al., 2022, arXiv:2201.04234)."""

    score: float
    entropy: float
    """Of the classifier's distribution."""


class Learned(NamedTuple):
    """How accuracy changes with the features of rows."""

    weights: Array
    """`(3,)`, of the changes of the three features."""
    spread: float
    """How far off nine in ten estimates for corruptions that were left out are, at most, as a share of the change."""


@dataclass(frozen=True)
class HarmCalibration:
    """How often the classifier errs at which score, and how its accuracy changes with scores and confidence.

    A row has three features: whether the score is at most `score_limit` (0 or 1), whether the entropy is at most
    `entropy_limit`, and the classifier's confidence. Accuracy is estimated from how far their means are from `origin`.

    Attributes:
        score_limit: see `Limits`.
        entropy_limit: see `Limits`.
        weights: `(3,)`, of the changes of the features.
        origin: `(3,)`, the means of the features on the labelled rows.
        anchor: the estimate where nothing has changed: the accuracy on the labelled rows.
        accuracy: of the classifier on the labelled rows.
        n: how many labelled rows there were.
        noise: standard deviation, over the labelled rows, of one row's weighted features.
        spread: how far off nine in ten estimates were, at most, however little had changed.
        spread_by_change: how far off they were, at most, as a share of how far the features have changed.
        reached: `(3,)`, the largest change of each feature, up or down, in the corrupted copies.
        scores: `(k,)`, ascending.
        wrong: `(k,)`, the probability that the classifier is wrong at these scores; in between, on a straight line.
    """

    score_limit: float
    entropy_limit: float
    weights: Array
    origin: Array
    anchor: float
    accuracy: float
    n: int
    noise: float
    spread: float
    spread_by_change: float
    reached: Array
    scores: Array = field(repr=False)
    wrong: Array = field(repr=False)

    def probability(self, scores: npt.NDArray[np.floating[Any]]) -> Array:
        """The probability that the classifier is wrong, of rows with these scores: `(n,)`."""
        return np.asarray(np.interp(np.asarray(scores, "float64"), self.scores, self.wrong))

    def change_of(self, scores: npt.NDArray[np.floating[Any]], probabilities: npt.NDArray[np.floating[Any]]) -> Array:
        """How far the features of rows with these scores and probabilities are from `origin`: `(3,)`."""
        limits = Limits(self.score_limit, self.entropy_limit)
        return np.asarray(features(scores, probabilities, limits).mean(axis=0) - self.origin)

    def accuracy_at(self, change: Array) -> float:
        """The estimated accuracy of the classifier on rows whose features have changed so."""
        return float(np.clip(self.anchor + self.weights @ change, 0.0, 1.0))

    def interval(self, change: Array, n: int) -> tuple[float, float]:
        """In which nine in ten accuracies of n rows lie that have drifted like the corruptions."""
        accuracy, drift = self.accuracy_at(change), self.spread_by_change * size_of(change)
        return interval(accuracy, math.hypot(self.spread, drift), self.noise, n, self.n)

    def harm_at(self, change: Array, n: int) -> float:
        """By how much accuracy has fallen; 0 if chance explains the fall (one-sided, 5 %)."""
        fall = self.accuracy - self.accuracy_at(change)
        return fall if fall > NORMAL_QUANTILE * self.noise * math.sqrt(1 / n + 1 / self.n) else 0.0

    def is_known(self, change: Array, n: int) -> bool:
        """Whether every feature has changed no further, but for chance, than in the corrupted copies."""
        chance = 3 * 0.5 * math.sqrt(1 / n + 1 / self.n)  # three standard deviations of a share of one half
        return bool((np.abs(change) <= self.reached + chance).all())

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for saving."""
        return {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "HarmCalibration":
        """The calibration that `as_arrays` described; calibrations of earlier versions answer as they did then."""
        if "origin" not in arrays:
            arrays = {**arrays, **_changes_from_nothing(np.asarray(arrays["weights"]))}
        return cast("HarmCalibration", from_arrays(arrays, cls))


def _changes_from_nothing(weights: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Arrays for the calibrations of earlier versions: a constant, and weights of two shares instead of changes."""
    return {
        "weights": np.array([*weights[1:], 0.0]),
        "origin": np.zeros(3),
        "anchor": weights[0],
        "noise": np.array(0.0),
        "spread_by_change": np.array(0.0),
        "reached": np.full(3, np.inf),
    }


def entropies_of(probabilities: npt.NDArray[np.floating[Any]]) -> Array:
    """The entropy of each distribution, in nats: `(n,)`."""
    p = np.asarray(probabilities, "float64")
    return np.asarray(-(p * np.log(np.maximum(p, 1e-30))).sum(axis=1))


def limits_of(scores: Any, probabilities: Any, wrong: int) -> Limits:
    """The score and the entropy that `wrong` rows exceed."""
    return Limits(limit_of(np.asarray(scores), wrong), limit_of(entropies_of(probabilities), wrong))


def limit_of(values: npt.NDArray[np.floating[Any]], wrong: int) -> float:
    """The value that `wrong` rows exceed."""
    ordered = np.sort(values)
    return float(ordered[len(ordered) - 1 - wrong]) if wrong < len(ordered) else -np.inf


def features(scores: Any, probabilities: Any, limits: Limits) -> Array:
    """The features of each row, see `HarmCalibration`: `(n, 3)`."""
    known = np.asarray(scores) <= limits.score, entropies_of(probabilities) <= limits.entropy
    return np.stack([*known, np.asarray(probabilities, "float64").max(axis=1)], axis=1)


def interval(accuracy: float, drift: float, noise: float, n: int, labelled: int) -> tuple[float, float]:
    """In which nine in ten accuracies lie around an estimate from n rows.

    `drift` is how far off nine in ten estimates are, at most, after so much drift; `noise` is the standard deviation of
    the weighted features of one row; `labelled` is how many labelled rows there were.
    """
    one_row = max(accuracy * (1 - accuracy), 1 / (4 * n)) + noise**2
    reach = math.hypot(drift, NORMAL_QUANTILE * math.sqrt(one_row * (1 / n + 1 / labelled)))
    return max(0.0, accuracy - reach), min(1.0, accuracy + reach)


def size_of(changes: Array) -> Any:
    """How large changes of the features are."""
    return np.sqrt((np.asarray(changes) ** 2).sum(axis=-1))


def learned(changes: Array, accuracy_changes: Array, names: npt.NDArray[Any], rows: int) -> Learned:
    """Learn from corrupted copies of rows how accuracy changes with the features.

    Weights are drawn towards `PRIOR` as strongly as possible while the estimates for corruptions that were left out
    stay as good as the best, within one standard error of the difference (Breiman et al., 1984, "Classification and
    Regression Trees", 3.4.3): if one corruption teaches nothing about another, the weights are `PRIOR`. If there is
    only one corruption, severities are left out in turn.

    Args:
        changes: `(batches, 3)`, of the features, from the rows before they were corrupted.
        accuracy_changes: `(batches,)`, of the classifier's accuracy.
        names: `(batches,)`, of the corruptions.
        rows: how many rows a batch holds, which says how small a change may be by chance.
    """
    names = names if len(set(names)) > 1 else np.arange(len(names))  # one severity each
    left_out = [names == name for name in dict.fromkeys(names)]
    sizes = np.maximum(size_of(changes), 1 / math.sqrt(rows))
    off = np.empty((len(PULLS), len(changes)))
    for each in left_out:
        for pull, of_pull in zip(PULLS, off, strict=True):
            weights = learned_weights(changes[~each], accuracy_changes[~each], pull)
            of_pull[each] = np.abs(changes[each] @ weights - accuracy_changes[each])
    of_each = np.array([off[:, each].mean(axis=1) for each in left_out])
    worse = of_each - of_each[:, [of_each.mean(axis=0).argmin()]]
    as_good = worse.mean(axis=0) <= worse.std(axis=0) / math.sqrt(len(left_out)) + 1e-12
    chosen = int(np.flatnonzero(as_good)[-1])
    return Learned(
        learned_weights(changes, accuracy_changes, PULLS[chosen]),
        float(np.quantile(off[chosen] / sizes, CONFIDENCE)),
    )


def learned_weights(changes: Array, accuracy_changes: Array, pull: float) -> Array:
    """The weights with the least squared error, drawn towards `PRIOR`: ridge regression through 0, no weight below 0.

    With a weight below 0, accuracy would rise with scores or entropies, or as confidence falls.
    """
    from scipy.optimize import nnls

    rows = np.concatenate([changes, math.sqrt(pull) * np.eye(3)])
    return np.asarray(nnls(rows, np.concatenate([accuracy_changes, math.sqrt(pull) * PRIOR]))[0])


def shares_of_errors(scores: Array, wrong: npt.NDArray[Any], weights: Array) -> tuple[Array, Array, Array]:
    """Median scores, shares of errors and weights, `(k,)` each, of groups of rows with neighbouring scores."""
    groups = max(1, min(KNOTS, len(scores) // FEWEST_A_KNOT))
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.unique(np.searchsorted(edges, scores), return_inverse=True)[1]
    total = np.bincount(group, weights)
    middle = np.array([np.median(scores[group == one]) for one in range(len(total))])
    return middle, np.asarray(np.bincount(group, weights * wrong) / total), np.asarray(total, "float64")
