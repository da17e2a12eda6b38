"""Rows as they come from a caller: checked once, then sliced, cast and padded a batch at a time. NumPy only."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, NonFinite, ShapeMismatch, WrongType
from demur.rows.arrays import LIST, as_numpy, is_sparse, is_table, row_list
from demur.rows.layout import Columns, Field, Layout, Shape, describe, describe_layout, fits, flat, mapped
from demur.rows.texts import Text, are_texts, as_texts, kind_of

CHECK_ROWS = 4096
"""Rows looked at together when searching for NaN, so that no copy of the whole array is made."""
SOME = 2048
"""Rows that tell what scores, or numbers, are usual."""


class Rows:
    """Rows and their layout. Nothing is copied until rows are chosen or cast.

    Attributes:
        raw: an array of numbers, a tuple or dict of such arrays, a DataFrame, or an array of texts.
        layout: what one row is, and what numbers are cast to.
    """

    __slots__ = ("layout", "raw")

    def __init__(self, raw: Any, layout: Layout) -> None:
        self.raw, self.layout = raw, layout

    @classmethod
    def of(cls, X: Any, layout: Layout, name: str = "X", *, finite: bool = True) -> "Rows":
        """Check what a caller gave, and return it as rows of a layout.

        Args:
            X: arrays of any framework, a DataFrame or texts.
            layout: what one row is.
            name: what to call it in error messages.
            finite: whether NaN and infinity in arrays are errors; in a table they never are.

        Raises:
            WrongType, ShapeMismatch, EmptyInput, NonFinite: see `check_array`.
        """
        return cls(_checked(X.raw if isinstance(X, Rows) else X, layout, name, finite), layout)

    @classmethod
    def unchecked(cls, X: Any) -> "Rows":
        """Rows of the layout that they are seen to have."""
        if is_table(X):
            return cls(X, Columns(tuple(str(name) for name in X.columns)))
        if are_texts(X):
            return cls(as_texts(X), Text(kind_of(X)))
        arrays = mapped(as_numpy, X)
        return cls(arrays, mapped(lambda x: Field(tuple(x.shape[1:]), str(x.dtype)), arrays))

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """Put batches together."""
        values = [part.raw for part in parts]
        if hasattr(values[0], "iloc"):
            import pandas as pd

            return cls(pd.concat(values), parts[0].layout)
        if is_table(values[0]):
            import polars as pl

            return cls(pl.concat(values), parts[0].layout)
        return cls(mapped(lambda *arrays: np.concatenate(arrays), *values), parts[0].layout)

    @property
    def is_table(self) -> bool:
        """Whether the rows are those of a DataFrame."""
        return isinstance(self.layout, Columns)

    @property
    def arrays(self) -> list[Any]:
        """The arrays, in the order of the layout; of a table the DataFrame."""
        return flat(self.raw)

    def __len__(self) -> int:
        return len(self.arrays[0] if isinstance(self.raw, dict | tuple) else self.raw)

    def __getitem__(self, chosen: Any) -> "Rows":
        """The rows of a slice, or of an array of row numbers or of booleans; of a sparse matrix they become dense."""
        if not self.is_table:
            return self.mapped(lambda array: array[chosen])
        if hasattr(self.raw, "iloc"):
            return Rows(self.raw.iloc[chosen], self.layout)
        numbers = chosen if isinstance(chosen, slice) else np.arange(len(self))[chosen].tolist()
        return Rows(self.raw[numbers], self.layout)

    def mapped(self, function: Callable[[Any], Any]) -> "Rows":
        """Apply a function to each array."""
        return Rows(mapped(function, self.raw), self.layout)

    def copied(self) -> "Rows":
        """The rows with arrays of their own. Tables are not copied: nobody writes into them."""
        return self if self.is_table else self.mapped(np.copy)

    def cast(self) -> "Rows":
        """The rows in the types of their layout; arrays that have these types already are not copied."""
        layout = self.layout
        if isinstance(layout, Columns | Text):
            return self
        if isinstance(layout, Field) and (layout.dtype is None or self.raw.dtype == layout.dtype):
            return self

        def one(x: npt.NDArray[Any], field: Field) -> npt.NDArray[Any]:
            return x if field.dtype is None else x.astype(field.dtype, copy=False)

        return Rows(mapped(one, self.raw, layout), layout)

    def batches(self, batch_size: int) -> Iterator["Rows"]:
        """Yield consecutive slices of `batch_size` rows; the last may be shorter."""
        for start in range(0, len(self), batch_size):
            yield self[start : start + batch_size]

    def padded(self, batch_size: int) -> "Rows":
        """Repeat the last row up to the next power of two, at most `batch_size`, so that few shapes are compiled."""
        n = len(self)
        size = padded_size(n, batch_size)
        return self if size == n else self.mapped(lambda array: padded(array, size))

    def some(self, n: int = SOME) -> "Rows":
        """At most n of the rows, spread evenly over all of them, and copied."""
        return self[np.linspace(0, len(self) - 1, min(n, len(self))).astype(int)]

    def are_finite(self) -> npt.NDArray[np.bool_]:
        """Which rows hold only numbers that are finite as float32: bool `(n,)`."""
        found = np.ones(len(self), bool)
        for array in self.arrays:
            found &= finite_rows(array)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take; of a table, about."""
        return 8 * math.prod(self.raw.shape) if self.is_table else sum(array.nbytes for array in self.arrays)


def padded_size(rows: int, batch_size: int) -> int:
    """The next power of two, at most `batch_size`."""
    return max(rows, min(batch_size, 1 << (rows - 1).bit_length()))


