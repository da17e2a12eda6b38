"""A monitor: watches an endless stream of scores, and raises an alarm."""

import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import numpy as np

from demur import checks
from demur.atomic import write_text
from demur.calibration.dependence import Autocorrelation, Dependence
from demur.calibration.thresholds import Calibration
from demur.calibration.words import count, number, percent
from demur.checks import check_whole, is_number, seconds_of
from demur.documents import Malformed, Parts, reading
from demur.drift.evidence import Array, Evidence, Observed, Settings
from demur.drift.reference import Reference, calibration_of, fingerprint, scores_of
from demur.drift.state import KEPT, Alarm, Asked, State, read
from demur.errors import CorruptMonitor, DependentRows, InvalidSetting, WrongDetector, WrongType
from demur.guards.base import Guard
from demur.summary import Readable, Summary

Method = Literal["martingale", "cusum", "window"]
CHUNK = 16_384
"""Scores that are looked at together, which bounds the memory."""
KEPT_ALARMS = 100


@checks.explained_methods
class Monitor(Readable):
    """Watches an endless stream of scores, in constant memory, for drift that raises them.

    Drift that harms the classifier raises scores. With the default method the chance of ever raising a false alarm is
    at most `alpha`, however long the stream runs and whenever one looks: for independent rows like the rows that
    `infer_threshold` was given, and over the draw of these.

    Rows of a stream often depend on the rows before: frames of one film, requests that are sent again, sessions. False
    alarms are then more frequent, with any method; the monitor warns where it notices. The remedy is `every=`: rows
    far enough apart hardly depend.

    Examples:
        >>> monitor = Monitor(detector, alpha=0.01)
        >>> for batch in np.split(X_new, 4):
        ...     alarms = monitor.update(batch)
        >>> monitor.save("monitor.json")

    Args:
        detector: a calibrated detector, or the `calibration` of one, for scores that come from elsewhere.
        alpha: the chance of a false alarm. With "cusum", the share of calibration sets for which `run_length` may not
            hold.
        method: "martingale": testing by betting (Vovk et al., 2021) on p-values that hold given the calibration scores
            (Bates et al., 2023; Prinster et al., 2026). "cusum": cumulative sums of the same bets; quicker after a long
            quiet time, with a false alarm every `run_length` scores or more on average. "window": a Mann-Whitney test
            of each window, with less and less of `alpha`.
        tolerance: share of the inputs that may be arbitrarily bad without an alarm. 0 asks whether any input is worse
            than before; with 0.05 more than 5 % of the stream must be.
        run_length: of "cusum": scores between two false alarms, on average, at least.
        window: of "window": how many scores, or how long ("1h", a `timedelta`) a window is.
        cooldown: how many scores, or how long, to wait after an alarm before evidence is gathered anew. None: the alarm
            stays until `reset()`.
        every: 10 to look at every tenth score alone, where scores depend on the scores before. The others count in
            `passed`; a window, cooldown or run length counts only scores that are looked at.
        on_alarm: a function that is called with each `Alarm`, or a list of functions. They are not saved.

    Attributes:
        count: scores that were looked at.
        passed: scores that `every` passed over.
        invalid: rows that could not be judged; they count nowhere else.
        alarms: the last 100 alarms.
        alarm_count: how many alarms there were.
        is_dependent: whether scores were found to depend on the scores before, since the last `reset()`.
        warns: whether to warn (`demur.errors.DependentRows`) then; True unless it is set to False.

    Raises:
        NotCalibrated: `infer_threshold` was not called.
        InvalidSetting, WrongType, MissingExtra: see `demur.errors`.
    """

    def __init__(
        self,
        detector: Guard | Calibration,
        *,
        alpha: float = 0.01,
        method: Method = "martingale",
        tolerance: float = 0.0,
        run_length: int = 100_000,
        window: int | float | str | datetime.timedelta = 500,
        cooldown: int | float | str | datetime.timedelta | None = None,
        every: int = 1,
        on_alarm: Callable[[Alarm], Any] | list[Callable[[Alarm], Any]] | None = None,
    ) -> None:
        calibration = calibration_of(detector)
        if not (is_number(alpha) and 0 < alpha < 1):
            raise InvalidSetting(f"alpha is the chance of a false alarm, above 0 and below 1; got {alpha!r}")
        if not (is_number(tolerance) and 0 <= tolerance < 1):
            raise InvalidSetting(f"tolerance is a share of the inputs, from 0 to below 1; got {tolerance!r}")
        self.detector = detector if isinstance(detector, Guard) else None
        self.alpha, self.tolerance = float(alpha), float(tolerance)
        method = checks.chosen(method, Evidence.registry, "method")  # type: ignore[assignment]
        self.method = method
        check_whole("run_length", run_length, 2)
        self.run_length = int(run_length)
        self.window = _length(window, "window")
        self.cooldown = None if cooldown is None else _length(cooldown, "cooldown")
        check_whole("every", every, 1)
        self.every = int(every)
        self.on_alarm = _called(on_alarm)
        self._fingerprint = fingerprint(calibration)
        delta = Evidence.registry[method].share * self.alpha
        self._reference = Reference(calibration, delta, self.tolerance)
        self._evidence = self._fresh()
        self._autocorrelation = Autocorrelation()
        self.is_dependent, self.warns = False, True
        self.count, self.passed, self.invalid, self.alarm_count = 0, 0, 0, 0
        self.alarms: list[Alarm] = []
        self.log_evidence = self._evidence.start
        self._now: float | None = None
        self._resting: float | None = None
        """Evidence is gathered again from this number of scores, or this time, on; None while it is gathered."""
        self._is_alarmed = False

    def _fresh(self) -> Evidence:
        settings = Settings(self.alpha, self.run_length, self.window, self._reference.smallest, self.tolerance)
        return Evidence.registry[self.method].of(settings)

    # Watching -----------------------------------------------------------------------------------------------------

    def update(
        self, X: Any = None, *, scores: Any = None, predicted: Any = None, time: Any = None, batch_size: int = 256
    ) -> Self:
        """Look at the next rows or scores, one or many; returns the monitor.

        Args:
            X: `(n, *input_shape)`, rows, or a Dask collection of rows, in their order.
            scores: `(n,)` or a number, in nats, in place of rows.
            predicted: `(n,)`, the classes that the classifier predicted, with scores of a detector whose predicted
                classes have thresholds of their own.
            time: when they came: seconds, a `datetime`, or one of these for each row. It may not go backwards.
            batch_size: rows a forward pass.

        Raises:
            InvalidSetting: time goes backwards, or is needed and not given; nothing is looked at then.
            EmptyInput, NonFinite, ShapeMismatch, WrongType: see `demur.errors`.

        Warns:
            DependentRows: scores depend on the scores before, so the promise does not hold; once.
        """
        by_class = self._reference.calibration.by_class
        source = self._reference.calibration if self.detector is None else self.detector
        given = scores_of(source, X, scores, predicted, by_class=by_class, batch_size=batch_size)
        times = self._times(time, len(given.valid))
        observed = self._reference.observed(given, None if times is None else times[given.valid])
        self.invalid += int((~given.valid).sum())
        came = len(observed.p)
        observed = observed.part(-(self.count + self.passed) % self.every, None, self.every)
        self.passed += came - len(observed.p)
        was_dependent = self.is_dependent
        for begin in range(0, len(observed.p), CHUNK):
            self._take(observed.part(begin, begin + CHUNK))
        if times is not None:
            self._now = float(times[-1])
        if self.is_dependent and not was_dependent and self.warns:
            checks.warn(self.dependence_said, DependentRows)
        return self

    def _take(self, observed: Observed) -> None:
        """Look at scores: to the next alarm or the end of a rest, and on from there."""
        while len(observed.p):
            rest = self._rest(observed)
            if rest:
                self.count += rest
                observed = observed.part(rest, None)
                continue
            if self._resting is not None:
                self.reset()
            before = self._evidence.state()
            found = self._evidence.add(observed)
            enough = np.flatnonzero(found >= self._evidence.limit) if not self._is_alarmed else np.empty(0, "int64")
            looked = observed.place[: int(enough[0]) + 1] if len(enough) else observed.place
            self.is_dependent |= self._autocorrelation.add(looked) is not None
            if len(enough) == 0:
                self.count += len(found)
                self.log_evidence = float(found[-1])
                return
            upto = int(enough[0]) + 1
            if upto < len(found):  # the scores after the alarm are not looked at yet
                self._evidence = self._fresh()
                self._evidence.resume(before)
                self._evidence.add(observed.part(0, upto))
            self.count += upto
            self.log_evidence = float(found[upto - 1])
            self._raise_alarm(observed.part(upto - 1, upto))
            observed = observed.part(upto, None)

    def _rest(self, observed: Observed) -> int:
        """How many of the scores fall into a rest, during which no evidence is gathered."""
        if self._resting is None:
            return 0
        if isinstance(self.cooldown, int):
            return int(min(max(self._resting - self.count, 0), len(observed.p)))
        return int(np.searchsorted(observed.when, self._resting, side="left"))

    def _raise_alarm(self, last: Observed) -> None:
        alarm = Alarm(self.count, None if last.time is None else float(last.time[0]), self.log_evidence)
        self._is_alarmed = True
        self._autocorrelation.skip()  # rows before and after a drift differ by more than dependence
        self.alarms = [*self.alarms, alarm][-KEPT_ALARMS:]
        self.alarm_count += 1
        if isinstance(self.cooldown, int):
            self._resting = self.count + self.cooldown
        elif self.cooldown is not None:
            self._resting = float(last.when[0]) + self.cooldown
        for function in self.on_alarm:
            function(alarm)

    def reset(self) -> Self:
        """End the alarm, and gather evidence anew. `alpha` is then spent once more."""
        self._evidence = self._fresh()
        self.log_evidence = self._evidence.start
        self._resting, self._is_alarmed = None, False
        self._autocorrelation, self.is_dependent = Autocorrelation(), False
        return self

    def _times(self, time: Any, n: int) -> Array | None:
        """Moments in seconds, `(n,)`, checked; None where nobody said."""
        if time is None:
            if self._evidence.needs_time or isinstance(self.cooldown, float):
                raise InvalidSetting("a window or cooldown of a length in time needs to know when: update(..., time=)")
            return None
        moments = np.array([_moment(t) for t in np.atleast_1d(np.asarray(time, object)).ravel()], "float64")
        if len(moments) not in (1, n):
            raise InvalidSetting(f"time is one moment, or one for each of the {n} scores; got {len(moments)}")
        if not np.isfinite(moments).all():
            raise InvalidSetting("time must be finite")
        before = np.concatenate([[-np.inf if self._now is None else self._now], moments[:-1]])
        back = np.flatnonzero(moments < before)
        if len(back):
            raise InvalidSetting(
                f"time goes backwards, to {moments[back[0]]:g} after {before[back[0]]:g}: sort what came by time"
            )
        return np.broadcast_to(moments, (n,)) if len(moments) == 1 else moments

    # What it says -------------------------------------------------------------------------------------------------

    @property
    def alarm(self) -> bool:
        """Whether there is an alarm now, until the cooldown is over or `reset()`."""
        if not self._is_alarmed or self._resting is None:
            return self._is_alarmed
        now = self.count if isinstance(self.cooldown, int) else self._now
        return now is None or now < self._resting

    @property
    def evidence(self) -> float:
        """How much speaks for drift; enough is `limit`. Of "martingale", what 1 has become by betting on drift."""
        return math.exp(min(self.log_evidence, 700.0))

    @property
    def limit(self) -> float:
        """The evidence that is enough."""
        return math.exp(self._evidence.limit)

    @property
    def dependence(self) -> Dependence | None:
        """How much scores depend on the scores before; None before the first 512 scores."""
        return self._autocorrelation.dependence

    @property
    def dependence_said(self) -> str:
        """What it means that `is_dependent`, and what to do."""
        if self.dependence is None:
            return "nothing is known of how scores depend on those before"
        every = max(2, self.dependence.every) * self.every
        return (
            f"of the stream, {self.dependence.said}. Look at every {every}th score alone: Monitor(..., every={every}), "
            f"or --every {every}"
        )

    def summary(self) -> Summary:
        """What was looked at and found, in some lines: a string, which a notebook shows as HTML."""
        passed = f"; {self.passed:,} passed over by every={self.every}" if self.every > 1 else ""
        invalid = f"; {count(self.invalid, 'row')} could not be judged" if self.invalid else ""
        promise = (
            f"on average {count(self.run_length, 'score')} or more between two false alarms"
            if self.method == "cusum"
            else f"the chance of ever raising a false alarm is at most {percent(self.alpha)}"
        )
        facts = {
            "looked at": f"{count(self.count, 'score')}{passed}{invalid}",
            "evidence": f"{number(self.evidence)}; an alarm from {number(self.limit)} on",
            "alarms": count(self.alarm_count, "alarm"),
            "method": f"{self.method}: {promise}",
        }
        if self.alarms:
            facts["alarms"] += f", the last after {count(self.alarms[-1].at, 'score')}"
        if self.is_dependent:
            facts["beware"] = self.dependence_said
        return Summary(f"Monitor: {self._state}", facts)

    @property
    def _state(self) -> str:
        return "alarm" if self.alarm else "resting" if self._resting is not None else "no alarm"

    def __repr__(self) -> str:
        evidence = f"evidence {self.evidence:.3g} of {self.limit:.3g}"
        return f"<Monitor by {self.method}, {self.count:,} scores, {evidence}: {self._state}>"

    # Keeping ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the monitor knows, for JSON."""
        state = State(
            **{name: getattr(self, attribute) for name, attribute in KEPT.items()},
            settings=Asked(*(getattr(self, name) for name in Asked.__struct_fields__)),
            log_evidence=self.log_evidence if math.isfinite(self.log_evidence) else None,
            evidence=self._evidence.state(),
            autocorrelation=self._autocorrelation.state(),
        )
        return msgspec.to_builtins(state)  # type: ignore[no-any-return]

    def save(self, path: str | Path) -> None:
        """Write the state as JSON, whole or not at all.

        Raises:
            OSError: nothing can be written there.
        """
        write_text(Path(path), json.dumps(self.state(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path, *, detector: Guard | Calibration, on_alarm: Any = None) -> Self:
        """Go on from what `save` wrote, exactly.

        Args:
            path: the file.
            detector: the detector whose scores are watched, or its calibration.
            on_alarm: see `Monitor`.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptMonitor: the file is not the state of a monitor, or a newer demur wrote it.
            WrongDetector: the monitor watched a detector with other calibration scores.
        """
        calibration_of(detector)  # what is wrong with the detector is not the file's fault
        file = Path(path)
        with reading(f"{file} is not the state of a monitor", CorruptMonitor):
            state = read(file)
            try:
                monitor = cls(detector, on_alarm=on_alarm, **msgspec.structs.asdict(state.settings))
            except (InvalidSetting, WrongType) as error:
                raise Malformed(str(error)) from error
            if state.calibration != monitor._fingerprint:
                raise WrongDetector(
                    f"{file} is the state of a monitor of another detector, or of the same one calibrated on other "
                    "rows: its evidence means nothing here. Begin with a new monitor, and another file"
                )
            if state.resting is not None and monitor.cooldown is None:
                raise Malformed("it rests after an alarm, and has no cooldown to rest for")
            for name, attribute in KEPT.items():
                setattr(monitor, attribute, getattr(state, name))
            monitor.log_evidence = -math.inf if state.log_evidence is None else state.log_evidence
            if state.autocorrelation is not None:
                monitor._autocorrelation.resume(state.autocorrelation)
            monitor._evidence.resume(Parts(state.evidence))
        return monitor


def _length(length: Any, name: str) -> int | float:
    """A whole number of scores as an int, or a length of time as a float of seconds."""
    if isinstance(length, int) and not isinstance(length, bool):
        check_whole(name, length, 1)
        return length
    return seconds_of(length, name)


def _called(on_alarm: Any) -> list[Callable[[Alarm], Any]]:
    functions = [] if on_alarm is None else list(on_alarm) if isinstance(on_alarm, list | tuple) else [on_alarm]
    for function in functions:
        if not callable(function):
            raise WrongType(f"on_alarm is a function of an Alarm, or a list of such; got {function!r}")
    return functions


def _moment(time: Any) -> float:
    """A moment in seconds."""
    if isinstance(time, datetime.datetime):
        return time.timestamp()
    if isinstance(time, np.datetime64):
        return float(time.astype("datetime64[ns]").astype("int64")) / 1e9
    if is_number(time):
        return float(time)
    raise InvalidSetting(f"time is a number of seconds or a datetime; got {time!r}")
