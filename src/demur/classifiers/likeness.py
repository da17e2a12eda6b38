"""Whether a classifier is still the one it was: by its answers on a few rows that nobody has given. NumPy only.

The rows are made up, column by column: numbers drawn around the mean of the rows that were there first, categories
drawn from those that occur. No row of a caller, and no value of a column that is nearly unique, is kept.
"""

import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from demur.rows.arrays import is_table
from demur.rows.layout import flat
from demur.rows.rows import Rows

ROWS = 32
LOOKED_AT = 1000
"""Rows that are looked at to make up others."""
TOLERANCE = 1e-4
"""How far a probability may be from what it was: more than threads, processors and versions of a library change."""
MOST_BYTES = 2**20
"""Of the made-up rows together."""
CATEGORIES = 100
"""A column of text with more values than this, or with a different one in most rows, is taken for text or names."""
PANDAS, POLARS, ARRAYS = "pandas", "polars", "arrays"

Array = npt.NDArray[Any]


@dataclass
class Probe:
    """Made-up rows and the probabilities that the classifier gave them.

    Attributes:
        rows: the rows, as the classifier takes them.
        answers: `(n, classes)`; None before it was asked.
    """

    rows: Any
    answers: Array | None = None

    @classmethod
    def like(cls, rows: Rows, seed: int = 0) -> Self | None:
        """Make up rows like these; None where they hold what cannot be made up."""
        rng = np.random.default_rng(seed)
        some = rows[:LOOKED_AT]
        try:
            if some.is_table:
                return cls(_table(some.raw, rng))
            size = _size(sum(np.asarray(array)[:1].nbytes for array in some.arrays))
            if size == 0 or any(np.asarray(array).dtype.kind not in "biuf" for array in some.arrays):
                return None
            return cls(some.mapped(lambda array: _numbers(np.asarray(array), size, rng)).raw)
        except (TypeError, ValueError):
            return None

    def differs(self, probabilities: Array) -> bool:
        """Whether a classifier answers otherwise than it did.

        Args:
            probabilities: `(n, classes)`, what it answers now.
        """
        then = np.asarray(self.answers)
        return then.shape != probabilities.shape or bool(np.abs(then - probabilities).max() > TOLERANCE)

    def as_arrays(self) -> dict[str, Array]:
        """The rows and answers as arrays by name."""
        arrays = {"answers": np.asarray(self.answers, "float32")}
        if not is_table(self.rows):
            names = list(self.rows) if isinstance(self.rows, dict) else None
            about: dict[str, Any] = {"kind": ARRAYS, "names": names, "several": isinstance(self.rows, tuple | dict)}
            parts = flat(self.rows)
        else:
            about, parts = _described(self.rows)
        arrays["about"] = np.array(json.dumps(about))
        return arrays | {f"part_{number}": np.asarray(part) for number, part in enumerate(parts)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Self | None:
        """A probe from what `as_arrays` returned; None without the library that had made its table."""
        about = json.loads(str(arrays["about"]))
        parts = [arrays[f"part_{number}"] for number in range(len(arrays) - 2)]
        if about["kind"] != ARRAYS:
            rows = _rebuilt(about, parts)
            return None if rows is None else cls(rows, arrays["answers"])
        rows = dict(zip(about["names"], parts, strict=True)) if about["names"] else tuple(parts)
        return cls(rows if about["several"] else parts[0], arrays["answers"])


def _size(row_bytes: int) -> int:
    """How many rows are made up; 0 where even two take too much."""
    size = min(ROWS, MOST_BYTES // max(1, row_bytes))
    return size if size >= 2 else 0


def _numbers(values: Array, n: int, rng: np.random.Generator) -> Array:
    """Numbers around the mean of each place, within the range that occurs there; whole where all are."""
    x = values.astype("float64")
    known = np.isfinite(x)
    x = np.where(known, x, np.nan)
    empty = ~known.any(axis=0)
    x[:, empty] = 0.0
    spread = np.linspace(0.2, 1.5, n).reshape(-1, *[1] * (x.ndim - 1))  # from ordinary rows to odd ones
    drawn = np.nanmean(x, axis=0) + spread * np.nanstd(x, axis=0) * rng.normal(size=(n, *x.shape[1:]))
    drawn = np.clip(drawn, np.nanmin(x, axis=0), np.nanmax(x, axis=0))
    whole = np.where(known, x == np.round(np.where(known, x, 0.0)), True).all(axis=0)
    return np.asarray(np.where(whole, np.round(drawn), drawn).astype(values.dtype))


# Tables -------------------------------------------------------------------------------------------------------------


def _table(rows: Any, rng: np.random.Generator) -> Any:
    kind = PANDAS if hasattr(rows, "iloc") else POLARS
    columns = {name: _column(rows[name], kind, rng) for name in rows.columns}
    if kind == POLARS:
        return rows[:0].vstack(type(rows)(columns, schema=rows.schema))
    made = type(rows)(columns)
    return made.astype({name: rows[name].dtype for name in rows.columns})


def _column(column: Any, kind: str, rng: np.random.Generator) -> Any:
    """Values that a column could have.

    Raises:
        TypeError: it holds neither numbers nor text.
    """
    if _is_number(column, kind):
        return _numbers(np.asarray(column.to_numpy(), "float64"), ROWS, rng)
    present = [value for value in column.to_list() if isinstance(value, str)]
    if not present and len(column):
        raise TypeError("neither numbers nor text")
    found = sorted(set(present))
    if len(found) > CATEGORIES or len(found) > max(2, len(present) // 2):
        found = [found[0]] if hasattr(column, "cat") and kind == PANDAS else ["text"]
    return rng.choice(np.array(found), ROWS).tolist()


def _is_number(column: Any, kind: str) -> bool:
    if kind == POLARS:
        return bool(column.dtype.is_numeric() or str(column.dtype) == "Boolean")
    return getattr(column.dtype, "kind", "O") in "biuf"


def _described(rows: Any) -> tuple[dict[str, Any], list[Array]]:
    """A table's columns as arrays, and what makes the table of them again."""
    kind = PANDAS if hasattr(rows, "iloc") else POLARS
    names = [name if isinstance(name, int) else str(name) for name in rows.columns]
    types, categories, parts = [], [], []
    for name in rows.columns:
        column = rows[name]
        is_categories = kind == PANDAS and str(column.dtype) == "category"
        types.append(str(column.dtype))
        categories.append([str(value) for value in column.dtype.categories] if is_categories else None)
        parts.append(np.asarray(column.to_numpy() if _is_number(column, kind) else np.array(column.to_list(), "U")))
    return {"kind": kind, "names": names, "types": types, "categories": categories}, parts


def _rebuilt(about: dict[str, Any], parts: list[Array]) -> Any:
    try:
        if about["kind"] == PANDAS:
            import pandas as pd

            table = pd.DataFrame(dict(zip(about["names"], parts, strict=True)))
            types = {
                name: kind if known is None else pd.CategoricalDtype(known)
                for name, kind, known in zip(about["names"], about["types"], about["categories"], strict=True)
            }
            return table.astype(types)
        import polars as pl

        return pl.DataFrame(
            {
                name: pl.Series(part.tolist()).cast(getattr(pl, kind))
                for name, part, kind in zip(about["names"], parts, about["types"], strict=True)
            }
        )
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
