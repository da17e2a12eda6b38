"""Whether scores depend on the scores of neighbouring rows: tests and monitors make promises for independent rows.

Rows depend on their neighbours if they are frames of one film, come several times, or come session by session.
"""

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from demur.calibration.metrics import share_below
from demur.documents import Malformed

Array = npt.NDArray[np.float64]

LAGS, SEGMENT = 64, 256
"""Rows are compared that are at most so far apart; and scores are measured from the mean of so many rows."""
IN_A_ROW = 8
"""After so many lags without dependence, there is no more: so many films may take turns."""
LOOKS_FROM = 4
"""Segments before the first look."""
FEWEST = 64
"""A batch of fewer scores is not looked at."""
CHANCE = 0.01
"""Of ever calling independent rows dependent, at most."""
INFLATION, NEGLIGIBLE, ADVISED = 1.2, 0.05, 0.02
"""An inflation of variance that matters, an autocorrelation that does not, and the largest autocorrelation that rows
should have which are as far apart as is advised."""


class Dependence(NamedTuple):
    """How much neighbouring scores depend on each other."""

    autocorrelation: tuple[float, ...]
    """Of the places of scores, 1, 2, ... rows apart."""
    inflation: float
    """The variance of a mean, divided by the variance of a mean of independent rows."""
    every: int
    """Rows that are so far apart hardly depend."""

    @property
    def said(self) -> str:
        """How much the scores depend, in words."""
        first, lag = max((value, -at) for at, value in enumerate(self.autocorrelation, start=1))
        apart = "neighbouring rows" if lag == -1 else f"rows {-lag} apart"
        return (
            f"the scores of {apart} are alike (autocorrelation {first:.2f}), and what is promised of false alarms "
            "is for independent rows"
        )


class Sums(msgspec.Struct):
    """The state of an `Autocorrelation`. Arrays are bytes, so that the JSON always has about the same length."""

    waiting: bytes
    count: int
    sums: bytes
    worst: bytes
    segments: int
    largest: float


class Autocorrelation:
    """The autocorrelation of a stream, from sums that take constant memory.

    Scores are measured from the mean of their segment, and the segment with the largest products is left out, so that
    one shift of the level is not taken for dependence. Freedman's inequality (1975) decides whether the rest is
    significant, whatever the distribution of scores and however many are equal, after 4, 8, 16, ... segments: over all
    looks and lags, independent rows are called dependent with a chance of at most `CHANCE`.

    Args:
        segment: scores that are looked at together.
    """

    def __init__(self, segment: int = SEGMENT) -> None:
        self.segment, self.lags = segment, min(LAGS, segment // 4)
        self.waiting = np.empty(0, "float32")
        self.sums, self.worst = np.zeros((2, self.lags + 1))
        self.segments, self.largest = 0, 0.0

    def add(self, values: Array) -> Dependence | None:
        """Take numbers in, in their order; returns the dependence if it is significant at a look, and matters."""
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
        """The dependence so far; None before the second segment, or where all scores are equal."""
        if self.segments < 2 or self._sums[0] <= 1e-12 * self.segments * self.segment:
            return None
        rho = self._rho()
        noise = np.maximum(NEGLIGIBLE, 3.5 / np.sqrt(self._pairs()))
        alike = rho > noise
        every = _end(alike) + 1
        inflation = 1 + 2 * float(np.maximum(rho[: every - 1], 0).sum())
        if every > 1:  # beyond the lags that differ from noise, it is taken to fall by the same factor each row
            told = min(float(noise[min(every, self.lags) - 1]), 0.5)
            every = math.ceil(every * math.log(ADVISED) / math.log(told))
        if every > self.lags / 2:  # such long dependence is partly taken for the mean of the segment
            every *= 2
        return Dependence(tuple(float(value) for value in rho), inflation, every)

    @property
    def _sums(self) -> Array:
        return self.sums - self.worst

    def _pairs(self) -> Array:
        return (self.segments - 1) * (self.segment - np.arange(1.0, self.lags + 1))

    def _rho(self) -> Array:
        # Measured from the mean of a segment, independent numbers have an autocorrelation of about -1 / segment.
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

    def state(self) -> Sums:
        """All that is known, to save it."""
        waiting = np.resize(np.append(self.waiting, np.zeros(1)), self.segment).astype("<f4")
        sums, worst = (values.astype("<f8").tobytes() for values in (self.sums, self.worst))
        return Sums(waiting.tobytes(), len(self.waiting), sums, worst, self.segments, self.largest)

    def resume(self, state: Sums) -> None:
        """Go on from a state; Malformed if the arrays have other lengths."""
        self.waiting = _array(state.waiting, "f4", self.segment)[: state.count]
        self.sums, self.worst = (_array(packed, "f8", self.lags + 1) for packed in (state.sums, state.worst))
        self.segments, self.largest = state.segments, state.largest


def _end(alike: npt.NDArray[np.bool_]) -> int:
    """The lag after which several lags in a row are not alike; if no lag is before them, the last lag that is alike."""
    for lag in range(len(alike)):
        if not alike[lag : lag + IN_A_ROW].any():
            return lag or (int(np.flatnonzero(alike)[-1]) + 1 if alike.any() else 0)
    return len(alike)


def _array(packed: bytes, kind: str, length: int) -> npt.NDArray[Any]:
    if len(packed) != length * np.dtype(kind).itemsize:
        raise Malformed(f"expected {length} numbers of type {kind}; got {len(packed)} bytes")
    return np.frombuffer(packed, f"<{kind}").astype(kind)


def places(scores: npt.NDArray[Any], groups: npt.NDArray[Any] | None = None) -> Array:
    """The share of the scores of the same group that lie below each, an equal one counting half: `(n,)`."""
    found = np.empty(len(scores))
    for group in [None] if groups is None else np.unique(groups):
        chosen = slice(None) if groups is None else groups == group
        found[chosen] = share_below(scores[chosen], scores[chosen])
    return found


def dependence_of(scores: npt.NDArray[Any], groups: npt.NDArray[Any] | None = None) -> Dependence | None:
    """How much scores depend on the scores of the rows before; None if that is not significant, or does not matter."""
    if len(scores) < FEWEST:
        return None
    values = places(scores, groups)
    # A power of two, as there is a look after 4, 8, 16, ... segments.
    segments = max(LOOKS_FROM, 1 << max(0, (len(values) // SEGMENT).bit_length() - 1))
    return Autocorrelation(len(values) // segments).add(values)
