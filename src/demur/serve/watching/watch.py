"""Watches what a guard says of the inputs that come: for drift, and for people who look at the page."""

import contextlib
import datetime
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import numpy as np

from demur.atomic import write_text
from demur.calibration.thresholds import Calibration
from demur.drift.monitor import Monitor
from demur.drift.reference import fingerprint
from demur.drift.state import Alarm
from demur.errors import CorruptMonitor, InvalidSetting, MissingExtra, WrongDetector
from demur.guards.tensors import Array, TensorGuard
from demur.serve.settings import Settings
from demur.serve.watching.alarms import Webhook, cloud_event
from demur.serve.watching.logs import FIELDS
from demur.serve.watching.recent import Recent
from demur.serve.watching.summary import Stream, of_guard, of_monitor
from demur.serve.watching.telemetry import Telemetry

logger = logging.getLogger("demur.serve.watch")

PAUSE = 0.2
"""Seconds between two rounds of the watch's thread."""
SAVE_EVERY = 5.0
"""Least seconds between two writes of the state."""
PENDING = 32_768
"""Inputs that may wait to be counted; beyond that, the thread that brings more counts them."""
STEP = 1_000
"""Inputs counted together: NumPy lets no other thread run while it works on very many numbers."""


class StateFile:
    """The file in which a drift monitor's state outlives the server: `<name>.json` in a folder, made if missing.

    The file is in the folder whatever the model's name is. Raises InvalidSetting if the folder cannot be made.
    """

    def __init__(self, folder: Path, name: str, clock: Callable[[], float]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSetting(
                f"the state folder {folder} cannot be made ({error.strerror}): name another"
            ) from error
        self._path: Path | None = folder / f"{quote(name, safe='')}.json"
        self._clock = clock

    def write(self, state: dict[str, Any]) -> None:
        """Write a monitor's state, whole or not at all; OSError if that fails."""
        if self._path is not None:
            write_text(self._path, json.dumps(state, indent=1) + "\n")

    def resumed(self, fresh: Monitor, calibration: Calibration, on_alarm: Callable[[Any], Any]) -> Monitor | None:
        """The monitor that the file holds; None if there is no file, or the file does not fit the `fresh` monitor.

        A file that does not fit is renamed, not deleted: somebody may want it.
        """
        if self._path is None:
            return None
        try:
            kept = Monitor.load(self._path, detector=calibration, on_alarm=on_alarm)
            if kept.state()["settings"] == fresh.state()["settings"]:
                return kept
            self._set_aside("other-settings", "it was gathered with other settings")
        except FileNotFoundError:
            pass
        except WrongDetector:
            self._set_aside("other-calibration", "it belongs to a guard with another calibration")
        except (CorruptMonitor, OSError) as error:
            self._set_aside("unreadable", f"it cannot be read: {error}")
        return None

    def _set_aside(self, why: str, because: str) -> None:
        path = cast("Path", self._path)  # `resumed` has looked
        moment = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).strftime("%Y%m%dT%H%M%S")
        names = (f"{path.stem}.{why}-{moment}{f'-{n}' if n > 1 else ''}.json" for n in itertools.count(1))
        aside = next(one for one in map(path.with_name, names) if not one.exists())
        try:
            path.rename(aside)
        except OSError as error:
            logger.error("the state %s cannot be used and stays as it is, no state is kept: %s", path, error)
            self._path = None
            return
        logger.warning("the state %s was moved to %s and a new one begun: %s", path, aside.name, because)


