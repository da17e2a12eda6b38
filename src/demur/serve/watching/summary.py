"""The figures of the page: of a stream, in constant memory; of a guard, its calibration and its monitor.

They are for JSON: what is infinite or unknown is None.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import Calibration, ScoreDistribution, weighted
from demur.drift.monitor import Monitor
from demur.guards.tensors import TensorGuard
from demur.serve.watching.recent import image_shape

Counts = npt.NDArray[np.int64]
Edges = npt.NDArray[np.float64]

SECONDS, PARTS = 5, 120
"""Length of a part of the history, and how many parts are kept: ten minutes."""
LAST = 2_000
"""Inputs that count as the last ones."""
POINTS = 256
"""Most points of a trace."""
BINS = 44
"""Bins of a histogram of scores, about."""


class Rates:
    """How many inputs came and were flagged, in parts of five seconds of the last ten minutes."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[int, int]] = {}
        self._latest = 0

    def add(self, now: float, count: int, flagged: int) -> None:
        """Count inputs, and those of them that were flagged."""
        part = int(now // SECONDS)
        if part < self._latest - 1:  # the clock was set back
            self._parts.clear()
            self._latest = part
        self._latest = max(part, self._latest)
        came, raised = self._parts.get(part, (0, 0))
        self._parts[part] = came + count, raised + flagged
        for old in [one for one in self._parts if one <= part - PARTS]:
            del self._parts[old]

    def series(self, now: float) -> tuple[list[int], list[int]]:
        """Counts and flagged counts of each part, the oldest first; the last part is not over yet."""
        last = int(now // SECONDS)
        parts = [self._parts.get(part, (0, 0)) for part in range(last - PARTS + 1, last + 1)]
        return [count for count, _ in parts], [flagged for _, flagged in parts]

    def per_second(self, now: float) -> float:
        """Inputs a second, over this part and the one before."""
        return float(sum(self.series(now)[0][-2:])) / (SECONDS + now % SECONDS)


class Lately:
    """The last 2,000 inputs: the bins of their scores, between edges, `(bins + 1,)`, and whether they were flagged."""

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        self._places, self._flagged = np.empty(0, "int16"), np.empty(0, bool)

    def add(self, scores: npt.NDArray[Any], flagged: npt.NDArray[np.bool_]) -> None:
        """Take in finite scores, `(n,)`, and verdicts, `(n,)`."""
        places = binned(scores, self.edges).astype("int16")
        self._places = np.concatenate([self._places, places])[-LAST:]
        self._flagged = np.concatenate([self._flagged, flagged])[-LAST:]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def flagged(self) -> int:
        """How many of them were flagged."""
        return int(np.count_nonzero(self._flagged))

    def histogram(self) -> Counts:
        """How many scores are in each bin: `(bins,)`."""
        return np.bincount(self._places, minlength=len(self.edges) - 1)


class Trace:
    """The course of a number in at most 256 points: when there are more, every second point is dropped."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float]] = []
        self._stride = 1
        self._last: tuple[int, float] | None = None

    def add(self, at: int, value: float) -> None:
        """The number is `value` after `at` inputs."""
        self._last = (at, value)
        if self._points and at < self._points[-1][0] + self._stride:
            return
        self._points.append((at, value))
        while len(self._points) >= POINTS:
            self._points = self._points[::2]
            self._stride = max(2 * self._stride, self._points[1][0] - self._points[0][0])

    def points(self) -> list[tuple[int, float]]:
        """Inputs and number, in order; the last point is always among them."""
        last = [] if self._last is None or self._last in self._points[-1:] else [self._last]
        return self._points + last


class Stream:
    """What came since a guard is served: counts, rates, scores, and the evidence for drift."""

    def __init__(self, guard: TensorGuard) -> None:
        calibration, edges = guard.calibration, log_edges(guard.calibration, guard.threshold)
        self.count = self.flagged = self.invalid = 0
        self.rates, self.lately, self.trace = Rates(), Lately(edges), Trace()
        self._calibration: dict[str, Any] | None = None
        self._shares: list[float] | None = None
        if calibration is not None:
            size = sum(one.n for one in calibration.ordinary.values())
            self._calibration = {"size": size, "promised": calibration.fpr, "rate": calibration_rate(calibration)}
            scores, counts = weighted(calibration.ordinary.values())
            found = np.bincount(binned(scores.astype("float64"), edges), weights=counts, minlength=len(edges) - 1)
            self._shares = (found / counts.sum()).tolist()

    def add(self, now: float, scores: npt.NDArray[Any], flagged: npt.NDArray[np.bool_]) -> None:
        """Take in finite scores, `(n,)`, and verdicts, `(n,)`."""
        raised = int(np.count_nonzero(flagged))
        self.count += len(scores)
        self.flagged += raised
        self.rates.add(now, len(scores), raised)
        self.lately.add(scores, flagged)

    def figures(self, now: float) -> dict[str, Any]:
        """What the page shows."""
        counts, flagged = self.rates.series(now)
        edges, live = self.lately.edges.tolist(), self.lately.histogram().tolist()
        return {
            "calibration": self._calibration,
            "count": self.count,
            "flagged": self.flagged,
            "invalid": self.invalid,
            "lately": {"count": len(self.lately), "flagged": self.lately.flagged},
            "rates": {"seconds": SECONDS, "counts": counts, "flagged": flagged},
            "histogram": {"edges": edges, "live": live, "calibration": self._shares},
        }


def binned(scores: npt.NDArray[Any], edges: Edges) -> Counts:
    """The bin of each score; a score equal to an upper edge, such as the threshold, is in the bin below it."""
    return np.clip(np.searchsorted(edges, scores) - 1, 0, len(edges) - 2)


def levels_of(threshold: Any) -> Edges:
    """The finite thresholds of a guard: one, one for each class, or none."""
    levels = np.ravel(np.asarray(np.nan if threshold is None else threshold, "float64"))
    return np.asarray(levels[np.isfinite(levels)])


def log_edges(calibration: Calibration | None, threshold: Any) -> Edges:
    """Edges of equal ratio from the smallest calibration scores to far above them; the lowest threshold is an edge.

    Without calibration and threshold, from a millionth of a nat to a hundred.
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


def calibration_rate(calibration: Calibration) -> float:
    """The share of all calibration scores that are above their threshold."""
    thresholds = np.asarray(calibration.threshold, "float64")
    above = total = 0.0
    for group, one in calibration.ordinary.items():
        level = float(thresholds) if thresholds.ndim == 0 else np.nan if group is None else float(thresholds[group])
        above += one.n - int(one.below(np.asarray([level]), ties=True)[0])
        total += one.n
    return above / total


# For JSON -------------------------------------------------------------------------------------------------------------


def of_guard(guard: TensorGuard) -> dict[str, Any]:
    """What a guard takes and gives, and its lowest and highest threshold."""
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
    """How to send a picture to a guard with one input, of pictures; None for other guards."""
    if len(guard.inputs) != 1:
        return None
    ((name, one),) = guard.inputs.items()
    found = image_shape(tuple(one.shape))
    if found is None or np.dtype(one.dtype or "float32").kind not in "fiu":
        return None
    kind, height, width, channels = found
    return {"name": name, "kind": kind, "height": height, "width": width, "channels": channels, "dtype": str(one.dtype)}


def of_monitor(monitor: Monitor, trace: Trace) -> dict[str, Any]:
    """What a monitor has found, and the course of the evidence."""
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
        "trace": [[at, _finite(value)] for at, value in trace.points()],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
