"""Rows of a table as the numbers that a companion takes. NumPy only."""

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from demur.data import Rows, is_table
from demur.errors import ShapeMismatch, WrongType

MISSING = "\0missing"
"""Stands for a category that is missing."""


class TableEncoder:
    """Standardises numeric columns and one-hot encodes the others: `(n, numbers)`, float32.

    A category that was not there in the rows it learned from becomes zeros. A missing category is one of its own if it
    was there, and NaN otherwise, as a missing number is: such rows cannot be judged.

    Args:
        columns: for each column, its name, and a mean and a scale or the categories; None before `fit`.
    """

    def __init__(self, columns: list[dict[str, Any]] | None = None) -> None:
        self.columns = columns or []

    def fit(self, rows: Rows) -> Self:
        """Learn the columns' means, standard deviations and categories.

        Raises:
            WrongType: a column holds neither numbers nor categories.
        """
        self.columns = [_learned(name, values) for name, values in _columns(rows)]
        return self

    def transform(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the numbers: `(n, width)`."""
        found = _columns(rows)
        if [name for name, _ in found] != [column["name"] for column in self.columns]:
            raise ShapeMismatch(
                f"the rows have columns {', '.join(name for name, _ in found)}; these were learned: "
                f"{', '.join(column['name'] for column in self.columns)}"
            )
        parts = [_encoded(column, values) for column, (_, values) in zip(self.columns, found, strict=True)]
        return np.concatenate(parts, axis=1).astype("float32")

    def settings(self) -> list[dict[str, Any]]:
        """What `TableEncoder(...)` takes to make it again, as JSON can hold it."""
        return self.columns


def _columns(rows: Rows) -> list[tuple[str, npt.NDArray[Any]]]:
    if is_table(rows):
        return [(str(name), _values(rows[name])) for name in rows.columns]
    array = np.asarray(rows)
    return [(str(i), array[:, i]) for i in range(array.shape[1])]


def _values(column: Any) -> npt.NDArray[Any]:
    """A column as an array: numbers as float64, with NaN where they are missing, or text and the like as objects."""
    dtype = column.dtype
    numeric = dtype.is_numeric() if hasattr(dtype, "is_numeric") else getattr(dtype, "kind", "O") in "iuf"
    if numeric:
        values = column.cast(float) if hasattr(column, "cast") else column.astype("float64")
        return np.asarray(values.to_numpy(), "float64")
    return np.asarray(column.to_numpy())


def _learned(name: str, values: npt.NDArray[Any]) -> dict[str, Any]:
    if values.dtype.kind in "mM":
        raise WrongType(
            f"column {name!r} holds dates or durations, which no default makes numbers of: pass companion_preprocess=, "
            "a function (or fitted transformer) from your rows to numbers"
        )
    if values.dtype.kind in "iuf":
        finite = values[np.isfinite(values)].astype("float64")
        mean, scale = (float(finite.mean()), float(finite.std())) if len(finite) else (0.0, 1.0)
        return {"name": name, "mean": mean, "scale": scale or 1.0}
    return {"name": name, "categories": sorted({_category(value) for value in values})}


def _category(value: Any) -> str:
    is_missing = value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"
    return MISSING if is_missing or type(value).__name__ == "NaTType" else str(value)


def _encoded(column: dict[str, Any], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if "mean" in column:
        if values.dtype.kind not in "iuf":
            raise WrongType(
                f"column {column['name']!r} held numbers when the detector learned; it is {values.dtype} now"
            )
        return np.asarray((values[:, None].astype("float64") - column["mean"]) / column["scale"])
    known = {category: i for i, category in enumerate(column["categories"])}
    encoded = np.zeros((len(values), len(known)))
    for row, value in enumerate(values):
        category = _category(value)
        if category in known:
            encoded[row, known[category]] = 1.0
        elif category == MISSING:
            encoded[row] = np.nan
    return encoded