def padded(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Repeat the last row of an array until it has `size` rows."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def finite_rows(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows of an array hold only numbers that are finite as float32: bool `(n,)`."""
    if array.dtype.kind != "f":
        return np.ones(len(array), bool)
    with np.errstate(over="ignore"):
        return np.asarray(np.isfinite(array.reshape(len(array), -1).astype("float32", copy=False)).all(axis=1))


def with_columns(layout: Layout, X: Any) -> Layout:
    """The layout with the names of the columns of `X`, if `X` is a table whose numbers it describes."""
    is_row = isinstance(layout, Field) and len(layout.shape) == 1 and layout.columns is None
    if not (is_row and is_table(X)):
        return layout
    names = tuple(str(name) for name in X.columns)
    return replace(layout, columns=names) if len(set(names)) == len(names) else layout  # type: ignore[type-var]


def _checked(X: Any, layout: Layout, name: str, finite: bool) -> Any:
    if isinstance(layout, Field):
        if layout.columns is not None and is_table(X):
            X = _check_table(X, Columns(layout.columns), name)
        return check_array(X, layout.shape, name, finite=finite)
    if isinstance(layout, Columns):
        return _check_table(X, layout, name)
    if isinstance(layout, Text):
        return as_texts(X, name)
    if isinstance(layout, dict):
        if not isinstance(X, Mapping):
            raise WrongType(f"{name} must be a dict of arrays, {describe_layout(layout)}; got {type(X).__name__}")
        if set(X) != set(layout):
            raise ShapeMismatch(f"{name} must have the keys {', '.join(layout)}; got {', '.join(map(str, X))}")
    elif not isinstance(X, tuple | list) or len(X) != len(layout):
        got = f"{type(X).__name__}" + (f" of {len(X)}" if isinstance(X, tuple | list) else "")
        raise WrongType(f"{name} must be a tuple of {len(layout)} arrays, {describe_layout(layout)}; got {got}")
    keys = list(layout) if isinstance(layout, dict) else list(range(len(layout)))
    arrays = [check_array(X[k], layout[k].shape, f"{name}[{k!r}]", finite=finite) for k in keys]  # type: ignore[index]
    if len({len(array) for array in arrays}) > 1:
        raise ShapeMismatch(
            f"the arrays of {name} must have as many rows; got {', '.join(str(len(a)) for a in arrays)}"
        )
    return dict(zip(keys, arrays, strict=True)) if isinstance(layout, dict) else tuple(arrays)


def _check_table(X: Any, layout: Columns, name: str) -> Any:
    if not is_table(X):
        raise WrongType(f"{name} must be {describe_layout(layout)} (a DataFrame); got {type(X).__name__}")
    missing = [column for column in layout.names if column not in [str(found) for found in X.columns]]
    if missing:
        raise ShapeMismatch(f"{name} must be {describe_layout(layout)}; it has no {', '.join(missing)}")
    if len(X) == 0:
        raise EmptyInput(f"{name} has no rows; pass at least one")
    if tuple(str(found) for found in X.columns) == layout.names:
        return X
    by_name = {str(found): found for found in X.columns}
    return X[[by_name[column] for column in layout.names]]


def check_array(X: Any, shape: Shape, name: str = "X", *, finite: bool = True) -> npt.NDArray[Any]:
    """Return `X` as an array of numbers of shape `(n, *shape)`, neither copied nor cast.

    Arrays of any framework are accepted; integers and booleans too (they are cast, never rescaled, batch by batch).

    Args:
        X: what the caller gave.
        shape: the shape of one row.
        name: what to call it in error messages.
        finite: whether NaN and infinity are errors.

    Raises:
        WrongType: not an array, or not of numbers.
        ShapeMismatch: rows of another shape.
        EmptyInput: no rows.
        NonFinite: NaN or infinity, or numbers that do not fit in float32; the message names the rows.
    """
    if are_texts(X):
        raise WrongType(
            f"{name} holds texts, and the classifier takes arrays of shape {describe(shape)}: pass a function from "
            "texts to probabilities as the classifier, such as lambda texts: model.predict(tokenize(texts))"
        )
    if not (hasattr(X, "__array__") or is_sparse(X)):
        raise WrongType(
            f"{name} must be an array of shape {describe(shape)}; got {type(X).__name__}"
            + (LIST if isinstance(X, list) else "")
        )
    rows = as_numpy(X)
    if rows.dtype.kind not in "buif":
        is_nested = rows.dtype.kind == "O" and rows.ndim == 1 and len(rows) > 0 and hasattr(rows[0], "__len__")
        hint = "np.stack(list(...)) makes one array of its rows" if is_nested else "convert it first"
        raise WrongType(f"{name} must hold real numbers; got dtype {rows.dtype}: {hint}")
    if rows.ndim == 0 or not fits(rows.shape[1:], shape):
        hint = f"; for a single instance pass {name}[None]" if fits(rows.shape, shape) else ""
        raise ShapeMismatch(f"{name} must have shape {describe(shape)}; got {rows.shape}{hint}")
    if len(rows) == 0:
        raise EmptyInput(f"{name} has no rows; pass at least one")
    if finite:
        _check_finite(rows, name)
    return rows


def _check_finite(rows: npt.NDArray[Any], name: str) -> None:
    """Raise NonFinite, naming the rows, if any of them holds NaN, infinity or a number beyond float32."""
    if rows.dtype.kind != "f":
        return
    starts = range(0, len(rows), CHECK_ROWS)
    found = np.concatenate([start + np.flatnonzero(~finite_rows(rows[start : start + CHECK_ROWS])) for start in starts])
    if len(found):
        raise NonFinite(
            f"{name} holds NaN, infinity or numbers beyond float32 in {len(found)} of {len(rows)} rows: "
            f"{row_list(found)}; remove or impute them"
        )
