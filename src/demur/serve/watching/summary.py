"""What the page is told: of a stream, in constant memory, and of a guard, its calibration and its monitor.

For JSON: what is infinite or unknown is None.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import Calibration, ScoreDistribution, weighted
from demur.drift.monitor import Monitor
from demur.guards.tensors import TensorGuard
from demur.serve.watching.recent import image_shape

Counts = npt.NDArray[np.int64]

SECONDS, PARTS = 5, 120
"""Length of a part of the history, and how many there are: ten minutes."""
LAST = 2_000
"""Inputs that count as the last ones."""
POINTS = 256
"""Of a trace, at most."""
BINS = 44
"""Of a histogram of scores, about."""


class Rates:
    """How many inputs came and were flagged, in parts of five seconds of the last ten minutes."""

    def __init__(self) -> None:
        self._counts = np.zeros((PARTS, 2), "int64")
        self._now: int | None = None

    def add(self, now: float, count: int, flagged: int) -> None:
        """So many came, of which so many were flagged."""
        self._forget(now)
        self._counts[int(now // SECONDS) % PARTS] += (count, flagged)

    def series(self, now: float) -> tuple[list[int], list[int]]:
        """Counts and flagged counts of each part, the oldest first; the last is not over yet."""
        self._forget(now)
        ordered = np.roll(self._counts, PARTS - 1 - int(now // SECONDS) % PARTS, axis=0)
        return ordered[:, 0].tolist(), ordered[:, 1].tolist()

    def per_second(self, now: float) -> float:
        """Inputs a second, over this part and the one before."""
        counts = self.series(now)[0]
        return float(sum(counts[-2:])) / (SECONDS + now % SECONDS)

    def _forget(self, now: float) -> None:
        """Clear the parts that have begun since; if the clock was set back, all of them."""
        part = int(now // SECONDS)
        last = part if self._now is None else self._now
        if part < last - 1:
            self._counts[:] = 0
        elif part > last:
            self._counts[np.arange(max(last + 1, part - PARTS + 1), part + 1) % PARTS] = 0
        self._now = part if part < last - 1 else max(part, last)


class Lately:
    """The last 2,000 inputs: in which bin their scores lie, and whether they were flagged.

    Args:
        edges: `(bins + 1,)`, ascending; what lies outside is counted in the first or last bin.
    """

    def __init__(self, edges: npt.NDArray[np.float64]) -> None:
        self.edges = edges
        self._places = np.zeros(LAST, "int16")
        self._flagged = np.zeros(LAST, bool)
        self.seen = 0

    def add(self, scores: npt.NDArray[Any], flagged: npt.NDArray[np.bool_]) -> None:
        """Take in finite scores, `(n,)`, and verdicts, `(n,)`."""
        scores, flagged, skipped = scores[-LAST:], flagged[-LAST:], max(len(scores) - LAST, 0)
        where = (self.seen + skipped + np.arange(len(scores))) % LAST
        self._places[where] = binned(scores, self.edges)
        self._flagged[where] = flagged
        self.seen += skipped + len(scores)

    def __len__(self) -> int:
        return min(self.seen, LAST)

    @property
    def flagged(self) -> int:
        """How many of them were flagged."""
        return int(np.count_nonzero(self._flagged[: len(self)]))

    def histogram(self) -> Counts:
        """How many lie in each bin: `(bins,)`."""
        return np.bincount(self._places[: len(self)], minlength=len(self.edges) - 1)


class Trace:
    """The way that a number took, at no more than 256 points: of a longer one, every second is forgotten."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float]] = []
        self._stride = 1
        self._last: tuple[int, float] | None = None

    def add(self, at: int, value: float) -> None:
        """The number is `value` after so many inputs."""
        self._last = (at, value)
        if self._points and at < self._points[-1][0] + self._stride:
            return
        self._points.append((at, value))
        while len(self._points) >= POINTS:
            self._points = self._points[::2]
            self._stride = max(2 * self._stride, self._points[1][0] - self._points[0][0])

    def points(self) -> list[tuple[int, float]]:
        """Inputs and number, in order, the last one always among them."""
        last = [] if self._last is None or self._last in self._points[-1:] else [self._last]
        return self._points + last


