"""Scores of many parts of a data set, put together: exactly while they are few, and rounded up a little beyond."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import (
    SKETCH_SIZE,
    ScoreDistribution,
    check_margin,
    check_percentile,
    check_scores,
    conformal_rank,
    kept_ranks,
    percentile_threshold,
)
from demur.errors import EmptyInput

EXACT = 1_000_000
"""Scores that a merged sketch keeps, all of them if they are no more."""


@dataclass(frozen=True)
class ScoreSketch:
    """A multiset of scores, of which some may be rounded up to the next score that is kept.

    Sketches of parts merge to a sketch of the whole, in any order and grouping. The score at a rank is never below the
    true score, and never above the true score `error` ranks higher: thresholds flag no more than they may, and p-values
    are never below the exact ones. With random errors (KLL, t-digest) thresholds would hold only with some probability.

    Attributes:
        values: `(m,)`, ascending, in nats.
        upto: `(m,)`, how many scores each value and the values before it stand for.
        error: ranks by which a score may be too high, at most; 0 if nothing was rounded.
    """

    values: npt.NDArray[np.float32]
    upto: npt.NDArray[np.int64]
    error: int = 0

    @classmethod
    def of(cls, scores: npt.NDArray[np.floating[Any]]) -> "ScoreSketch":
        """The exact sketch of scores, `(n,)`; there may be none."""
        if len(scores):
            check_scores(scores)
        values = np.sort(np.asarray(scores, "float32"))
        return cls(values, np.arange(1, len(values) + 1, dtype="int64"))

    @classmethod
    def merged(cls, sketches: Iterable["ScoreSketch"], keep: int = EXACT) -> "ScoreSketch":
        """The sketch of the whole from sketches of the parts, with at most `keep` values."""
        parts = list(sketches)
        if not parts:
            raise EmptyInput("there is no sketch to merge: pass at least one")
        values = np.concatenate([part.values for part in parts])
        weights = np.concatenate([np.diff(part.upto, prepend=0) for part in parts])
        order = np.argsort(values, kind="stable")
        values, upto = values[order], np.cumsum(weights[order])
        error = sum(part.error for part in parts)
        if len(values) <= keep:
            return cls(values, upto, error)
        # Values that are not kept are rounded up to the next value that is.
        chosen = np.unique(np.searchsorted(upto, kept_ranks(int(upto[-1]), keep)))
        rounded = int(np.diff(upto[chosen], prepend=0).max()) - 1
        return cls(values[chosen], upto[chosen], error + rounded)

    @property
    def n(self) -> int:
        """How many scores there are."""
        return int(self.upto[-1]) if len(self.upto) else 0

    def at(self, ranks: Any) -> npt.NDArray[np.float32]:
        """The scores of ranks, from 1."""
        found: npt.NDArray[np.float32] = self.values[np.searchsorted(self.upto, ranks)]
        return found

    def distribution(self) -> ScoreDistribution:
        """The distribution that p-values are read off."""
        return ScoreDistribution(self.at(kept_ranks(self.n, SKETCH_SIZE)), self.n)

    def conformal_threshold(self, fpr: float, margin: float = 0.0) -> float:
        """See `demur.calibration.conformal_threshold`; the promise holds."""
        check_margin(margin)
        check_scores(self.values)
        return float(self.at(conformal_rank(self.n, fpr))) + margin

    def percentile_threshold(self, threshold_perc: float, margin: float = 0.0) -> float:
        """See `demur.calibration.percentile_threshold`."""
        if len(self.values) == self.n:  # exact: nothing was rounded
            return percentile_threshold(self.values, threshold_perc, margin)
        check_percentile(threshold_perc, margin)
        place = (self.n - 1) * threshold_perc / 100
        below = int(place)
        low, high = (float(self.at(min(rank, self.n))) for rank in (below + 1, below + 2))
        return low + (high - low) * (place - below) + margin
