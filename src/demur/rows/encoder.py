"""Rows of a table, or texts, as the numbers that a companion takes. NumPy only."""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from demur import checks
from demur.documents import as_type
from demur.errors import EmptyInput, InvalidSetting, NotFitted, ShapeMismatch, WrongType
from demur.rows.arrays import as_array, is_table
from demur.rows.columns import (
    Categories,
    LeftOut,
    NGrams,
    Numbers,
    are_dates,
    are_free_text,
    are_names_of_rows,
    as_categories,
    as_numbers,
    is_lacking,
)

Column: TypeAlias = Numbers | Categories | NGrams | LeftOut

WIDTH, WIDTH_OF_A_COLUMN = 4096, 1024
"""Numbers that are made of a text: where texts are all there is, and of one column of a table."""


class TableEncoder:
    """Makes numbers of columns: `(n, width)`, float32. It is the default `companion_preprocess` for tables and texts.

    Numeric columns are standardised; where a value is missing, the median stands for it, and another column says so if
    training rows lacked values there too. Categories are one-hot encoded: beyond 64 in a column, the commonest are, and
    the others share 16 columns by their hash. Free text becomes hashed n-grams of characters. What looks like an id,
    whose values do not come again in new rows, is left out. `fit` warns of ids and of free text.

    Examples:
        >>> detector = ModelDistillation(model=forest, companion_preprocess=TableEncoder(drop=["3"]))
        >>> detector.fit(rows, epochs=1, verbose=False).companion.input_shape
        (None, 12)

    Args:
        columns: what `settings` returned, to make an encoder again.
        drop: names of columns that the companion shall not see. The classifier gets them still. The columns of an array
            are named "0", "1" and so on.
        text: names of columns that are texts, whatever they look like.
        keep: names of columns that are categories or numbers, even if they look like ids or texts.

    Raises:
        InvalidSetting: one of the three is no list of names.
    """

    def __init__(
        self,
        columns: list[dict[str, Any]] | None = None,
        *,
        drop: Sequence[str] = (),
        text: Sequence[str] = (),
        keep: Sequence[str] = (),
    ) -> None:
        for setting, names in {"drop": drop, "text": text, "keep": keep}.items():
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise InvalidSetting(f"{setting} is a list of names of columns; got {names!r}")
        self.drop, self.text, self.keep = tuple(drop), tuple(text), tuple(keep)
        self.width_of_text = WIDTH_OF_A_COLUMN
        self.columns: list[Column] = [_made_again(column) for column in columns or []]

    def __repr__(self) -> str:
        given = [f"{name}={list(getattr(self, name))}" for name in ("drop", "text", "keep") if getattr(self, name)]
        width = sum(column.width for column in self.columns)
        learned = [f"{len(self.columns)} columns as {width} numbers"] if self.is_fitted else ["not fitted"]
        return f"TableEncoder({', '.join(given + learned)})"

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned from rows."""
        return bool(self.columns)

    @property
    def imputes(self) -> bool:
        """Whether missing values become numbers: encoders saved by earlier versions leave them as NaN."""
        return all(column.imputes for column in self.columns)

    def fit(self, rows: Any) -> Self:
        """Learn from training rows what the numbers are.

        Raises:
            WrongType: a column holds dates, no column tells the companion anything, or this is neither table nor array.
            EmptyInput: there are no rows.
            InvalidSetting: a column is named that is not there.
            NonFinite: a column holds nothing but infinity.
        """
        found = _columns(rows)
        if found and len(found[0][1]) == 0:
            raise EmptyInput("there are no rows to learn columns from: pass at least one")
        named = {*self.drop, *self.text, *self.keep}
        unknown = sorted(named - {name for name, _ in found})
        if unknown:
            raise InvalidSetting(
                f"TableEncoder names columns that are not there: {', '.join(unknown)}; the rows have "
                f"{', '.join(name for name, _ in found)}"
            )
        are_texts = not is_table(rows) and np.ndim(rows) == 1
        self.text = tuple(name for name, _ in found) if are_texts else self.text
        self.width_of_text = WIDTH if len(found) == 1 else WIDTH_OF_A_COLUMN
        doubts: dict[str, list[str]] = {"id": [], "text": []}
        self.columns = [self._learned(name, values, doubts) for name, values in found]
        if not sum(column.width for column in self.columns):
            raise WrongType(
                "no column is left that the companion could learn from: name one in "
                "companion_preprocess=demur.TableEncoder(keep=[...]), or pass a function that makes numbers of the rows"
            )
        self._warn(doubts)
        return self

    def transform(self, rows: Any) -> npt.NDArray[np.float32]:
        """Return the numbers: `(n, width)`; NaN in rows that hold infinity.

        Raises:
            ShapeMismatch: the rows have other columns than those it learned from.
            WrongType: a column of numbers holds something else, or numbers that are too coarse to tell them apart.
            NotFitted: `fit` was not called.
        """
        if not self.is_fitted:
            raise NotFitted("TableEncoder has not learned from rows yet: call fit(rows) first")
        found = _columns(rows)
        if [name for name, _ in found] != [column.name for column in self.columns]:
            raise ShapeMismatch(
                f"the rows have columns {', '.join(name for name, _ in found)}; these were learned: "
                f"{', '.join(column.name for column in self.columns)}"
            )
        parts = [column.encoded(values) for column, (_, values) in zip(self.columns, found, strict=True)]
        return np.concatenate(parts, axis=1, dtype="float32")

    def settings(self) -> list[dict[str, Any]]:
        """What `TableEncoder(...)` takes to make it again, as JSON can hold it."""
        return [column.settings() for column in self.columns]

    def _learned(self, name: str, values: npt.NDArray[Any], doubts: dict[str, list[str]]) -> Column:
        if name in self.drop:
            return LeftOut(name)
        if are_dates(values):
            raise WrongType(
                f"column {name!r} holds dates or durations, which no default makes numbers of: leave it out with "
                f"companion_preprocess=demur.TableEncoder(drop=[{name!r}]), or pass a function (or fitted transformer) "
                "from your rows to numbers"
            )
        numbers = None if name in self.text else as_numbers(values)
        found = as_categories(values) if numbers is None else numbers
        is_text = name in self.text
        if not is_text and name not in self.keep:
            if isinstance(found, list) and are_free_text(found):
                doubts["text"].append(name)
                is_text = True
            elif are_names_of_rows(found):
                doubts["id"].append(name)
                return LeftOut(name)
        if not isinstance(found, list):
            return Numbers.learned(name, found)
        return NGrams.learned(name, found, self.width_of_text) if is_text else Categories.learned(name, found)

    def _warn(self, doubts: dict[str, list[str]]) -> None:
        """Name, in one warning, the columns that look like ids and like free text."""
        said = []
        if doubts["id"]:
            names = ", ".join(map(repr, doubts["id"]))
            said.append(
                f"{names} looks like an id, whose values do not come again in new rows, and is left out of the "
                f"companion; drop=[{names}] says that this is right, keep=[{names}] that it is no id"
            )
        if doubts["text"]:
            names = ", ".join(map(repr, doubts["text"]))
            said.append(
                f"{names} looks like free text, and is read by its characters, {self.width_of_text:,} numbers a "
                f"column; text=[{names}] says that this is right, drop=[{names}] leaves it out"
            )
        if said:
            advice = "Pass that in companion_preprocess=demur.TableEncoder(...)"
            checks.warn(f"{'. '.join(said)}. {advice}")


def lacking(rows: Any) -> npt.NDArray[np.bool_]:
    """Where a table, an array `(n, features)` or texts `(n,)` lack a value: `(n, columns)`."""
    return np.stack([is_lacking(values) for _, values in _columns(rows)], axis=1)


def _made_again(column: dict[str, Any]) -> Column:
    """A column from its settings; each kind of column has a setting that the other kinds lack."""
    kinds = {"mean": Numbers, "categories": Categories, "weights": NGrams}
    kind: Any = next((kind for setting, kind in kinds.items() if setting in column), LeftOut)
    return as_type(column, kind)  # type: ignore[no-any-return]


def _columns(rows: Any) -> list[tuple[str, npt.NDArray[Any]]]:
    if is_table(rows):
        return [(str(name), _values(rows[name])) for name in rows.columns]
    array = as_array(rows, "rows")
    if array.ndim == 1:
        return [("text", array)]
    if array.ndim != 2:
        raise WrongType(
            f"rows must be a table, texts (n,) or an array (n, features); got {type(rows).__name__}, {array.shape}"
        )
    return [(str(i), array[:, i]) for i in range(array.shape[1])]


def _values(column: Any) -> npt.NDArray[Any]:
    """A column as an array: numbers with NaN where they are missing, or text and the like as objects."""
    dtype = column.dtype
    values = np.asarray(column.to_numpy())
    is_number = dtype.is_numeric() if hasattr(dtype, "is_numeric") else getattr(dtype, "kind", "O") in "iuf"
    if is_number and values.dtype.kind not in "iuf":
        as_floats = column.cast(float) if hasattr(column, "cast") else column.astype("float64")
        return np.asarray(as_floats.to_numpy(), "float64")
    return values
