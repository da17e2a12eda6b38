"""How large the numbers of rows are, and whether others are on another scale or in another order. NumPy only."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from demur.documents import from_arrays
from demur.rows.layout import Field
from demur.rows.rows import Rows

Array = npt.NDArray[Any]

LEVELS = (0.0, 0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995, 1.0)
SPREADS = ((3, 5), (2, 6), (1, 7))
"""Pairs of levels between which lies what says how much numbers vary."""
SUPPORT = 10
"""Rows beyond a quantile that it takes to tell how much a column varies."""
TOGETHER = 2**20
"""Numbers that quantiles are taken of, about."""
NUMBERS = 1024
"""Of a row, so many numbers at most are looked at, spread evenly over it."""
CONVENTIONS = {"between 0 and 1": (0.0, 1.0), "between -1 and 1": (-1.0, 1.0), "between 0 and 255": (0.0, 255.0)}
"""Ranges that rows are brought to on purpose."""

# What ordinary rows, and rows that have drifted, stay below; measured by benchmarks/wrong_rows.py. As powers of 2.
OF_A_COLUMN, OF_MOST_COLUMNS = math.log2(6), math.log2(3)
OF_IMAGES, OF_PALE_IMAGES = math.log2(2.5), math.log2(1 / 11)
"""An image that lost its contrast varies much less than others, and none can vary much more."""
ROUNDING = 1e-6
UNLIKELY, LIKELY = 60.0, 25.0
"""Hotelling's T-squared of the channels: the order is wrong above the first, another order right below the second."""


@dataclass(frozen=True)
class Range:
    """Of one array of rows, or of the numeric columns of a table.

    Attributes:
        name: of the array; empty where rows are one array.
        columns: what its columns, or its channels, are called.
        quantiles: `(9, columns)`, at `LEVELS`.
        overall: `(9,)`, of all numbers together.
        is_pooled: whether all numbers measure the same, as the pixels of an image do.
        means: `(columns,)`, of the channels; empty where there are no channels, or too many.
        covariance: `(columns, columns)`, of the means of the channels of one row.
        rows: how many were looked at.
    """

    name: str
    columns: tuple[str, ...]
    quantiles: Array
    overall: Array
    is_pooled: bool
    means: Array
    covariance: Array
    rows: int

    def as_arrays(self) -> dict[str, Array]:
        """All of it as arrays, for saving."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Range":
        """The range that `as_arrays` described."""
        names = arrays["columns"].astype("U")  # of no columns, NumPy makes an array of numbers
        return cast("Range", from_arrays({**arrays, "columns": names}, cls))

    @property
    def span(self) -> float:
        """How far apart the smallest and the largest number of the column that varies most are."""
        return float((self.quantiles[-1] - self.quantiles[0]).max(initial=0.0))

    def only(self, columns: tuple[str, ...]) -> "Range":
        """The range of some of the columns, in the order of `self.columns`."""
        if self.columns == columns or self.is_pooled:
            return self
        chosen = [i for i, name in enumerate(self.columns) if name in columns]
        return replace(self, columns=tuple(self.columns[i] for i in chosen), quantiles=self.quantiles[:, chosen])

    @property
    def convention(self) -> str | None:
        """Which of `CONVENTIONS` the numbers keep, from end to end."""
        low, high = float(self.overall[0]), float(self.overall[-1])
        for name, (least, most) in CONVENTIONS.items():
            near = 0.1 * (most - least)
            if least <= low < least + near and most - near < high <= most:
                return name
        return None


@dataclass(frozen=True)
class Numbers:
    """The numbers of some rows that are looked at: `(n, places, columns)`; see `Range` for the rest."""

    name: str
    columns: tuple[str, ...]
    values: Array
    is_pooled: bool

    def taken(self, chosen: Array) -> "Numbers":
        """The numbers of some rows."""
        return replace(self, values=self.values[chosen])

    @classmethod
    def joined(cls, parts: Sequence["Numbers"]) -> "Numbers":
        """The numbers of several batches of one layout; of tables, the columns that are numeric in every batch."""
        columns = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        values = [part.values[..., [part.columns.index(name) for name in columns]] for part in parts]
        return replace(parts[0], columns=tuple(columns), values=np.concatenate(values))

    def range(self) -> Range:
        """Their range."""
        n, _, width = self.values.shape
        by_column = self.values.reshape(-1, width)
        by_column = by_column[:: max(1, by_column.size // TOGETHER)].astype("float64")
        by_column[np.isinf(by_column)] = np.nan
        channels = self.values.mean(axis=1, dtype="float64") if self.is_pooled and 2 <= width <= 4 else np.empty((n, 0))
        covariance = np.atleast_2d(np.cov(channels, rowvar=False)) if n > 1 and channels.size else np.empty((0, 0))
        means = channels.mean(axis=0) if len(covariance) else np.empty(0)
        overall = _quantiles(by_column.reshape(-1, 1))[:, 0]
        return Range(self.name, self.columns, _quantiles(by_column), overall, self.is_pooled, means, covariance, n)


def _quantiles(values: Array) -> Array:
    """The quantiles at `LEVELS`, `(9, columns)`, of numbers `(n, columns)`; zeros where no number is finite."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    last = np.maximum(0, np.isfinite(values).sum(axis=0) - 1)
    places = np.array(LEVELS)[:, None] * last
    below = np.floor(places).astype(int)
    low, high = (np.take_along_axis(ordered, rows, axis=0) for rows in (below, np.minimum(below + 1, last)))
    return np.asarray(np.nan_to_num(low + (places - below) * (high - low)))