class Watch:
    """Watches the stream of one model: its flagged rate, its scores, drift, and the last flagged inputs.

    The thread that answers calls `saw`, which copies a few numbers. A thread of the watch does the rest, some five
    times a second. Nothing that fails here reaches an answer.

    Args:
        telemetry: where the watch counts.
        settings: the ones from `monitor` to `webhooks` say what is watched.
        keep: how many flagged inputs the page can show.
        clock: seconds since 1970.

    Raises:
        InvalidSetting: a webhook is not an http or https address, or the state folder cannot be made.
    """

    def __init__(
        self,
        guard: TensorGuard,
        name: str,
        telemetry: Telemetry,
        settings: Settings | None = None,
        *,
        keep: int = 12,
        version: str = "1",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.version = name, version
        self._settings = settings = Settings() if settings is None else settings
        self._telemetry, self._clock, self._keep = telemetry, clock, keep
        self._webhooks = [
            Webhook(url, ended=lambda outcome: telemetry.delivery(name, outcome)) for url in settings.webhooks
        ]
        self._file = None if settings.state is None else StateFile(Path(settings.state), name, clock)
        self._lock = threading.RLock()
        """Held while figures change or are read; never while a network runs or a file is written."""
        self._working, self._saving, self._adding = threading.Lock(), threading.Lock(), threading.Lock()
        self._pending: list[tuple[Array, Array, Array]] = []
        self._rows = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._failures: set[tuple[str, str]] = set()
        self._saved_at, self._saved_count = -np.inf, -1
        self._since = clock()
        self._begin(guard)
        telemetry.before_exposition(self.flush)

    def _begin(self, guard: TensorGuard) -> None:
        """Start counting for a guard."""
        self._calibration, self._stream = guard.calibration, Stream(guard)
        self._take(guard)
        self._monitor, self._why = self._watching()
        self._latest = 0.0
        if self._monitor is not None:
            self._latest = self._monitor.state()["now"] or 0.0
        self._tell()

    def _take(self, guard: TensorGuard) -> None:
        self.guard = guard
        self._recent = Recent(guard, self._keep, self._clock)
        self._telemetry.model(self.name, guard, self.version)

    @contextlib.contextmanager
    def _safely(self, what: str) -> Iterator[None]:
        """Count an error instead of raising it, and log the first of each kind."""
        try:
            yield
        except Exception as error:
            kind = (what, type(error).__name__)
            self._telemetry.failure(self.name, kind[1])
            if kind not in self._failures:
                self._failures.add(kind)
                logger.error("%s the inputs of model %s failed; answers go on", what, self.name, exc_info=error)

    # Seeing -------------------------------------------------------------------------------------------------------

    def saw(self, feed: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Take note of a batch that was answered, with all default outputs of the guard. Never raises."""
        with self._safely("seeing"):
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

    def flush(self) -> None:
        """Count what was seen up to now. Never raises."""
        with self._lock:
            with self._adding:
                pending, self._pending, self._rows = self._pending, [], 0
            if not pending:
                return
            with self._safely("counting"):
                seen = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
                for begin in range(0, len(seen[0]), STEP):
                    self._look(*(array[begin : begin + STEP] for array in seen))

    def _look(self, scores: Array, flagged: Array, predicted: Array) -> None:
        now = self._clock()
        valid = np.isfinite(scores)
        self._telemetry.judged(self.name, scores, flagged)
        self._stream.invalid += int(np.count_nonzero(~valid))
        scores, predicted = scores[valid], predicted[valid]
        self._stream.add(now, scores, flagged[valid])
        monitor = self._monitor
        if monitor is None:
            return
        if self._calibration.by_class:  # a class that no calibration row had says nothing about drift
            known = np.isin(predicted, list(self._calibration.ordinary))
            scores, predicted = scores[known], predicted[known]
        if not len(scores):
            return
        self._latest = max(self._latest, now)  # a clock that is set back must not end the watch
        was_dependent = monitor.is_dependent
        with self._safely("monitoring"):
            monitor.update(scores=scores, predicted=predicted, time=self._latest)
        if monitor.is_dependent and not was_dependent:
            logger.warning("drift of model %s: %s", self.name, monitor.dependence_said)
        self._tell()

    def _tell(self) -> None:
        """Tell the page and the telemetry where the evidence for drift stands."""
        if (monitor := self._monitor) is not None:
            self._stream.trace.add(monitor.count, monitor.log_evidence)
            limit = float(np.log(monitor.limit))
            self._telemetry.drift(self.name, monitor.log_evidence, limit, alarm=monitor.alarm)

    # Working beside -----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """One round of what is done beside serving: count, make pictures, write the state. Never raises."""
        self.flush()
        with self._working, self._safely("picturing"):
            self._recent.work()
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
        with self._safely("saving"):
            with self._lock:
                if self._file is None or self._monitor is None or not self._is_unsaved():
                    return
                self._saved_at, count, state = self._clock(), self._monitor.count, self._monitor.state()
            self._file.write(state)  # outside the lock: a disk may be slow
            self._saved_count = count

    def close(self) -> None:
        """Count the rest, write the state, and give the webhooks a moment for what they are sending."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self.flush()
        self.save()
        for webhook in self._webhooks:
            webhook.close()

    def replaced(self, guard: TensorGuard) -> None:
        """The model's file was replaced. The figures go on if the calibration is the same, else they begin anew."""
        self.flush()
        with self._saving:  # no state of the guard before may be written from here on
            self._save()
            with self._lock:
                if _mark(guard) == _mark(self.guard):
                    self._take(guard)
                    return
                logger.info("model %s was replaced by one calibrated otherwise: watching begins anew", self.name)
                self._saved_count = -1
                self._begin(guard)

    def reset(self) -> None:
        """End an alarm, and gather evidence anew."""
        self.flush()
        with self._saving:  # a state with the alarm, which is on its way to the file, must not be taken for this one
            with self._lock:
                if self._monitor is None:
                    return
                logger.info("evidence for drift of model %s is gathered anew: somebody asked for it", self.name)
                self._monitor.reset()
                self._saved_count = -1
                self._tell()
            self._save()

    # Drift --------------------------------------------------------------------------------------------------------

    def _watching(self) -> tuple[Monitor | None, str | None]:
        """A monitor, from the state file if that fits; or the reason why nothing is watched."""
        if self._calibration is None:
            return None, "not calibrated"
        if not self._settings.monitor:
            return None, "switched off"
        chosen: dict[str, Any] = {
            name: getattr(self._settings, name) for name in ("alpha", "tolerance", "cooldown", "every")
        }
        try:
            monitor = Monitor(self._calibration, on_alarm=self._alarmed, **chosen)
        except MissingExtra as error:
            logger.warning("drift of model %s is not watched: %s", self.name, error)
            return None, str(error)
        kept = None if self._file is None else self._file.resumed(monitor, self._calibration, self._alarmed)
        if kept is not None:
            monitor, self._saved_count = kept, kept.count
            logger.info("drift of model %s is watched on, from %d inputs", self.name, kept.count)
        monitor.warns = False  # the log has it
        return monitor, None

    def _alarmed(self, alarm: Alarm) -> None:
        """The monitor has raised an alarm: log it, count it, send it. Never raises."""
        with self._safely("alarming"):
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
                "flagged_rate": self._stream.lately.flagged / max(len(self._stream.lately), 1),
                "alarms": monitor.alarm_count,
            }
            logger.warning(
                "harmful drift in the inputs of model %s", self.name, extra={FIELDS: {"event": "drift_alarm"} | data}
            )
            self._telemetry.drift_alarm(self.name)
            self._saved_at = -np.inf  # an alarm is written soon: it must not be raised twice
            for webhook in self._webhooks:
                webhook.send(cloud_event(self.name, data, self._clock()))

    # What it says -------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """What the page shows, for JSON; what is infinite or unknown is None."""
        self.flush()
        with self._lock:
            now, monitor = self._clock(), self._monitor
            low, high = self._recent.range()
            drift = {"watched": False, "why": self._why} if monitor is None else of_monitor(monitor, self._stream.trace)
            return {
                "model": self.name,
                "version": self.version,
                "time": now,
                "since": self._since,
                **of_guard(self.guard),
                **self._stream.figures(now),
                "range": {"low": low, "high": high, "seen": self._recent.has_seen},
                "drift": drift,
                "recent": self._recent.entries(),
                "speed": {"inputs": self._stream.rates.per_second(now), **self._telemetry.times(self.name)},
            }

    def picture(self, number: int, which: str) -> bytes | None:
        """A PNG file of a flagged input: `which` is "input" or "reconstruction"; None where there is none."""
        return self._recent.picture(number, which)


def _mark(guard: TensorGuard) -> tuple[Any, ...]:
    """What two guards must share for their figures to be added up."""
    calibration = guard.calibration
    known = None if calibration is None else fingerprint(calibration)
    return known, np.asarray(guard.threshold).tolist(), guard.inputs
