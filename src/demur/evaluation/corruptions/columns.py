"""The columns of a table as corruptions see them: numbers and categories, of an array or a DataFrame."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, ShapeMismatch
from demur.rows.arrays import is_table
from demur.rows.rows import check_array


@dataclass(frozen=True)
class Column:
    """One column: numbers as float64 with NaN where they are missing, or anything else as objects."""

    values: npt.NDArray[Any]
    is_number: bool
    is_category: bool
    """Whether the values are text, true and false, and the like; dates and durations are neither."""

    @cached_property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Where a value is missing or infinite: `(n,)`."""
        if self.is_number:
            return np.asarray(~np.isfinite(self.values))
        return np.array([_is_missing(value) for value in self.values], bool)

    @cached_property
    def there(self) -> npt.NDArray[Any]:
        """The values that are not missing."""
        return np.asarray(self.values[~self.missing])

    @cached_property
    def categories(self) -> list[Any]:
        """The different values, sorted as they are written."""
        return sorted(set(self.there.tolist()), key=repr)

    @property
    def deviation(self) -> float:
        """Standard deviation; 0 if there are no values."""
        return float(self.there.std()) if len(self.there) else 0.0

    @property
    def middle(self) -> Any:
        """The median, or the commonest category; None if there are no values."""
        if not len(self.there):
            return None
        if self.is_number:
            return float(np.median(self.there))
        counts = Counter(self.there.tolist())
        return max(self.categories, key=counts.__getitem__)


def columns_of(X: Any, name: str = "X") -> list[Column]:
    """The columns of an array `(n, features)` without NaN, or of a DataFrame."""
    if not is_table(X):
        return [_column(values) for values in check_array(X, (None,), name).T]
    if len(X) == 0:
        raise EmptyInput(f"{name} has no rows; pass at least one")
    return [_column(series(X, i)) for i in range(X.shape[1])]


def series(X: Any, i: int) -> Any:
    """A column of a DataFrame by its number."""
    return X.iloc[:, i] if hasattr(X, "iloc") else X[:, i]


def check_alike(X: Any, reference: Any) -> None:
    """Raise ShapeMismatch unless two tables have the same columns."""
    names, known = ([str(name) for name in t.columns] if is_table(t) else t.shape[1] for t in (X, reference))
    if names != known:
        raise ShapeMismatch(f"reference must have the columns of X, {names}; got {known}")


def replaced(X: Any, changes: dict[int, npt.NDArray[Any]]) -> Any:
    """A copy of a table with new values in some columns; types and missing values stay."""
    if not is_table(X):
        result = np.array(X)
        for i, values in changes.items():
            result[:, i] = _fitted(values, result.dtype)
        return result
    is_pandas = hasattr(X, "iloc")
    result = X.copy() if is_pandas else X.clone()
    for i, values in changes.items():
        old = series(X, i)
        fitted = _fitted(values, old.dtype)
        if is_pandas:
            import pandas as pd

            result.isetitem(i, pd.Series(fitted, index=X.index).astype(old.dtype))
        else:
            import polars as pl

            plain = [None if gone else value for gone, value in zip(old.is_null(), fitted.tolist(), strict=True)]
            result.replace_column(i, pl.Series(old.name, plain, strict=False).cast(old.dtype, strict=False))
    return result


def _fitted(values: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Numbers as the type of a column holds them: within the bounds of the type, whole if it is a whole type."""
    kind = str(dtype).lower().split("[")[0]
    if values.dtype.kind == "f" and "int" in kind:
        bounds = np.iinfo("int64" if kind.endswith("128") else kind)
        # A float cannot hold the last whole numbers of 64 bits.
        return np.round(values).clip(bounds.min, min(bounds.max, 2**62))
    if values.dtype.kind == "f" and kind in ("float16", "float32"):
        most = float(np.finfo(kind).max)
        return np.where(np.isfinite(values), values.clip(-most, most), values)
    return values


def _column(values: Any) -> Column:
    dtype, kind = values.dtype, getattr(values.dtype, "kind", "O")
    if dtype.is_numeric() if hasattr(dtype, "is_numeric") else kind in "iuf":
        as_float = values.cast(float) if hasattr(values, "cast") else values.astype("float64")
        array = as_float if isinstance(as_float, np.ndarray) else as_float.to_numpy()
        return Column(np.asarray(array, "float64"), is_number=True, is_category=False)
    array = np.empty(len(values), object)
    array[:] = values.tolist() if isinstance(values, np.ndarray) else values.to_list()
    is_time = dtype.is_temporal() if hasattr(dtype, "is_temporal") else kind in "mM"
    is_category = not is_time and all(isinstance(value, Hashable) for value in array)
    return Column(array, is_number=False, is_category=is_category)


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NoneType", "NAType", "NaTType") or bool(value != value)  # noqa: PLR0124 - NaN
