"""Rows as they come from a caller: what is accepted, and how they are cast a batch at a time. NumPy only."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType

Shape: TypeAlias = tuple[int | None, ...]
"""The shape of one row; `None` where any size will do."""

CHECK_ROWS = 4096
"""Rows looked at together when searching for NaN, so that no copy of the whole array is made."""


def describe(shape: Shape) -> str:
    """Write a row shape the way a batch of it is written: `(n, 28, 28, 1)`."""
    return "(" + ", ".join(["n", *("any" if size is None else str(size) for size in shape)]) + ")"


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether one row's shape is the expected one."""
    return len(shape) == len(expected) and all(want in (None, have) for have, want in zip(shape, expected, strict=True))


def check_rows(X: Any, shape: Shape, name: str = "X", *, finite: bool = True) -> npt.NDArray[Any]:
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
    if not hasattr(X, "__array__"):
        raise WrongType(f"{name} must be an array of shape {describe(shape)}; got {type(X).__name__}: np.asarray(...)")
    rows = np.asarray(X)
    if rows.dtype.kind not in "buif":
        raise WrongType(f"{name} must hold real numbers; got dtype {rows.dtype}: convert it first")
    if rows.ndim == 0 or not fits(rows.shape[1:], shape):
        hint = ""
        if fits(rows.shape, shape):
            hint = f"; for a single instance pass {name}[None]"
        raise ShapeMismatch(f"{name} must have shape {describe(shape)}; got {rows.shape}{hint}")
    if len(rows) == 0:
        raise EmptyInput(f"{name} has no rows; pass at least one")
    if finite:
        check_finite(rows, name)
    return rows


def check_finite(rows: npt.NDArray[Any], name: str) -> None:
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


def finite_rows(rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows hold nothing but numbers that are finite as float32: bool `(n,)`."""
    with np.errstate(over="ignore"):
        numbers = rows.reshape(len(rows), -1).astype("float32", copy=False)
    return np.asarray(np.isfinite(numbers).all(axis=1))


def row_list(rows: npt.NDArray[np.integer[Any]]) -> str:
    """Write row numbers, at most ten of them."""
    return ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise InvalidSetting unless a setting is a whole number of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise InvalidSetting(f"{name} is a whole number of at least {least}; got {value!r}")


def is_number(value: Any) -> bool:
    """Whether a value is one finite number."""
    return isinstance(value, int | float | np.integer | np.floating) and bool(np.isfinite(value))


def batches(rows: npt.NDArray[Any], batch_size: int) -> Iterator[npt.NDArray[Any]]:
    """Yield consecutive slices of `batch_size` rows; the last may be shorter."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def padded(batch: npt.NDArray[Any], batch_size: int) -> npt.NDArray[Any]:
    """Repeat the last row up to the next power of two, at most `batch_size`, so that few shapes are ever compiled."""
    size = min(batch_size, 1 << (len(batch) - 1).bit_length())
    if size <= len(batch):
        return batch
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
