"""Evidence for drift in a stream of scores, and when it is enough: one class a method, in constant memory."""

import abc
import math
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from demur.documents import Malformed, as_type
from demur.extensions import Registry

Array = npt.NDArray[np.float64]

SHARES = (0.05, 0.2, 0.6)
"""The shares of a bet that are staked: a bet does best if about this share of the scores has drifted."""
LARGEST = 0.5
"""Bets are on p-values of at most this."""
UNKNOWN = -1
"""The group of scores that were counted before groups were."""


class Observed(NamedTuple):
    """What is known of scores."""

    p: Array
    """`(n,)`, p-values that hold given the calibration scores."""
    place: Array
    """`(n,)`, the share of calibration scores that lie below, a tie counting half."""
    size: int | npt.NDArray[np.int64]
    """How many calibration scores each group has: `(groups,)`, or a number where there is one group."""
    time: Array | None
    """`(n,)`, in seconds; None where nobody said."""
    group: npt.NDArray[np.int64] | None = None
    """`(n,)`, the index of the group that each score is compared with; None where there is one group."""

    @property
    def when(self) -> Array:
        """The times, for methods that need them: `Monitor.update` has checked that they were given."""
        if self.time is None:
            raise AssertionError("a method that needs the time says so in needs_time")
        return self.time

    def part(self, begin: int, end: int | None, step: int = 1) -> "Observed":
        """What is known of a part of the scores."""
        some = slice(begin, end, step)
        time = None if self.time is None else self.time[some]
        group = None if self.group is None else self.group[some]
        return Observed(self.p[some], self.place[some], self.size, time, group)


class Settings(NamedTuple):
    """The settings of a monitor, of which a method takes what it needs."""

    alpha: float
    run_length: int
    window: int | float
    """A number of scores or, as a float, of seconds."""
    smallest: float
    """The smallest possible p-value."""
    tolerance: float = 0.0
    """Share of the scores that may be arbitrarily large."""


class Bets:
    """Bets that p-values are small: `1 - s + s [p <= t] / t`, for several stakes s and thresholds t.

    Each bet pays 1 on average for uniform p-values, so at most 1 for the p-values of normal scores, and pays less for
    larger p. The thresholds double from the smallest possible p-value on.
    """

    def __init__(self, smallest: float) -> None:
        doublings = max(0, math.floor(math.log2(LARGEST / min(smallest, LARGEST)) + 1e-9))
        self.thresholds = np.repeat(smallest * 2.0 ** np.arange(doublings + 1), len(SHARES))
        stakes = np.tile(SHARES, doublings + 1)
        self._won = np.log(1 - stakes + stakes / self.thresholds)[:, None]
        self._lost = np.log(1 - stakes)[:, None]

    def __len__(self) -> int:
        return len(self.thresholds)

    def log_pays(self, p: Array) -> Array:
        """The logarithm of what each bet pays for p-values `(n,)`: `(bets, n)`."""
        return np.where(p <= self.thresholds[:, None] * (1 + 1e-12), self._won, self._lost)


class Evidence(abc.ABC):
    """How scores are turned into evidence. A subclass is known by its `name`.

    Examples:
        >>> sorted(Evidence.registry)
        ['cusum', 'martingale', 'window']

    Attributes:
        limit: the logarithm of the evidence that is enough.
    """

    registry: ClassVar[MutableMapping[str, type["Evidence"]]] = Registry("demur.evidence", "demur.drift.evidence")
    name: ClassVar[str]
    share: ClassVar[float]
    """The share of alpha that is spent on calibration sets for which the p-values fail."""
    start: ClassVar[float] = 0.0
    """The logarithm of the evidence before the first score."""
    needs_time: bool = False
    """Whether the times of the scores are needed."""
    limit: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            Evidence.registry[cls.name] = cls

    @classmethod
    @abc.abstractmethod
    def of(cls, settings: Settings) -> "Evidence":
        """A new object, without evidence yet."""

    @abc.abstractmethod
    def add(self, observed: Observed) -> Array:
        """Take scores in; the logarithm of the evidence after each of them, `(n,)`."""

    @abc.abstractmethod
    def state(self) -> dict[str, Any]:
        """What is known so far, for JSON."""

    @abc.abstractmethod
    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""


