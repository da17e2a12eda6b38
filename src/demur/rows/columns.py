"""The kinds of columns of a table, and how each becomes numbers. NumPy only."""

import datetime
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from demur.errors import NonFinite, WrongType
from demur.rows import ngrams
from demur.rows.texts import is_missing

MISSING = "\0missing"
"""Stands for a category that is missing."""
MOST_CATEGORIES, BUCKETS = 64, 16
"""Categories that have a number each, and the numbers that all others share by their hash."""
FEWEST = 20
"""Rows it takes to tell that values never repeat."""
EXPECTED_REPEATS = 10
"""Pairs of equal values that there would be if whole numbers were drawn by chance; none then means that none can be."""
MOST_TEXTS = 10_000
"""Texts that tell how rare an n-gram is, about."""
NOISE = 1e-12
"""The spread, relative to the size of the numbers, that rounding alone makes where they are computed in float64."""

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, standardised in float64; `scale` is 0 where they never vary, and they become 0 then.

    Attributes:
        name: of the column.
        mean: of the training rows.
        scale: their standard deviation.
        median: stands for missing numbers; None in what earlier versions saved, where they become NaN.
        flags_missing: whether a second number says that the first is missing, because training rows lacked it too.
    """

    name: str
    mean: float
    scale: float
    median: float | None = None
    flags_missing: bool = False

    @classmethod
    def learned(cls, name: str, values: Values) -> Self:
        """From training rows, `(n,)`.

        Raises:
            NonFinite: there is nothing but infinity.
        """
        lacks = np.isnan(values)
        finite = values[np.isfinite(values)].astype("float64")
        if not len(finite):
            if not lacks.all():
                raise NonFinite(f"column {name!r} holds infinity and no finite number: put NaN or numbers in its place")
            return cls(name, 0.0, 0.0, 0.0)
        size = float(np.abs(finite).max()) or 1.0  # divided by, so that the squares of large numbers stay finite
        mean, scale = float((finite / size).mean()), float((finite / size).std())
        precision = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
        if scale <= max(NOISE, 2 * float(precision)):
            scale = 0.0
        return cls(name, mean * size, scale * size, float(np.median(finite)), bool(lacks.any()))

    @property
    def width(self) -> int:
        """Numbers a row."""
        return 1 + self.flags_missing

    @property
    def imputes(self) -> bool:
        """Whether a missing number becomes another one."""
        return self.median is not None

    def encoded(self, values: Values) -> Values:
        """`(n,) -> (n, width)`; NaN for infinity.

        Raises:
            WrongType: these are no numbers, or they are too coarse to tell those apart that it learned from.
        """
        numbers = as_numbers(values)
        if numbers is None:
            raise WrongType(f"column {self.name!r} held numbers when the detector learned; it is {values.dtype} now")
        if self.imputes:
            self._check_precision(numbers.dtype)
        numbers = numbers.astype("float64")
        found = (numbers - self.mean) / self.scale if self.scale else np.where(np.isinf(numbers), np.nan, 0.0)
        if self.median is None:
            return np.asarray(found[:, None])
        lacks = np.isnan(numbers)
        found[lacks] = (self.median - self.mean) / self.scale if self.scale else 0.0
        return np.stack([found, lacks], axis=1) if self.flags_missing else found[:, None]

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def _check_precision(self, dtype: Any) -> None:
        """Raise WrongType if numbers of a type, as large as these, are further apart than these vary."""
        if dtype.kind != "f" or dtype.itemsize >= 8 or not self.scale:
            return
        with np.errstate(over="ignore"):
            apart = float(np.spacing(dtype.type(abs(self.mean))))
        if not apart <= self.scale:
            raise WrongType(
                f"column {self.name!r} held numbers near {self.mean:.6g} that vary by {self.scale:.3g} when the "
                f"detector learned. {dtype} cannot tell numbers apart that differ by less than "
                f"{apart:.3g}: pass the column as float64"
            )


@dataclass(frozen=True)
class Categories:
    """A column of categories, one-hot encoded. A category on its own says nothing and becomes 0.

    Attributes:
        name: of the column.
        categories: those with a number each, sorted.
        buckets: the numbers that all others share by their hash; 0 where others become zeros; None in what earlier
            versions saved, where a category that is missing becomes NaN if none was in training.
    """

    name: str
    categories: list[str]
    buckets: int | None = None

    @classmethod
    def learned(cls, name: str, values: list[str]) -> Self:
        """From training rows, as `as_categories` returns them."""
        found = Counter(values)
        if len(found) <= MOST_CATEGORIES:
            return cls(name, sorted(found), 0)
        # The commonest; of equally common ones, the first in the alphabet.
        ordered = sorted(found, key=lambda category: (category != MISSING, -found[category], category))
        return cls(name, sorted(ordered[:MOST_CATEGORIES]), BUCKETS)

    @property
    def width(self) -> int:
        """Numbers a row."""
        return len(self.categories) + (self.buckets or 0)

    @property
    def imputes(self) -> bool:
        """Whether a category that is missing becomes finite numbers."""
        return self.buckets is not None

    def encoded(self, values: Values) -> Values:
        """`(n,) -> (n, width)`."""
        found = np.zeros((len(values), self.width), "float32")
        if self.buckets == 0 and len(self.categories) == 1:
            return found
        places = {category: place for place, category in enumerate(self.categories)}
        for row, category in enumerate(as_categories(values)):
            place = places.get(category)
            if place is not None:
                found[row, place] = 1.0
            elif self.buckets:
                found[row, len(places) + zlib.crc32(category.encode("utf-8", "surrogatepass")) % self.buckets] = 1.0
            elif self.buckets is None and category == MISSING:
                found[row] = np.nan
        return found

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class NGrams:
    """A column of texts, as hashed n-grams of their characters. A missing text becomes zeros, as an empty one does.

    Attributes:
        name: of the column.
        weights: of each of the numbers that n-grams share by their hash.
    """

    name: str
    weights: list[float]

    @classmethod
    def learned(cls, name: str, values: list[str], width: int) -> Self:
        """From training rows, as `as_categories` returns them."""
        every = max(1, len(values) // MOST_TEXTS)
        return cls(name, ngrams.rarity(_written(values[::every]), width).round(4).tolist())

    @property
    def width(self) -> int:
        """Numbers a row."""
        return len(self.weights)

    imputes = True

    def encoded(self, values: Values) -> Values:
        """`(n,) -> (n, width)`."""
        counted = ngrams.counts(_written(as_categories(values)), self.width)
        return ngrams.weighted(counted, np.array(self.weights))

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class LeftOut:
    """A column that the companion does not see."""

    name: str
    width = 0
    imputes = True

    def encoded(self, values: Values) -> Values:
        """`(n,) -> (n, 0)`."""
        return np.zeros((len(values), 0))

    def settings(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def as_numbers(values: Values) -> Values | None:
    """Values as numbers, NaN for missing ones; None if a value is not a number. Booleans do not count as numbers."""
    if values.dtype.kind in "iuf":
        return values
    if values.dtype.kind != "O":
        return None
    lacks = is_lacking(values)
    if not all(isinstance(v, Real | Decimal | np.number) and not isinstance(v, bool) for v in values[~lacks]):
        return None
    found = np.full(len(values), np.nan)
    found[~lacks] = values[~lacks].astype("float64")
    return found


def as_categories(values: Values) -> list[str]:
    """Values as texts; a missing value is `MISSING`."""
    return [MISSING if is_missing(value) else str(value) for value in values]


def is_lacking(values: Values) -> npt.NDArray[np.bool_]:
    """Where there is no value: `(n,)`."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), bool)
    return np.array([is_missing(value) for value in values], bool)


