"""What a score says about the classifier's errors, learned from labelled rows. NumPy only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HarmCalibration:
    """How often the classifier errs at which score.

    Attributes:
        limit: the score, in nats, that as many labelled rows exceed as the classifier gets wrong (Garg et al., 2022,
            arXiv:2201.04234, with this score in the place of the classifier's confidence).
        accuracy: of the classifier on those rows.
        n: how many there were.
        spread: what nine in ten estimates were off by at most, on corruptions that they had not seen.
        scores: `(k,)`, ascending.
        wrong: `(k,)`, the probability that the classifier is wrong at these scores; in between, on a straight line.
    """

    limit: float
    accuracy: float
    n: int
    spread: float
    scores: Array
    wrong: Array

    def probability(self, scores: npt.NDArray[np.floating[Any]]) -> Array:
        """The probability that the classifier is wrong, of rows with these scores: `(n,)`."""
        return np.asarray(np.interp(np.asarray(scores, "float64"), self.scores, self.wrong))

    def accuracy_of(self, scores: npt.NDArray[np.floating[Any]]) -> float:
        """The classifier's accuracy on rows with these scores, as estimated."""
        return float(np.mean(np.asarray(scores, "float64") <= self.limit))

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for saving."""
        names = ("limit", "accuracy", "n", "spread", "scores", "wrong")
        return {name: np.asarray(getattr(self, name)) for name in names}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "HarmCalibration":
        """The calibration that `as_arrays` described."""
        numbers = {name: float(arrays[name]) for name in ("limit", "accuracy", "spread")}
        return cls(n=int(arrays["n"]), scores=arrays["scores"], wrong=arrays["wrong"], **numbers)