class Martingale(Evidence):
    """Testing by betting: the chance that the evidence is ever enough without drift is at most alpha.

    The evidence is the wealth of a gambler who keeps a reserve and, before each score, starts to bet with a part of the
    reserve: a mixture over when a drift begins and over what the drift looks like. Without drift wealth is a
    supermartingale, so it ever reaches `1 / a` with a chance of at most `a` (Ville, 1939; Vovk et al., 2021,
    arXiv:2102.10439). One half of alpha is for that, one half for calibration sets on which the p-values fail.

    Examples:
        >>> Monitor(detector, alpha=0.01, method="martingale").alarms
        []

    Args:
        alpha: the chance of a false alarm.
        smallest: the smallest possible p-value.
    """

    name, share = "martingale", 0.5

    def __init__(self, alpha: float, smallest: float) -> None:
        self.limit = -math.log((1 - self.share) * alpha)
        self.bets = Bets(smallest)
        self.count = 0
        self.wealth = np.full(len(self.bets), -np.inf)

    @classmethod
    def of(cls, settings: Settings) -> "Martingale":
        return cls(settings.alpha, settings.smallest)

    def add(self, observed: Observed) -> Array:
        pays = self.bets.log_pays(observed.p)
        after = self.count + 1 + np.arange(len(observed.p))
        started = np.log(_reserve(after - 1) - _reserve(after))
        total = np.cumsum(pays, axis=1)
        # Wealth, divided by what one unit would have become, only grows: each start adds to it.
        units = np.concatenate([self.wealth[:, None], started - (total - pays)], axis=1)
        wealth = np.logaddexp.accumulate(units, axis=1)[:, 1:] + total
        self.count += len(observed.p)
        if len(observed.p):
            self.wealth = wealth[:, -1].copy()
        invested = np.logaddexp.reduce(wealth, axis=0) - math.log(len(self.bets))
        return np.asarray(np.logaddexp(invested, np.log(_reserve(after))))

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "wealth": [w if np.isfinite(w) else None for w in self.wealth.tolist()]}

    def resume(self, state: Mapping[str, Any]) -> None:
        kept = as_type(state, _Wealth)
        self.count, self.wealth = kept.count, _of_bets([-np.inf if w is None else w for w in kept.wealth], self.bets)


class _Wealth(msgspec.Struct):
    count: int
    wealth: list[float | None]


def _reserve(count: Any) -> Any:
    """What is left of the reserve after so many scores: 1 at first, so that late drifts cost about `log(count)`."""
    return 1 / np.log2(count + 2.0)


def _of_bets(numbers: list[float], bets: Bets) -> Array:
    if len(numbers) != len(bets):
        raise Malformed(f"expected a number for each of {len(bets)} bets; got {len(numbers)} numbers")
    return np.array(numbers, "float64")


class Cusum(Evidence):
    """Cumulative sums that start anew whenever they fall below 0: quick, with a false alarm now and then.

    Without drift it takes at least `run_length` scores on average until the evidence is enough (Lorden, 1971; Shin,
    Ramdas & Rinaldo, 2022, arXiv:2203.03532), but for a share alpha of calibration sets. The sums are of the logarithms
    of the same bets that the martingale makes.

    Examples:
        >>> Monitor(detector, method="cusum", run_length=10_000).alarms
        []

    Args:
        run_length: scores between two false alarms.
        smallest: the smallest possible p-value.
    """

    name, share = "cusum", 1.0

    def __init__(self, run_length: int, smallest: float) -> None:
        self.limit = math.log(run_length)
        self.bets = Bets(smallest)
        self.sums = np.zeros(len(self.bets))

    @classmethod
    def of(cls, settings: Settings) -> "Cusum":
        return cls(settings.run_length, settings.smallest)

    def add(self, observed: Observed) -> Array:
        pays = self.bets.log_pays(observed.p)
        total = self.sums[:, None] + np.cumsum(pays, axis=1)
        # Where a total falls below 0, the sum starts anew: subtract the lowest total so far.
        lowest = np.minimum.accumulate(np.minimum(total - pays, 0.0), axis=1)
        sums = total - lowest
        if len(observed.p):
            self.sums = np.maximum(sums[:, -1], 0.0)
        return np.asarray(np.logaddexp.reduce(sums, axis=0) - math.log(len(self.bets)))

    def state(self) -> dict[str, Any]:
        return {"sums": self.sums.tolist()}

    def resume(self, state: Mapping[str, Any]) -> None:
        self.sums = _of_bets(as_type(state, _Sums).sums, self.bets)


class _Sums(msgspec.Struct):
    sums: list[float]