def are_dates(values: Values) -> bool:
    """Whether a column holds dates, times or durations."""
    if values.dtype.kind in "mM":
        return True
    kinds = (datetime.date, datetime.time, datetime.timedelta)
    return values.dtype.kind == "O" and any(isinstance(value, kinds) for value in values[~is_lacking(values)])


def are_free_text(values: list[str]) -> bool:
    """Whether categories are sentences rather than names: most differ, and most have three words or more."""
    different = set(values) - {MISSING}
    if len(different) < max(FEWEST, len(values) / 2):
        return False
    return bool(np.median([len(value.split()) for value in different]) >= 3)


def are_names_of_rows(values: Values | list[str]) -> bool:
    """Whether a column looks like ids: whole numbers that never repeat, or categories that seldom do."""
    if isinstance(values, list):
        known = [value for value in values if value != MISSING]
        return len(known) >= FEWEST and len(set(known)) >= 0.9 * len(known)
    there = values[np.isfinite(values)]
    n = len(there)
    if n < FEWEST or (there % 1 != 0).any():
        return False
    reach = float(there.max()) - float(there.min()) + 1
    return n * (n - 1) / 2 / reach >= EXPECTED_REPEATS and len(np.unique(there)) == n


def _written(values: list[str]) -> list[str]:
    return ["" if value == MISSING else value for value in values]
