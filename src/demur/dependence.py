"""Do the scores of neighbouring rows depend on each other? The promises of tests and monitors are for rows that do not.

Neighbours depend where rows are frames of one film, come several times, or come session by session.
"""

import base64
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LAGS, SEGMENT = 64, 256
"""Rows apart, at most, that are compared; and rows together, from whose mean scores are measured."""
LOOKS_FROM = 4
"""Segments before the first look."""
FEWEST = 64
"""Scores that a batch must have for this to be asked."""
CHANCE = 0.01
"""Of ever saying so of rows that do not depend, at most."""
INFLATION, NEGLIGIBLE = 1.2, 0.05
"""The variance of a mean, over that of independent rows, which matters; and an autocorrelation which does not."""
FARTHEST = 10_000


class Dependence(NamedTuple):
    """How much neighbouring scores depend on each other."""

    autocorrelation: tuple[float, ...]
    """Of the places of scores, 1, 2, ... rows apart."""
    inflation: float
    """How many times larger the variance of a mean is than that of independent rows."""
    every: int
    """Rows so many apart hardly depend."""

    @property
    def said(self) -> str:
        """How much, in words."""
        first, lag = max((value, -at) for at, value in enumerate(self.autocorrelation, start=1))
        apart = "neighbouring rows" if lag == -1 else f"rows {-lag} apart"
        return (
            f"the scores of {apart} are alike (autocorrelation {first:.2f}), and what is promised of false alarms is for "
            "independent rows"
        )


class Autocorrelation:
    """Sums from which the autocorrelation of a stream is known, in constant memory.

    Scores are looked at in segments, each from its own mean, and the segment that speaks most for dependence is left
    out, so that a level that shifts once is not taken for it. Whether what remains is significant is decided by
    Freedman's inequality (1975), whatever the distribution of scores and however many are equal, after 4, 8, 16, ...
    segments: over all looks and lags, independent rows are said to depend with a chance of at most `CHANCE`.

    Args:
        segment: scores that are looked at together.
    """

    def __init__(self, segment: int = SEGMENT) -> None:
        self.segment, self.lags = segment, min(LAGS, segment // 4)
        self.waiting = np.empty(0, "float32")
        self.sums, self.worst = np.zeros((2, self.lags + 1))
        self.segments, self.largest = 0, 0.0

    def add(self, values: Array) -> Dependence | None:
        """Take numbers in, in their order; what they say if that is significant at one of the looks, and matters."""
        found, values = None, np.concatenate([self.waiting, values.astype("float32")])
        whole = len(values) // self.segment * self.segment
        for begin in range(0, whole, self.segment):
            found = self._look(values[begin : begin + self.segment]) or found
        self.waiting = values[whole:].copy()
        return found

    def _look(self, values: Array) -> Dependence | None:
        x = values.astype("float64") - values.mean(dtype="float64")
        products = np.array([x[lag:] @ x[: len(x) - lag] for lag in range(self.lags + 1)])
        self.sums += products
        if products[1:].sum() > self.worst[1:].sum():
            self.worst = products
        self.largest = max(self.largest, float((x**2).max()))
        self.segments += 1
        if self.segments < LOOKS_FROM or self.segments & (self.segments - 1):
            return None
        found = self.dependence
        return found if found is not None and self._significant() and found.inflation >= INFLATION else None

    @property
    def dependence(self) -> Dependence | None:
        """What is known up to now; None before the second segment, or where all scores are equal."""
        if self.segments < 2 or self._sums[0] <= 1e-12 * self.segments * self.segment:
            return None
        rho = self._rho()
        noise = np.maximum(NEGLIGIBLE, 3.5 / np.sqrt(self._pairs()))
        alike = np.flatnonzero(rho > noise)
        every = 1 if not len(alike) else int(alike[-1]) + 2
        if every > self.lags:  # farther than was looked: as if it went on to fall by the same factor a row
            every = min(FARTHEST, math.ceil(self.lags * math.log(NEGLIGIBLE) / math.log(min(float(rho[-1]), 0.999))))
        inflation = 1 + 2 * float(np.maximum(rho[: every - 1], 0).sum())
        return Dependence(tuple(float(value) for value in rho), inflation, every)

    @property
    def _sums(self) -> Array:
        return self.sums - self.worst

    def _pairs(self) -> Array:
        return (self.segments - 1) * (self.segment - np.arange(1.0, self.lags + 1))

    def _rho(self) -> Array:
        # From the mean of a segment, independent numbers have an autocorrelation of about -1 / segment.
        share = 1 - np.arange(1.0, self.lags + 1) / self.segment
        return np.asarray(self._sums[1:] / (self._sums[0] * share) + 1 / self.segment)

    def _significant(self) -> bool:
        look = self.segments.bit_length() - LOOKS_FROM.bit_length() + 1
        enough = -math.log(CHANCE * 6 / (math.pi * look) ** 2 / self.lags)
        variance = (self._sums[0] / ((self.segments - 1) * self.segment)) ** 2
        total, pairs = self._rho() * np.sqrt(variance) * self._pairs(), self._pairs()
        reach = self.largest * enough / 3
        return bool((total > reach + np.sqrt(reach**2 + 2 * enough * variance * pairs)).any())

    def skip(self) -> None:
        """Leave out the segment that has begun."""
        self.waiting = np.empty(0, "float32")

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        padded = np.zeros(self.segment, "<f4")  # of one length, so that the state is
        padded[: len(self.waiting)] = self.waiting
        return {
            "waiting": base64.b64encode(padded.tobytes()).decode(),
            "count": len(self.waiting),
            "sums": self.sums.tolist(),
            "worst": self.worst.tolist(),
            "segments": self.segments,
            "largest": self.largest,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        padded = np.frombuffer(base64.b64decode(state["waiting"]), "<f4")
        self.waiting = padded[: int(state["count"])].astype("float32")
        self.sums, self.worst = (np.array(state[name], "float64") for name in ("sums", "worst"))
        if not self.sums.shape == self.worst.shape == (self.lags + 1,):
            raise ValueError(f"there are {self.lags + 1} sums; got {len(self.sums)}")
        self.segments, self.largest = int(state["segments"]), float(state["largest"])


def places(scores: npt.NDArray[Any], groups: npt.NDArray[Any] | None = None) -> Array:
    """The share of the scores of the same group that lie below each, an equal one counting half: `(n,)`."""
    found = np.empty(len(scores))
    for group in [None] if groups is None else np.unique(groups):
        chosen = slice(None) if groups is None else groups == group
        ordered = np.sort(scores[chosen])
        below, upto = (np.searchsorted(ordered, scores[chosen], side=side) for side in ("left", "right"))
        found[chosen] = (below + upto) / (2 * len(ordered))
    return found


def dependence_of(scores: npt.NDArray[Any], groups: npt.NDArray[Any] | None = None) -> Dependence | None:
    """How much scores depend on those of the rows before, where it is significant and matters; None elsewhere."""
    if len(scores) < FEWEST:
        return None
    values = places(scores, groups)
    # As many segments as there is a look after.
    segments = max(LOOKS_FROM, 1 << max(0, (len(values) // SEGMENT).bit_length() - 1))
    return Autocorrelation(len(values) // segments).add(values)
