"""Watches what a guard says of the inputs that come: for drift, and for people who look."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from demur.drift.monitor import Monitor
from demur.drift.reference import fingerprint
from demur.drift.state import Alarm
from demur.errors import MissingExtra
from demur.guards.tensors import TensorGuard
from demur.serve.watching.alarms import Webhook, cloud_event
from demur.serve.watching.logs import FIELDS
from demur.serve.watching.recent import Recent
from demur.serve.watching.state import StateFile
from demur.serve.watching.summary import SECONDS, Lately, Rates, Trace, log_edges, of_calibration, of_guard, of_monitor
from demur.serve.watching.telemetry import Telemetry

logger = logging.getLogger("demur.serve.watch")

Array = npt.NDArray[Any]

PAUSE = 0.2
"""Seconds in which what was seen is gathered before it is looked at."""
SAVE_EVERY = 5.0
"""Seconds between two writes of the state, at least."""
PENDING = 32_768
"""Inputs seen and not looked at yet, beyond which whoever brings more looks at them."""
STEP = 1_000
"""Inputs looked at together: NumPy lets no other thread run while it works on the numbers of very many."""


class Watch:
    """Watches the stream of one model: its flagged rate, its scores, drift, and the last flagged inputs.

    `saw` is meant for the thread that answers: it takes copies of a few numbers, and a thread of the watch's own does
    the rest, some five times a second. Nothing that fails here reaches an answer.

    Args:
        guard: as `demur.runtime.load` returns it.
        name: the model's.
        telemetry: what is told of it.
        state: the folder in which the drift monitor's state is kept as `<name>.json`; None: it ends with the server.
        webhooks: addresses that alarms are sent to.
        monitor: whether to watch for drift.
        alpha: the chance of a false alarm; `tolerance`, `method`, `cooldown`, `every`: see `demur.drift.Monitor`.
        keep: how many flagged inputs are kept to be looked at.
        version: the model's.
        clock: seconds since 1970.

    Raises:
        InvalidSetting: a webhook is no http or https address, or a setting of the monitor has no meaning.
    """

    def __init__(
        self,
        guard: TensorGuard,
        name: str,
        telemetry: Telemetry,
        *,
        state: Path | None = None,
        webhooks: Sequence[str] = (),
        monitor: bool = True,
        alpha: float = 0.01,
        tolerance: float = 0.0,
        method: str = "martingale",
        cooldown: int | None = None,
        every: int = 1,
        keep: int = 12,
        version: str = "1",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.version, self._watches = name, version, monitor
        self._telemetry, self._clock, self._keep = telemetry, clock, keep
        self._settings: dict[str, Any] = {
            "alpha": alpha,
            "tolerance": tolerance,
            "method": method,
            "cooldown": cooldown,
            "every": every,
        }
        self._webhooks = [Webhook(url, ended=lambda outcome: telemetry.delivery(name, outcome)) for url in webhooks]
        self._file = None if state is None else StateFile(state, name, clock)
        self._lock = threading.RLock()
        """Held by whoever changes or reads the figures; never while a network runs or a file is written."""
        self._working, self._saving = threading.Lock(), threading.Lock()
        self._pending: list[tuple[Array, Array, Array]] = []
        self._rows = 0
        self._adding = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._failures: set[tuple[str, str]] = set()
        self._saved_at, self._saved_count = -np.inf, -1
        self._since = clock()
        self._begin(guard)
        telemetry.before_exposition(self.flush)

    def _begin(self, guard: TensorGuard) -> None:
        """Start counting for a guard."""
        self.guard = guard
        self._calibration = guard.calibration
        self._count = self._flagged = self._invalid = 0
        self._rates = Rates()
        edges = log_edges(self._calibration, guard.threshold)
        self._lately = Lately(edges)
        self._normal = None if self._calibration is None else of_calibration(self._calibration, edges)
        self._trace = Trace()
        self._recent = Recent(guard, self._keep, self._clock)
        self._telemetry.model(self.name, guard, self.version)
        self._monitor, self._why = self._watching()
        self._latest = 0.0
        if self._monitor is not None:
            self._latest = self._monitor.state()["now"] or 0.0
            self._trace.add(self._monitor.count, self._monitor.log_evidence)
        self._tell()

    # Seeing -------------------------------------------------------------------------------------------------------

    def saw(self, feed: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Take note of a batch that was answered. Never raises.

        Args:
            feed: the arrays of rows, by input.
            outputs: what the guard said; at least `instance_score`, `is_adversarial`, `corrected`, `no_defense`.
        """
        try:
            scores = np.array(outputs["instance_score"], "float64")  # copies: a caller may reuse its arrays
            flagged = np.array(outputs["is_adversarial"], bool)
            predicted = np.array(outputs["no_defense"], "int64")
            with self._adding:
                self._pending.append((scores, flagged, predicted))
                self._rows += len(scores)
                behind = self._rows > PENDING
            if self._keep:
                self._recent.offer(feed, outputs, flagged)
            if self._thread is None:
                self._start()
            self._wake.set()
            if behind:
                self.flush()
        except Exception as error:
            self._failed("seeing", error)

    def flush(self) -> None:
        """Look at what was seen up to now. Never raises."""
        with self._lock:
            with self._adding:
                pending, self._pending, self._rows = self._pending, [], 0
            if not pending:
                return
            try:
                seen = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
                for begin in range(0, len(seen[0]), STEP):
                    self._look(*(array[begin : begin + STEP] for array in seen))
            except Exception as error:
                self._failed("counting", error)

    def _look(self, scores: Array, flagged: Array, predicted: Array) -> None:
        now = self._clock()
        valid = np.isfinite(scores)
        self._telemetry.judged(self.name, scores, flagged)
        self._invalid += int(np.count_nonzero(~valid))
        scores, flagged, predicted = scores[valid], flagged[valid], predicted[valid]
        self._count += len(scores)
        self._flagged += int(np.count_nonzero(flagged))
        self._rates.add(now, len(scores), int(np.count_nonzero(flagged)))
        self._lately.add(scores, flagged)
        if self._monitor is None:
            return
        if self._calibration.by_class:  # a class that no calibration row had says nothing about drift
            known = np.isin(predicted, list(self._calibration.ordinary))
            scores, predicted = scores[known], predicted[known]
        if not len(scores):
            return
        self._latest = max(self._latest, now)  # a clock that is set back must not end the watch
        was_dependent = self._monitor.is_dependent
        try:
            self._monitor.update(scores=scores, predicted=predicted, time=self._latest)
        except Exception as error:
            self._failed("monitoring", error)
        if self._monitor.is_dependent and not was_dependent:
            logger.warning("drift of model %s: %s", self.name, self._monitor.dependence_said)
        self._trace.add(self._monitor.count, self._monitor.log_evidence)
        self._tell()

    def _tell(self) -> None:
        monitor = self._monitor
        if monitor is not None:
            limit = float(np.log(monitor.limit))
            self._telemetry.drift(self.name, monitor.log_evidence, limit, alarm=monitor.alarm)

    # Working beside -----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """One round of what is done beside serving: count, make pictures, write the state. Never raises."""
        self.flush()
        with self._working:
            try:
                self._recent.work()
            except Exception as error:
                self._failed("picturing", error)
        if not 0 <= self._clock() - self._saved_at < SAVE_EVERY:  # less than 0 if the clock was set back
            self.save()

    def _start(self) -> None:
        with self._adding:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name=f"demur-watch-{self.name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            busy = self._recent.waits() or self._is_unsaved()
            self._wake.wait(PAUSE if busy else None)
            self._wake.clear()
            self.work()
            self._closing.wait(PAUSE)

    def _is_unsaved(self) -> bool:
        return self._file is not None and self._monitor is not None and self._monitor.count != self._saved_count

    def save(self) -> None:
        """Write the drift monitor's state now, whole or not at all. Never raises."""
        with self._saving:
            self._save()

    def _save(self) -> None:
        try:
            with self._lock:
                if self._file is None or self._monitor is None or not self._is_unsaved():
                    return
                self._saved_at, count, state = self._clock(), self._monitor.count, self._monitor.state()
            self._file.write(state)  # outside the lock: a disk may be slow
            self._saved_count = count
        except Exception as error:
            self._failed("saving", error)

    def close(self) -> None:
        """Look at the rest, write the state, and give what is under way to webhooks a moment."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self.flush()
        self.save()
        for webhook in self._webhooks:
            webhook.close()

    def replaced(self, guard: TensorGuard) -> None:
        """The model's file was replaced. What was gathered goes on if the calibration is the same, else begins anew."""
        self.flush()
        with self._saving:  # no state of the guard before may be written from here on
            self._save()
            with self._lock:
                if _mark(guard) != _mark(self.guard):
                    logger.info("model %s was replaced by one calibrated otherwise: watching begins anew", self.name)
                    self._saved_count = -1
                    self._begin(guard)
                    return
                self.guard = guard
                self._recent = Recent(guard, self._keep, self._clock)
                self._telemetry.model(self.name, guard, self.version)

    def reset(self) -> None:
        """End an alarm, and gather evidence anew."""
        self.flush()
        with self._saving:  # a state with the alarm, which is on its way to the file, must not be taken for this one
            with self._lock:
                if self._monitor is None:
                    return
                logger.info("evidence for drift of model %s is gathered anew: somebody asked for it", self.name)
                self._monitor.reset()
                self._trace.add(self._monitor.count, self._monitor.log_evidence)
                self._saved_count = -1
                self._tell()
            self._save()

    # Drift --------------------------------------------------------------------------------------------------------

    def _watching(self) -> tuple[Monitor | None, str | None]:
        """A monitor, the one of the state file if it fits; or why there is none."""
        if self._calibration is None:
            return None, "not calibrated"
        if not self._watches:
            return None, "switched off"
        try:
            fresh = Monitor(self._calibration, on_alarm=self._alarmed, **self._settings)
            fresh.warns = False  # the log has it
        except MissingExtra as error:
            logger.warning("drift of model %s is not watched: %s", self.name, error)
            return None, str(error)
        kept = None if self._file is None else self._file.resumed(fresh, self._calibration, self._alarmed)
        if kept is None:
            return fresh, None
        kept.warns = False
        self._saved_count = kept.count
        logger.info("drift of model %s is watched on, from %d inputs", self.name, kept.count)
        return kept, None

    def _alarmed(self, alarm: Alarm) -> None:
        """The monitor has raised an alarm: log it, count it, send it. Never raises."""
        try:
            monitor = cast("Monitor", self._monitor)  # it calls this
            data = {
                "model": self.name,
                "version": self.version,
                "detector": str(self.guard.detector),
                "scores": alarm.at,
                "evidence": float(np.exp(min(alarm.log_evidence, 700.0))),
                "limit": monitor.limit,
                "method": monitor.method,
                "alpha": monitor.alpha,
                "tolerance": monitor.tolerance,
                "flagged_rate": self._lately.flagged / max(len(self._lately), 1),
                "alarms": monitor.alarm_count,
            }
            logger.warning(
                "harmful drift in the inputs of model %s", self.name, extra={FIELDS: {"event": "drift_alarm"} | data}
            )
            self._telemetry.drift_alarm(self.name)
            self._saved_at = -np.inf  # an alarm is written soon: it must not be raised twice
            for webhook in self._webhooks:
                webhook.send(cloud_event(self.name, data, self._clock()))
        except Exception as error:
            self._failed("alarming", error)

    # What it says -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """What the page shows, for JSON; what is infinite or unknown is None."""
        self.flush()
        with self._lock:
            now = self._clock()
            counts, flagged = self._rates.series(now)
            edges = self._lately.edges
            low, high = self._recent.range()
            return {
                "model": self.name,
                "version": self.version,
                "time": now,
                "since": self._since,
                **of_guard(self.guard),
                "range": {"low": low, "high": high, "seen": self._recent.has_seen},
                "calibration": None if self._normal is None else self._normal[0],
                "count": self._count,
                "flagged": self._flagged,
                "invalid": self._invalid,
                "lately": {"count": len(self._lately), "flagged": self._lately.flagged},
                "rates": {"seconds": SECONDS, "counts": counts, "flagged": flagged},
                "histogram": {
                    "edges": edges.tolist(),
                    "live": self._lately.histogram().tolist(),
                    "calibration": None if self._normal is None else self._normal[1],
                },
                "drift": {"watched": False, "why": self._why}
                if self._monitor is None
                else of_monitor(self._monitor, self._trace.points()),
                "recent": self._recent.entries(),
                "speed": {"inputs": self._rates.per_second(now), **self._telemetry.times(self.name)},
            }

    def picture(self, number: int, which: str) -> bytes | None:
        """A PNG file of a flagged input: `which` is "input" or "reconstruction"; None where there is none."""
        return self._recent.picture(number, which)

    def _failed(self, what: str, error: Exception) -> None:
        """Count an error, and log it if it is the first of its kind."""
        kind = (what, type(error).__name__)
        self._telemetry.failure(self.name, kind[1])
        if kind not in self._failures:
            self._failures.add(kind)
            logger.error("%s the inputs of model %s failed; answers go on", what, self.name, exc_info=error)


def _mark(guard: TensorGuard) -> tuple[Any, ...]:
    """What two guards share whose figures may be added up."""
    calibration = guard.calibration
    if calibration is None:
        return (None, np.asarray(guard.threshold).tolist(), guard.inputs)
    return (fingerprint(calibration), np.asarray(guard.threshold).tolist(), guard.inputs)