def ranges_of(rows: Rows, *, channels_first: bool = False) -> list[Range]:
    """The ranges of the numbers of rows."""
    return [part.range() for part in numbers_of(rows, channels_first=channels_first)]


def numbers_of(rows: Rows, *, channels_first: bool = False) -> list[Numbers]:
    """The numbers of rows: of each array, or of a table's numeric columns; of texts none."""
    layout, values = rows.layout, rows.raw
    if rows.is_table:
        names = [str(name) for name in values.columns]
        columns = {str(name): np.asarray(values[name]) for name in values.columns}
        numeric = [name for name in names if columns[name].dtype.kind in "uif"][:NUMBERS]
        if not numeric:
            return []
        numbers = np.stack([columns[name].astype("float64") for name in numeric], axis=1)
        return [Numbers("", tuple(map(repr, numeric)), numbers[:, None], False)]
    if isinstance(layout, Field):
        return list(_of_array(values, layout, "", channels_first))
    if isinstance(layout, dict | tuple):
        pairs = layout.items() if isinstance(layout, dict) else enumerate(layout)
        return [part for key, field in pairs for part in _of_array(values[key], field, repr(key), channels_first)]
    return []


def _of_array(array: Array, field: Field, name: str, channels_first: bool) -> Iterator[Numbers]:
    if array.dtype.kind not in "uif":
        return
    n, rank = len(array), len(field.shape)
    if rank < 2:
        columns = array.reshape(n, -1)
        chosen = _spread(columns.shape[1], NUMBERS)
        called = [repr(column) for column in field.columns] if field.columns else None
        names = [called[i] if called else str(i) for i in chosen]
        yield Numbers(name, tuple(names), columns[:, chosen].astype("float64")[:, None], False)
        return
    array = np.moveaxis(array, 1, -1) if channels_first and rank == 3 else array
    width = array.shape[-1]
    places = array.reshape(n, -1, width)
    most = max(1, NUMBERS // width)
    # As many of each row, if they are of several lengths.
    chosen = _spread(places.shape[1], most) if None not in field.shape else np.linspace(0, places.shape[1] - 1, most)
    channels = _spread(width, NUMBERS)
    values = places[:, chosen.astype(int)][..., channels].astype("float32")
    yield Numbers(name, tuple(map(str, channels)), values, True)


def _spread(size: int, most: int) -> Array:
    """At most so many of the numbers below a size, spread evenly."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(int))


def difference(known: list[Range], found: list[Range], *, may_be_alike: bool = False) -> str | None:
    """What tells that rows are on another scale, or in another order, than the known ones, in words; None if nothing.

    Rows that have drifted or are corrupted stay below what counts here, and rows of another unit, or that were
    standardised where the others were not, do not.

    Args:
        known: of the rows of `fit`.
        found: of the other rows.
        may_be_alike: whether the other rows may all be of one kind, of one hour or one camera, as batches are in
            production. Such rows vary less, and their channels have other means, without being on another scale. What
            tells as of any rows is that they vary more, or lie between other bounds; that images vary less tells where
            their numbers lie as much nearer to zero.
    """
    by_name = {part.name: part for part in known}
    for part in found:
        if part.name not in by_name:
            continue
        before = by_name[part.name].only(part.columns)
        now = part.only(before.columns)
        if not before.columns:
            continue
        said = _other_convention(before, now) or _other_spread(before, now, may_be_alike)
        said = said or (None if may_be_alike else _other_order(before, now))
        if said is not None:
            return said
    return None


def _other_convention(before: Range, now: Range) -> str | None:
    was, is_now = before.convention, now.convention
    of = f" of {now.name}" if now.name else ""
    if is_now is None or was == is_now:
        return None
    if was is not None:
        return f"the numbers{of} lie {is_now}, and those of the rows of fit {was}"
    least, most = CONVENTIONS[is_now]
    low, high = before.overall[2], before.overall[-3]
    if most > 1 or not (low < least - 0.2 or high > most + 0.2):
        return None
    return f"the numbers{of} lie {is_now}, and nine in ten of those of the rows of fit between {low:.4g} and {high:.4g}"


def _other_spread(before: Range, now: Range, may_be_alike: bool) -> str | None:
    of = f" of {now.name}" if now.name else ""
    if before.is_pooled:
        whole = float(_growth(before.overall[:, None], now.overall[:, None], SPREADS[1:], np.inf)[0])
        is_pale = whole < OF_PALE_IMAGES and (not may_be_alike or _reach(now) < 2**OF_PALE_IMAGES * _reach(before))
        if np.isnan(whole) or not (is_pale or whole > OF_IMAGES):
            return None
        return f"the numbers{of} vary {_times(whole)} those of the rows of fit ({_ends(before.overall, now.overall)})"
    growth = _growth(before.quantiles, now.quantiles, SPREADS, min(before.rows, now.rows), least=2)
    growth = np.maximum(growth, 0) if may_be_alike else growth
    known = growth[~np.isnan(growth)]
    if len(known) > 2 and abs(np.median(known)) > OF_MOST_COLUMNS:
        typical = int(np.nanargmin(np.abs(growth - np.median(known))))
        return (
            f"most columns{of} vary {_times(growth[typical])} those of the rows of fit, such as column "
            f"{now.columns[typical]} ({_ends(before.quantiles[:, typical], now.quantiles[:, typical])})"
        )
    changed = np.flatnonzero(np.abs(growth) > OF_A_COLUMN)
    if not len(changed):
        return None
    worst = int(np.nanargmax(np.abs(growth)))
    more = f", and {len(changed) - 1} more columns are on another scale" if len(changed) > 1 else ""
    return (
        f"column {now.columns[worst]}{of} varies {_times(growth[worst])} that of the rows of fit "
        f"({_ends(before.quantiles[:, worst], now.quantiles[:, worst])}){more}"
    )


def _reach(part: Range) -> float:
    """How far from zero the numbers lie. Another scale brings it nearer; less contrast does not."""
    return float(np.abs(part.overall[[0, -1]]).max())


def _growth(before: Array, now: Array, spreads: Sequence[tuple[int, int]], rows: float, least: int = 1) -> Array:
    """By what factor the spread of each column grew, as a power of 2, `(columns,)`; NaN where that is not known.

    Whichever part of the numbers is looked at, they vary so much more, or less, at least.

    Args:
        before: `(9, columns)`, quantiles.
        now: the same of other rows.
        spreads: which parts are looked at.
        rows: how many rows the quantiles are of.
        least: in how many of the parts both must vary; in one of them, beyond which there are `SUPPORT` rows.
    """
    found = np.full((len(spreads), before.shape[1]), np.nan)
    is_supported = np.array([[rows * LEVELS[low] >= SUPPORT] for low, _ in spreads])
    for i, (low, high) in enumerate(spreads):
        was, is_now = before[high] - before[low], now[high] - now[low]
        varies = (was > ROUNDING * np.abs(before).max(axis=0)) & (is_now > ROUNDING * np.abs(now).max(axis=0))
        found[i, varies] = np.log2(is_now[varies] / was[varies])
    known = ~np.isnan(found)
    more = np.where(known, found, np.inf).min(axis=0)
    less = np.where(known, found, -np.inf).max(axis=0)
    growth = np.where(more > 0, more, np.where(less < 0, less, 0.0))
    is_known = (known.sum(axis=0) >= least) & (known & is_supported).any(axis=0)
    return np.where(is_known, growth, np.nan)


def _times(growth: float) -> str:
    """How many times as much, of a power of 2."""
    times = 2 ** abs(growth)
    written = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"{written} times as much as" if growth > 0 else f"{written} times less than"


def _ends(before: Array, now: Array) -> str:
    """Between which numbers nine in ten lie, now and before."""
    return f"nine in ten lie from {now[2]:.4g} to {now[-3]:.4g}, and lay from {before[2]:.4g} to {before[-3]:.4g}"


def _other_order(before: Range, now: Range) -> str | None:
    """Tell, in words, if the channels match the known rows only in another order; None if not."""
    width = len(before.means)
    if width < 2 or width != len(now.means):
        return None

    def far(order: tuple[int, ...]) -> float:
        """Hotelling's T-squared of the means of the channels in an order."""
        places = list(order)
        apart = now.means[places] - before.means
        spread = now.covariance[np.ix_(places, places)] / now.rows + before.covariance / before.rows
        spread += ROUNDING * (np.trace(spread) + ROUNDING) * np.eye(width)
        return float(apart @ np.linalg.solve(spread, apart))

    own, *others = itertools.permutations(range(width))
    if far(own) < UNLIKELY or min(map(far, others)) > LIKELY:
        return None
    means = (", ".join(f"{mean:.3g}" for mean in part.means) for part in (now, before))
    of = f" of {now.name}" if now.name else ""
    return (
        f"the channels{of} are in another order than those of the rows of fit, as RGB and BGR are: their means are "
        "{}, and were {}".format(*means)
    )