class Windows(Evidence):
    """Mann-Whitney's test of one window after the other, with less and less of alpha for each.

    The k-th window gets `alpha 6 / (pi k)^2`, so the chance of ever raising a false alarm is at most alpha, as far as
    the normal approximation of the test holds. Scores are compared with the calibration scores of their own group. With
    equal scores, the sum of places varies less than the test assumes. The evidence is `6 / (pi k)^2` divided by the
    p-value of the last whole window.

    Examples:
        >>> Monitor(detector, alpha=0.01, method="window", window=500).alarms
        []

    Args:
        alpha: the chance of a false alarm.
        window: how many scores are in a window, or how many seconds, as a float.
        tolerance: share of a window that may be arbitrarily large.
    """

    name, share, start = "window", 0.5, -math.inf

    def __init__(self, alpha: float, window: int | float, tolerance: float = 0.0) -> None:
        self.alpha, self.window, self.tolerance = alpha, window, tolerance
        self.limit = -math.log(alpha)
        self.needs_time = isinstance(window, float)
        self.done, self.count, self.places = 0, 0, 0.0
        self.counts: dict[int, int] = {}
        """Scores in the window, by group."""
        self.begin: float | None = None
        self.last = -math.inf

    @classmethod
    def of(cls, settings: Settings) -> "Windows":
        return cls(settings.alpha, settings.window, settings.tolerance)

    def add(self, observed: Observed) -> Array:
        found = np.empty(len(observed.p))
        groups = [0] * len(found) if observed.group is None else observed.group.tolist()
        for i, (place, group) in enumerate(zip(observed.place, groups, strict=True)):
            if isinstance(self.window, float):
                now = float(observed.when[i])
                if self.begin is None:
                    self.begin = now
                elif now >= self.begin + self.window:
                    self._close(observed.size)
                    self.begin += self.window * ((now - self.begin) // self.window)
            self.count, self.places = self.count + 1, self.places + float(place)
            self.counts[group] = self.counts.get(group, 0) + 1
            if self.count == self.window and isinstance(self.window, int):
                self._close(observed.size)
            found[i] = self.last
        return found

    def _close(self, size: int | npt.NDArray[np.int64]) -> None:
        """Test the scores of the window, and begin another window."""
        if self.count:
            self.done += 1
            spent = 6 / (math.pi * self.done) ** 2
            sizes = np.atleast_1d(size)
            of_each = sizes[[int(sizes.argmin()) if group == UNKNOWN else group for group in self.counts]]
            self.last = math.log(spent) - log_p_of_places(self.places, [*self.counts.values()], of_each, self.tolerance)
        self.count, self.places, self.counts = 0, 0.0, {}

    def state(self) -> dict[str, Any]:
        last = self.last if math.isfinite(self.last) else None
        counts = {str(group): count for group, count in self.counts.items()}
        window = {"count": self.count, "counts": counts, "places": self.places, "begin": self.begin}
        return {"done": self.done, **window, "last": last}

    def resume(self, state: Mapping[str, Any]) -> None:
        kept = as_type(state, _Window)
        self.done, self.count, self.places, self.begin = kept.done, kept.count, kept.places, kept.begin
        self.counts = ({UNKNOWN: kept.count} if kept.count else {}) if kept.counts is None else kept.counts
        self.last = -math.inf if kept.last is None else kept.last


class _Window(msgspec.Struct):
    done: int
    count: int
    places: float
    begin: float | None
    last: float | None
    counts: dict[int, int] | None = None
    """Older states have only the sum over groups, which then counts for the group of which least is known."""


def log_p_of_places(places: float, counts: Any, sizes: Any, tolerance: float = 0.0) -> float:
    """The logarithm of Mann-Whitney's one-sided p-value of a sum of places, by the normal approximation.

    The sum is of `counts` scores of each group, which has `sizes` calibration scores. A share `tolerance` of the scores
    may have the place 1.
    """
    from scipy.special import log_ndtr

    counts, sizes = np.asarray(counts, "float64"), np.asarray(sizes, "float64")
    n = float(counts.sum())
    variance = float((counts * (sizes + counts + 1) / (12 * sizes)).sum())
    variance += n * max(0.0, tolerance / 6 - tolerance**2 / 4)  # a place is 1 with that chance, uniform otherwise
    above = places - n * (1 + tolerance) / 2 - 0.5 / float(sizes.max())
    return float(log_ndtr(-above / math.sqrt(variance)))
