"""What a score says about the classifier's errors, learned from labelled rows. NumPy only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONFIDENCE, NORMAL_QUANTILE = 0.9, 1.645
"""How often intervals hold, and how many standard deviations that is."""
PULL = 0.05
"""How much the weights are drawn towards the mean, in batches that differ by all there is."""


@dataclass(frozen=True)
class HarmCalibration:
    """How often the classifier errs at which score.

    Attributes:
        score_limit: the score, in nats, that as many labelled rows exceed as the classifier gets wrong.
        entropy_limit: the entropy of the classifier's distribution, in nats, that as many exceed (Garg et al., 2022,
            arXiv:2201.04234).
        weights: `(3,)`: accuracy is estimated as their sum of 1, the share of the rows whose score is not above its
            limit, and the share of those whose entropy is not above its own.
        accuracy: of the classifier on those rows.
        n: how many there were.
        spread: what nine in ten estimates were off by at most, on corruptions that they had not seen.
        scores: `(k,)`, ascending.
        wrong: `(k,)`, the probability that the classifier is wrong at these scores; in between, on a straight line.
    """

    score_limit: float
    entropy_limit: float
    weights: Array
    accuracy: float
    n: int
    spread: float
    scores: Array
    wrong: Array

    def probability(self, scores: npt.NDArray[np.floating[Any]]) -> Array:
        """The probability that the classifier is wrong, of rows with these scores: `(n,)`."""
        return np.asarray(np.interp(np.asarray(scores, "float64"), self.scores, self.wrong))

    def accuracy_of(self, scores: npt.NDArray[np.floating[Any]], entropies: npt.NDArray[np.floating[Any]]) -> float:
        """The classifier's accuracy on rows with these scores and entropies, as estimated."""
        return estimated(self.weights, shares(scores, self.score_limit, entropies, self.entropy_limit))

    def interval(self, accuracy: float, n: int) -> tuple[float, float]:
        """Where accuracies lie, nine in ten, of which this is the estimate from n rows: of drift like the corruptions.

        By how far estimates are off on corruptions they have not seen, and by the chance of which rows were drawn.
        """
        return interval(accuracy, n, self.spread, self.n)

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for saving."""
        names = ("score_limit", "entropy_limit", "weights", "accuracy", "n", "spread", "scores", "wrong")
        return {name: np.asarray(getattr(self, name)) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "HarmCalibration":
        """The calibration that `as_arrays` described."""
        return cls(
            score_limit=float(arrays["score_limit"]),
            entropy_limit=float(arrays["entropy_limit"]),
            weights=np.asarray(arrays["weights"], "float64"),
            accuracy=float(arrays["accuracy"]),
            n=int(arrays["n"]),
            spread=float(arrays["spread"]),
            scores=np.asarray(arrays["scores"], "float64"),
            wrong=np.asarray(arrays["wrong"], "float64"),
        )


def shares(scores: Any, score_limit: float, entropies: Any, entropy_limit: float) -> Array:
    """1, and the shares of the rows whose score and whose entropy are not above their limits: `(3,)`."""
    return np.array([1.0, np.mean(np.asarray(scores) <= score_limit), np.mean(np.asarray(entropies) <= entropy_limit)])


def estimated(weights: Array, of: Array) -> float:
    """The accuracy that weights make of shares."""
    return float(np.clip(weights @ of, 0.0, 1.0))


def limit_of(values: npt.NDArray[np.floating[Any]], wrong: int) -> float:
    """The value that so many rows exceed."""
    ordered = np.sort(values)
    return float(ordered[len(ordered) - 1 - wrong]) if wrong < len(ordered) else -np.inf


def learned_weights(of: Array, accuracies: Array) -> Array:
    """The weights with the least squared error on batches, drawn a little towards the mean of both shares.

    Args:
        of: `(batches, 3)`, their shares.
        accuracies: `(batches,)`, of the classifier.
    """
    prior = np.array([0.0, 0.5, 0.5])
    pull = np.diag([1e-6, PULL, PULL])
    return np.asarray(prior + np.linalg.solve(of.T @ of + pull, of.T @ (accuracies - of @ prior)))


def spread_of(of: Array, accuracies: Array, names: npt.NDArray[Any]) -> float:
    """What nine in ten estimates are off by at most on a corruption, with weights learned from the others.

    Args:
        of: `(batches, 3)`, their shares.
        accuracies: `(batches,)`, of the classifier.
        names: `(batches,)`, of what was done to them; "" for nothing.
    """
    off = []
    for name in dict.fromkeys(names[names != ""]):
        weights = learned_weights(of[names != name], accuracies[names != name])
        rows = zip(of[names == name], accuracies[names == name], strict=True)
        off += [abs(estimated(weights, shares_of) - accuracy) for shares_of, accuracy in rows]
    return float(np.quantile(off, CONFIDENCE))


def interval(accuracy: float, n: int, spread: float, labelled: int) -> tuple[float, float]:
    """Around an estimate from n rows, by a calibration on so many labelled ones."""
    variance = max(accuracy * (1 - accuracy), 1 / (4 * n)) * (1 / n + 1 / labelled)
    reach = math.hypot(spread, NORMAL_QUANTILE * math.sqrt(variance))
    return max(0.0, accuracy - reach), min(1.0, accuracy + reach)
