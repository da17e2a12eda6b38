"""Corruptions of tables: what goes wrong with rows of numbers and categories between their source and a classifier."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from demur.errors import InvalidSetting
from demur.evaluation.corruptions.columns import Column, check_alike, columns_of, replaced
from demur.evaluation.corruptions.draws import Draws, check_asked
from demur.extensions import Registry

Changed: TypeAlias = dict[int, npt.NDArray[Any]]
"""The new values of the columns that change, by number."""


class Table(NamedTuple):
    """What a corruption is given."""

    columns: list[Column]
    known: list[Column]
    """The same columns of the reference rows, for what is typical of each."""
    draws: Draws

    @property
    def numbers(self) -> list[int]:
        """Which columns hold numbers."""
        return numbers(self.columns)

    def struck(self, share: float) -> list[int]:
        """A share of the numeric columns, at least one."""
        return [int(i) for i in self.draws.shared.permutation(self.numbers)[: math.ceil(share * len(self.numbers))]]


Change: TypeAlias = Callable[[Table, float], Changed]


class TableCorruption(NamedTuple):
    """One corruption, its five levels and the columns that it needs: in words, and whether a table has them."""

    change: Change
    levels: Sequence[float]
    needs: str
    suits: Callable[[list[Column]], bool]


TABLE_CORRUPTIONS: Registry[TableCorruption] = Registry(
    "demur.table_corruptions", "demur.evaluation.corruptions.tables", definition=lambda corruption: corruption.change
)
"""Table corruptions by name."""


def numbers(columns: list[Column]) -> list[int]:
    """Which columns hold numbers."""
    return [i for i, column in enumerate(columns) if column.is_number]


def categories(columns: list[Column]) -> list[int]:
    """Which columns hold two categories or more."""
    return [i for i, column in enumerate(columns) if column.is_category and len(column.categories) > 1]


NUMBERS = ("a column of numbers", lambda columns: bool(numbers(columns)))
TWO_NUMBERS = ("two columns of numbers", lambda columns: len(numbers(columns)) > 1)
CATEGORIES = ("a column of two categories or more", lambda columns: bool(categories(columns)))
EITHER = (f"{NUMBERS[0]} or of two categories or more", lambda columns: bool(numbers(columns) + categories(columns)))


def table_corruption(
    name: str, levels: Sequence[float], needs: tuple[str, Callable[[list[Column]], bool]]
) -> Callable[[Change], Change]:
    """Add a function to `TABLE_CORRUPTIONS`.

    Args:
        name: in plain words.
        levels: what the function takes at severities 1 to 5.
        needs: which columns there must be, in words, and a function that tells whether there are.
    """

    def add(change: Change) -> Change:
        TABLE_CORRUPTIONS[name] = TableCorruption(change, levels, *needs)
        return change

    return add


def corrupt_table(X: Any, *, name: str, severity: int, seed: int = 0, reference: Any = None, start: int = 0) -> Any:
    """Corrupt rows of a table; the seed decides which columns are struck, the same for all rows.

    Columns keep their types: whole numbers stay whole, within the bounds of the type. Missing values stay missing.

    Examples:
        >>> corrupt_table(new_rows, name="noise", severity=2, reference=rows).shape
        (38, 13)

    Args:
        X: `(n, features)`, or a pandas or polars DataFrame.
        name: one of `TABLE_CORRUPTIONS`.
        severity: 1 to 5.
        seed: of what is random.
        reference: rows that tell what is typical of a column (deviation, median, categories), such as training rows;
            `X` by default, and then what becomes of a row depends on the rows beside it.
        start: number of the first row: parts of a data set are corrupted as the whole data set is.

    Returns:
        The corrupted rows, of the type of `X`, which is left as it was.

    Raises:
        InvalidSetting: no corruption of that name, another severity, or the table lacks the columns that it needs.
        WrongType, ShapeMismatch, EmptyInput, NonFinite: X is no table, or reference has other columns.
    """
    name = check_asked(name, TABLE_CORRUPTIONS, severity, seed, start)
    columns = columns_of(X)
    known, found = columns, TABLE_CORRUPTIONS[name]
    if reference is not None:
        known = columns_of(reference, "reference")
        check_alike(X, reference)
    if not found.suits(known):
        lacks = f"{found.needs}, which this table lacks: leave it out (see applies)"
        raise InvalidSetting(f"the corruption {name!r} needs {lacks}")
    table = Table(columns, known, Draws(name, seed, start, len(X)))
    return replaced(X, found.change(table, found.levels[severity - 1]))


def applies(name: str, X: Any) -> bool:
    """Whether a table has the columns that a corruption needs.

    Examples:
        >>> applies("column swap", rows)
        True

    Raises:
        InvalidSetting: no corruption of that name.
        WrongType, ShapeMismatch, EmptyInput, NonFinite: X is no table.
    """
    name = check_asked(name, TABLE_CORRUPTIONS, 1, 0, 0)
    return TABLE_CORRUPTIONS[name].suits(columns_of(X))


@table_corruption("noise", levels=(0.1, 0.2, 0.4, 0.7, 1), needs=NUMBERS)
def noise(table: Table, share: float) -> Changed:
    """Add to each number a share of its column's standard deviation, at random."""
    drawn = table.draws.normal(len(table.columns)).astype("float64")
    return {i: table.columns[i].values + share * table.known[i].deviation * drawn[:, i] for i in table.numbers}


