"""The metrics for Prometheus: requests, batches, flagged inputs, scores, and drift."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.guards.tensors import TensorGuard
from demur.serve.watching.summary import levels_of

OTHER = "other"
"""The label of requests for models that are not served: there could be any number of names."""
SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHARES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""The quantiles of the calibration scores at which the score histogram has bounds."""
BEYOND = 6
"""Further bounds: doublings of the largest one."""
KEPT_SECONDS = 1024
"""How many times of requests are kept, for percentiles."""


class Telemetry:
    """The metrics, in a registry for each server, so that several servers can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def new(kind: Any, name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(f"demur_{name}", text, ("model", *labels), registry=self.registry, **more)

        self._requests = new(Counter, "requests", "Requests answered, by status.", "protocol", "status")
        self._seconds = new(
            Histogram, "request_seconds", "Time from a request to its answer.", "protocol", buckets=SECONDS
        )
        self._sizes = new(Histogram, "batch_size", "Inputs judged together.", buckets=SIZES)
        self._batches = new(Histogram, "batch_seconds", "Time that a batch took in the runtime.", buckets=SECONDS)
        self._queue = new(Gauge, "queue_length", "Inputs that wait for a batch.")
        self._inputs = new(Counter, "inputs", "Inputs judged.")
        self._flagged = new(Counter, "flagged", "Inputs flagged.")
        self._invalid = new(Counter, "invalid_inputs", "Inputs that cannot be judged: NaN or infinite.")
        self._evidence = new(Gauge, "drift_log_evidence", "Natural logarithm of the evidence for drift.")
        self._limit = new(Gauge, "drift_limit", "Natural logarithm of the evidence that is enough.")
        self._alarm = new(Gauge, "drift_alarm", "1 while there is a drift alarm.")
        self._alarms = new(Counter, "drift_alarms", "Drift alarms since the server started.")
        self._deliveries = new(Counter, "webhook_deliveries", "Alarms told to a webhook, by outcome.", "outcome")
        self._failures = new(Counter, "watch_failures", "Errors in watching, which do not touch answers.", "kind")
        self._info = new(Gauge, "model_info", "1 for each model served.", "version", "detector", "sha256")
        self._told: dict[str, tuple[str, ...]] = {}
        self._scores = _Scores()
        self.registry.register(self._scores)
        self._times: dict[str, deque[float]] = {}
        self._children: dict[Any, Any] = {}
        self._before: list[Callable[[], None]] = []

    # What is served ----------------------------------------------------------------------------------------------

    def model(self, model: str, guard: TensorGuard, version: str = "1") -> None:
        """A model is served from now on, or has a new guard: only such names become labels."""
        if model in self._told:
            self._info.remove(*self._told[model])
        self._told[model] = (model, version, str(guard.detector), str(guard.sha256))
        self._info.labels(*self._told[model]).set(1)
        self._scores.bounds(model, score_bounds(guard.calibration, guard.threshold))
        self._times.setdefault(model, deque(maxlen=KEPT_SECONDS))
        for counter in (self._inputs, self._flagged, self._invalid, self._alarms):
            counter.labels(model)  # a counter is there from the start, so that rates can be computed

    def before_exposition(self, function: Callable[[], None]) -> None:
        """Call a function before each exposition, to hand in what is not counted yet."""
        self._before.append(function)

    # What happens ------------------------------------------------------------------------------------------------

    def request(self, model: str, protocol: str, status: int, seconds: float) -> None:
        """A request was answered."""
        model = model if model in self._told else OTHER
        self._child(self._requests, model, protocol, str(status)).inc()
        self._child(self._seconds, model, protocol).observe(seconds)
        if status == 200 and model in self._times:
            self._times[model].append(seconds)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """A batch went through the runtime."""
        self._child(self._sizes, model).observe(size)
        self._child(self._batches, model).observe(seconds)

    def queue(self, model: str, waiting: int) -> None:
        """`waiting` inputs wait now."""
        self._child(self._queue, model).set(waiting)

    def judged(self, model: str, scores: npt.NDArray[Any], flagged: npt.NDArray[Any]) -> None:
        """Inputs got scores, `(n,)`, and verdicts, `(n,)`; inputs that cannot be judged are counted apart."""
        valid = np.isfinite(scores)
        count = int(np.count_nonzero(valid))
        if count < len(scores):
            self._child(self._invalid, model).inc(len(scores) - count)
            scores, flagged = scores[valid], flagged[valid]
        self._child(self._inputs, model).inc(count)
        self._child(self._flagged, model).inc(int(np.count_nonzero(flagged)))
        self._scores.add(model, scores)

    def drift(self, model: str, log_evidence: float, log_limit: float, *, alarm: bool) -> None:
        """The figures of the drift monitor are these now."""
        self._child(self._evidence, model).set(log_evidence)
        self._child(self._limit, model).set(log_limit)
        self._child(self._alarm, model).set(alarm)

    def drift_alarm(self, model: str) -> None:
        """The drift monitor raised an alarm."""
        self._child(self._alarms, model).inc()

    def delivery(self, model: str, outcome: str) -> None:
        """The sending of an alarm ended: "delivered", "failed", or "dropped" as too many waited."""
        self._child(self._deliveries, model, outcome).inc()

    def failure(self, model: str, kind: str) -> None:
        """Watching failed with an error of the class `kind`."""
        self._child(self._failures, model, kind).inc()

    # What it says ------------------------------------------------------------------------------------------------

    def times(self, model: str) -> dict[str, float | None]:
        """The 50th and 99th percentile of the times of the last 1,024 requests answered, in seconds."""
        times = list(self._times.get(model, ()))
        return {f"p{share}": float(np.percentile(times, share)) if times else None for share in (50, 99)}

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The body for `/metrics` and its content type: OpenMetrics where the `Accept` header asks for it."""
        for function in self._before:
            function()
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def _child(self, metric: Any, *labels: str) -> Any:
        # `labels()` takes a lock and checks names at each call, which costs several times what an increment does.
        key = (id(metric), *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


class _Scores:
    """The histogram of scores: a batch at a time, without a loop over its rows."""

    def __init__(self) -> None:
        self._bounds: dict[str, npt.NDArray[np.float64]] = {}
        self._counts: dict[str, npt.NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()

    def bounds(self, model: str, bounds: npt.NDArray[np.float64]) -> None:
        """Count between these bounds; counting begins anew if they have changed."""
        with self._lock:
            if model in self._bounds and np.array_equal(bounds, self._bounds[model]):
                return
            self._bounds[model] = bounds
            self._counts[model] = np.zeros(len(bounds) + 1, "int64")
            self._sums[model] = 0.0

    def add(self, model: str, scores: npt.NDArray[Any]) -> None:
        """Count scores, all finite."""
        with self._lock:
            places = np.searchsorted(self._bounds[model], scores)
            self._counts[model] += np.bincount(places, minlength=len(self._counts[model]))
            self._sums[model] += float(np.sum(scores, dtype="float64"))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histograms for Prometheus: counts of the scores up to each bound."""
        (family,) = self.describe()
        with self._lock:
            for model, bounds in self._bounds.items():
                names = [*map(floatToGoString, bounds.tolist()), "+Inf"]
                cumulative = np.cumsum(self._counts[model]).astype(float).tolist()
                family.add_metric((model,), list(zip(names, cumulative, strict=True)), self._sums[model])
        yield family

    def describe(self) -> list[HistogramMetricFamily]:
        """The empty family, so that registering does not collect."""
        return [HistogramMetricFamily("demur_score", "Scores of inputs, in nats.", labels=("model",))]


def score_bounds(calibration: Calibration | None, threshold: Any) -> npt.NDArray[np.float64]:
    """Bounds for a histogram of scores: quantiles of calibration scores, the thresholds, and doublings above.

    Powers of ten without calibration and threshold.
    """
    levels = levels_of(threshold)
    levels = levels[levels > 0]
    found = [levels.min(), levels.max()] if len(levels) else []
    if calibration is not None:
        found += [float(f"{bound:.4g}") for bound in quantiles(calibration, SHARES)]
    found = [float(bound) for bound in found if bound > 0]
    if not found:
        return np.logspace(-6, 2, 9)
    return np.unique([*found, *(max(found) * 2.0 ** np.arange(1, BEYOND + 1)).tolist()])


def quantiles(calibration: Calibration, shares: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Quantiles of the calibration scores of all classes together."""
    kept = ScoreDistribution.pooled(calibration.ordinary.values()).kept
    ranks = np.ceil(np.asarray(shares) * len(kept) - 1e-9).astype(int)
    return np.asarray(kept[np.maximum(ranks, 1) - 1], "float64")