def binned(scores: npt.NDArray[Any], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bin of each score: what is equal to an upper edge, as a threshold, is below it."""
    return np.clip(np.searchsorted(edges, scores) - 1, 0, len(edges) - 2)


def levels_of(threshold: Any) -> npt.NDArray[np.float64]:
    """The finite thresholds of a guard: one, one for each class, or none."""
    levels = np.ravel(np.asarray(np.nan if threshold is None else threshold, "float64"))
    return np.asarray(levels[np.isfinite(levels)])


def log_edges(calibration: Calibration | None, threshold: Any) -> npt.NDArray[np.float64]:
    """Edges of equal ratio, from the smallest calibration scores to far above them, with the (smallest) threshold.

    Without either, from a millionth of a nat to a hundred.
    """
    levels = levels_of(threshold)
    levels = levels[levels > 0]
    scores = np.empty(0) if calibration is None else ScoreDistribution.pooled(calibration.ordinary.values()).kept
    scores = scores[scores > 0].astype("float64")
    if not len(scores) and not len(levels):
        return np.logspace(-6, 2, BINS + 1)
    known = np.concatenate([scores, levels])
    low, high = float(np.quantile(known, 0.002)), max(3.0 * float(known.max()), 20.0)
    if not len(scores):
        low /= 1000
    low = max(min([low, *levels]), high * 1e-9)
    anchor = max(float(levels.min()), low) if len(levels) else high
    step = np.log10(high / low) / BINS
    below, above = np.ceil(np.log10(anchor / low) / step), np.ceil(np.log10(high / anchor) / step)
    places = np.arange(-below, above + 1)
    edges = anchor * 10 ** (step * places)
    edges[places == 0] = anchor  # to the bit: a score at the threshold is not above it
    return np.asarray(edges)


def calibration_shares(calibration: Calibration, edges: npt.NDArray[np.float64]) -> list[float]:
    """Which share of the calibration scores lies in each bin: `(bins,)`."""
    scores, counts = weighted(calibration.ordinary.values())
    found = np.bincount(binned(scores.astype("float64"), edges), weights=counts, minlength=len(edges) - 1)
    return [float(share) for share in found / counts.sum()]


def calibration_rate(calibration: Calibration) -> float:
    """Which share of the scores of all calibration rows lies above its threshold."""
    thresholds = np.asarray(calibration.threshold, "float64")
    above = total = 0.0
    for group, one in calibration.ordinary.items():
        level = float(thresholds) if thresholds.ndim == 0 else np.nan if group is None else float(thresholds[group])
        above += one.n - int(one.below(np.asarray([level]), ties=True)[0])
        total += one.n
    return above / total


# For JSON -------------------------------------------------------------------------------------------------------------


def of_guard(guard: TensorGuard) -> dict[str, Any]:
    """What it takes and gives, and from which score on it flags: the lowest threshold and the highest."""
    levels = levels_of(guard.threshold)
    return {
        "detector": str(guard.detector),
        "classes": int(guard.classes),
        "input": picture_input(guard),
        "inputs": [
            {"name": name, "shape": list(one.shape), "dtype": str(one.dtype)} for name, one in guard.inputs.items()
        ],
        "outputs": list(guard.outputs),
        "threshold": [float(levels.min()), float(levels.max())] if len(levels) else None,
    }


def picture_input(guard: TensorGuard) -> dict[str, Any] | None:
    """How to send a picture to a guard whose only input is one; None where that cannot be."""
    if len(guard.inputs) != 1:
        return None
    ((name, one),) = guard.inputs.items()
    found = image_shape(tuple(one.shape))
    if found is None or np.dtype(one.dtype or "float32").kind not in "fiu":
        return None
    kind, height, width, channels = found
    return {"name": name, "kind": kind, "height": height, "width": width, "channels": channels, "dtype": str(one.dtype)}


def of_calibration(calibration: Calibration, edges: npt.NDArray[np.float64]) -> tuple[dict[str, Any], list[float]]:
    """Its figures, and the share of its scores in each bin."""
    size = sum(one.n for one in calibration.ordinary.values())
    figures = {"size": size, "promised": calibration.fpr, "rate": calibration_rate(calibration)}
    return figures, calibration_shares(calibration, edges)


def of_monitor(monitor: Monitor, trace: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """What it has found, and the way that the evidence took."""
    return {
        "watched": True,
        "count": monitor.count,
        "log_evidence": _finite(monitor.log_evidence),
        "log_limit": float(np.log(monitor.limit)),
        "alarm": monitor.alarm,
        "alarms": [
            {"at": one.at, "time": one.time, "log_evidence": _finite(one.log_evidence)} for one in monitor.alarms
        ],
        "alarm_count": monitor.alarm_count,
        "method": monitor.method,
        "alpha": monitor.alpha,
        "tolerance": monitor.tolerance,
        "every": monitor.every,
        "dependence": monitor.dependence_said if monitor.is_dependent else None,
        "trace": [[at, _finite(value)] for at, value in trace],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