@table_corruption("imputed", levels=(0.05, 0.1, 0.2, 0.35, 0.5), needs=EITHER)
def imputed(table: Table, share: float) -> Changed:
    """Fill a share of the cells with their column's median or commonest category, as if they had been missing."""
    lost = table.draws.uniform(len(table.columns)) < share
    columns = enumerate(table.columns)
    return {i: filled(table, i, lost[:, i]) for i, column in columns if column.is_number or column.is_category}


@table_corruption("unit change", levels=(0.1, 0.2, 0.35, 0.5, 0.75), needs=NUMBERS)
def unit_change(table: Table, share: float) -> Changed:
    """Multiply columns by a factor each, as if they came in millimetres or pounds all at once."""
    factors = table.draws.shared.choice([10, 25.4, 1000, 0.45], len(table.columns))
    return {i: table.columns[i].values * factors[i] for i in table.struck(share)}


@table_corruption("column swap", levels=(0.1, 0.25, 0.5, 0.75, 1), needs=TWO_NUMBERS)
def column_swap(table: Table, share: float) -> Changed:
    """Exchange the numbers of columns in pairs, where neither is missing."""
    order = table.struck(1)
    pairs = list(zip(order[::2], order[1::2], strict=False))
    chosen = [(table.columns[i], table.columns[j], i, j) for i, j in pairs[: math.ceil(share * len(pairs))]]
    both = [(to, old, new) for one, other, i, j in chosen for to, old, new in ((i, one, other), (j, other, one))]
    return {to: np.where(old.missing | new.missing, old.values, new.values) for to, old, new in both}


@table_corruption("category shift", levels=(0.05, 0.1, 0.2, 0.35, 0.5), needs=CATEGORIES)
def category_shift(table: Table, share: float) -> Changed:
    """Replace a share of the categories by others of their column."""
    width = len(table.columns)
    shifted, which = table.draws.uniform(width) < share, table.draws.uniform(width)
    return {i: other_category(table, i, shifted[:, i], which[:, i]) for i in categories(table.known)}


@table_corruption("stuck sensor", levels=(0.1, 0.2, 0.35, 0.5, 0.75), needs=NUMBERS)
def stuck_sensor(table: Table, share: float) -> Changed:
    """Hold columns at their median."""
    return {i: filled(table, i, np.ones(len(table.columns[i].values), bool)) for i in table.struck(share)}


@table_corruption("rounding", levels=(0.25, 0.5, 1, 1.5, 2), needs=NUMBERS)
def rounding(table: Table, share: float) -> Changed:
    """Round each number to a multiple of a share of its column's standard deviation."""
    steps = {i: share * table.known[i].deviation for i in table.numbers}
    return {i: np.round(table.columns[i].values / step) * step for i, step in steps.items() if step > 0}


def filled(table: Table, i: int, where: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """A column with the typical value of the reference rows in some rows."""
    column, middle = table.columns[i], table.known[i].middle
    if middle is None:
        return column.values
    values = column.values.copy()
    values[where & ~column.missing] = middle
    return values


def other_category(
    table: Table, i: int, where: npt.NDArray[np.bool_], which: npt.NDArray[np.float32]
) -> npt.NDArray[Any]:
    """A column with another of the known categories in some rows, picked by a number in [0, 1)."""
    column, known = table.columns[i], table.known[i].categories
    number = {category: j for j, category in enumerate(known)}
    values = column.values.copy()
    for row in np.flatnonzero(where & ~column.missing):
        own = number.get(values[row], len(known))
        picked = int(which[row] * (len(known) - (own < len(known))))
        values[row] = known[picked + (picked >= own)]
    return values
