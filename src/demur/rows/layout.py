"""Rows as they come from a caller: what is accepted, and how they are cast a batch at a time. NumPy only.

Rows are an array, several arrays with as many rows (a tuple, or a dict by name), a table with named columns (a
pandas or polars DataFrame), or texts. Their layout says what one row is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from demur.documents import as_type
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType
from demur.rows.texts import Text, are_texts, as_texts, kind_of

Shape: TypeAlias = tuple[int | None, ...]
"""The shape of one row; `None` where any size will do."""

Rows: TypeAlias = Any
"""An array (of numbers or of texts), a tuple or dict of arrays, or a DataFrame."""


@dataclass(frozen=True)
class Field:
    """One array of rows."""

    shape: Shape
    """Of one row."""
    dtype: str | None = "float32"
    """What it is cast to, a batch at a time; None: it stays as it comes."""
    columns: tuple[str, ...] | None = field(default=None, compare=False)
    """The names of the columns, in the classifier's order, where they came as a table; other tables are put in it."""


@dataclass(frozen=True)
class Columns:
    """A table with named columns, each of a type of its own, that stay as they come."""

    names: tuple[str, ...]


Labels: TypeAlias = npt.NDArray[np.int64]
"""Classes, `(n,)`."""

Layout: TypeAlias = Field | tuple[Field, ...] | dict[str, Field] | Columns | Text
"""What one row is."""

LIST = ": np.asarray(...) makes an array of a list"
UNKNOWN_SIZE = 32
"""Stands in a probe for a size that may be any."""
CHECK_ROWS = 4096
"""Rows looked at together when searching for NaN, so that no copy of the whole array is made."""


def describe(shape: Shape) -> str:
    """Write a row shape the way a batch of it is written: `(n, 28, 28, 1)`."""
    return "(" + ", ".join(["n", *("any" if size is None else str(size) for size in shape)]) + ")"


def describe_layout(layout: Layout) -> str:
    """Write a layout: `(n, 28, 28, 1)`, `{'ids': (n, 16), 'mask': (n, 16)}`."""
    if isinstance(layout, Field):
        return describe(layout.shape)
    if isinstance(layout, Columns):
        return f"a table with columns {', '.join(layout.names)}"
    if isinstance(layout, Text):
        return "texts, (n,)"
    if isinstance(layout, dict):
        return "{" + ", ".join(f"{name!r}: {describe(field.shape)}" for name, field in layout.items()) + "}"
    return "(" + ", ".join(describe(field.shape) for field in layout) + ")"


def shapes_of(layout: Layout) -> Any:
    """The shape of one row: a tuple, or a tuple or dict of them, or of names of columns; "text" for texts."""
    if isinstance(layout, Text):
        return "text"
    return layout.names if isinstance(layout, Columns) else mapped(lambda field: field.shape, layout)


def mapped(function: Callable[..., Any], first: Any, *rest: Any) -> Any:
    """Apply a function to each array (or field) of one structure, or of several that are alike."""
    if isinstance(first, dict):
        return {name: function(first[name], *(other[name] for other in rest)) for name in first}
    if isinstance(first, tuple | list):
        return tuple(function(*parts) for parts in zip(first, *rest, strict=True))
    return function(first, *rest)


def flat(structure: Any) -> list[Any]:
    """The arrays (or fields) of a structure."""
    if isinstance(structure, dict):
        return list(structure.values())
    return list(structure) if isinstance(structure, tuple | list) else [structure]


def is_sparse(X: Any) -> bool:
    """Whether `X` is a sparse matrix, or array, of SciPy."""
    return hasattr(X, "toarray") and hasattr(X, "tocsr")


class SparseRows:
    """A sparse matrix as rows: what is taken of it becomes dense, a batch at a time.

    Args:
        matrix: of SciPy, `(n, features)`.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix.tocsr() if len(matrix.shape) == 2 else matrix
        self.shape, self.dtype, self.ndim = self.matrix.shape, self.matrix.dtype, len(self.matrix.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, chosen: Any) -> npt.NDArray[Any]:
        return np.asarray(self.matrix[chosen].toarray())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self.matrix.toarray(), dtype)


def as_numpy(values: Any) -> npt.NDArray[Any]:
    """An array of any framework in NumPy: without its gradients, on the CPU, bfloat16 as float32; or sparse rows.

    NumPy has no type for bfloat16 and smaller floats, which become float32 without a loss.
    """
    if is_sparse(values):
        return SparseRows(values)  # type: ignore[return-value]
    if isinstance(values, SparseRows):
        return values  # type: ignore[return-value]
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    array = np.asarray(values)
    is_small_float = array.dtype.kind == "V" and "float" in array.dtype.name  # as TensorFlow and JAX hand them out
    return array.astype("float32") if is_small_float else array


def is_table(X: Any) -> bool:
    """Whether `X` is a DataFrame of pandas or polars, or quacks like one."""
    return hasattr(X, "columns") and hasattr(X, "shape") and hasattr(X, "__getitem__") and len(X.shape) == 2


def row_count(rows: Rows) -> int:
    """How many rows there are."""
    return len(rows) if is_table(rows) else len(flat(rows)[0])


def taken(rows: Rows, chosen: Any) -> Rows:
    """Some rows: those of a slice, or of an array of numbers or of booleans."""
    if not is_table(rows):
        return mapped(lambda array: array[chosen], rows)
    if hasattr(rows, "iloc"):
        return rows.iloc[chosen]
    return rows[chosen] if isinstance(chosen, slice) else rows[np.arange(len(rows))[chosen].tolist()]


def cast(rows: Rows, layout: Layout) -> Rows:
    """Rows as the layout says; arrays that are so already are not copied."""
    if isinstance(layout, Columns | Text):
        return rows
    return mapped(lambda x, field: x if field.dtype is None else x.astype(field.dtype, copy=False), rows, layout)


def layout_of(rows: Rows) -> Layout:
    """The layout of rows as they came."""
    if is_table(rows):
        return Columns(tuple(str(name) for name in rows.columns))
    if are_texts(rows):
        return Text(kind_of(rows))
    return mapped(lambda x: Field(tuple(x.shape[1:]), str(x.dtype)), mapped(as_numpy, rows))  # type: ignore[no-any-return]


def as_layout(input_shape: Any) -> Layout:
    """The layout of rows of a given shape, as a setting: one shape, or a tuple or dict of them.

    Raises:
        InvalidSetting: it is none of these.
    """

    def one(shape: Any) -> Field:
        if not isinstance(shape, tuple | list) or not all(size is None or isinstance(size, int) for size in shape):
            raise InvalidSetting(
                f"input_shape is the shape of one row, without the batch, or a tuple or dict of shapes; "
                f"got {input_shape!r}"
            )
        return Field(tuple(shape), None)

    if isinstance(input_shape, dict):
        return {name: one(shape) for name, shape in input_shape.items()}
    if isinstance(input_shape, tuple | list) and input_shape and all(isinstance(s, tuple | list) for s in input_shape):
        return tuple(one(shape) for shape in input_shape)
    return one(input_shape)


def compatible(layout: Layout, other: Layout) -> bool:
    """Whether two layouts, with unknown sizes perhaps, can be the same, whatever their dtypes."""
    if isinstance(layout, Columns) or isinstance(other, Columns):
        return layout == other
    if type(layout) is not type(other):
        return False
    if isinstance(layout, Text):
        return True
    if isinstance(layout, dict) and isinstance(other, dict) and set(layout) != set(other):
        return False
    if len(flat(layout)) != len(flat(other)):
        return False
    return all(flat(mapped(lambda a, b: fits_either(a.shape, b.shape), layout, other)))


def fits_either(shape: Shape, other: Shape) -> bool:
    """Whether two row shapes, each with unknown sizes perhaps, can be the same."""
    return len(shape) == len(other) and all(a is None or b is None or a == b for a, b in zip(shape, other, strict=True))


def as_json(layout: Layout) -> Any:
    """A layout as JSON can hold it."""
    if isinstance(layout, Columns):
        return {"columns": list(layout.names)}
    if isinstance(layout, Text):
        return {"text": layout.kind}
    if isinstance(layout, Field):
        names = {} if layout.columns is None else {"names": list(layout.columns)}
        return {"shape": list(layout.shape), "dtype": layout.dtype, **names}
    if isinstance(layout, dict):
        return {"named": [[name, as_json(field)] for name, field in layout.items()]}
    return {"ordered": [as_json(field) for field in layout]}


def from_json(data: Any) -> Layout:
    """A layout from what `as_json` returned; Malformed if it is something else."""
    stored = as_type(data, dict[str, Any])
    if "columns" in stored:
        return Columns(as_type(stored["columns"], tuple[str, ...]))
    if "text" in stored:
        return Text(as_type(stored["text"], str))
    if "named" in stored:
        return {name: _field(one) for name, one in as_type(stored["named"], list[tuple[str, dict[str, Any]]])}
    return (
        tuple(map(_field, as_type(stored["ordered"], list[dict[str, Any]]))) if "ordered" in stored else _field(stored)
    )


def _field(stored: Mapping[str, Any]) -> Field:
    return as_type({**stored, "columns": stored.get("names")}, Field)  # type: ignore[no-any-return]


def with_columns(layout: Layout, X: Any) -> Layout:
    """A layout that remembers the order of a table's columns, if `X` is one and the layout is that of its numbers."""
    is_row = isinstance(layout, Field) and len(layout.shape) == 1 and layout.columns is None
    if not (is_row and is_table(X)):
        return layout
    names = tuple(str(name) for name in X.columns)
    return replace(layout, columns=names) if len(set(names)) == len(names) else layout  # type: ignore[type-var]


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether one row's shape is the expected one."""
    return len(shape) == len(expected) and all(want in (None, have) for have, want in zip(shape, expected, strict=True))


def check_layout(X: Any, layout: Layout, name: str = "X", *, finite: bool = True) -> Rows:
    """Return `X` as rows of a layout, neither copied nor cast.

    Args:
        X: what the caller gave.
        layout: what one row is.
        name: what to call it in error messages.
        finite: whether NaN and infinity are errors; those of a table are a matter for what makes numbers of it.

    Raises:
        WrongType, ShapeMismatch, EmptyInput, NonFinite: see `check_rows`.
    """
    if isinstance(layout, Field):
        if layout.columns is not None and is_table(X):
            X = _check_table(X, Columns(layout.columns), name)
        return check_rows(X, layout.shape, name, finite=finite)
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
    arrays = [check_rows(X[k], layout[k].shape, f"{name}[{k!r}]", finite=finite) for k in keys]  # type: ignore[index]
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


def finite_rows(rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows hold nothing but numbers that are finite as float32: bool `(n,)`."""
    found = np.ones(row_count(rows), bool)
    with np.errstate(over="ignore"):
        for array in flat(rows):
            if array.dtype.kind == "f":
                found &= np.isfinite(array.reshape(len(array), -1).astype("float32", copy=False)).all(axis=1)
    return found


def row_list(rows: npt.NDArray[np.integer[Any]]) -> str:
    """Write row numbers, at most ten of them."""
    return ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """An array of what may be lists.

    Raises:
        ShapeMismatch: the lists in it are of several lengths.
    """
    try:
        return as_numpy(values)
    except ValueError as error:
        raise ShapeMismatch(f"{name} must be an array, or lists of one length each: {error}") from error


def batches(rows: Rows, batch_size: int) -> Iterator[Rows]:
    """Yield consecutive slices of `batch_size` rows; the last may be shorter."""
    for start in range(0, row_count(rows), batch_size):
        yield taken(rows, slice(start, start + batch_size))


def padded(batch: Rows, batch_size: int) -> Rows:
    """Repeat the last row up to the next power of two, at most `batch_size`, so that few shapes are ever compiled."""
    rows = row_count(batch)
    size = min(batch_size, 1 << (rows - 1).bit_length())
    if size <= rows:
        return batch
    return mapped(lambda array: np.concatenate([array, np.repeat(array[-1:], size - rows, axis=0)]), batch)


def probe_rows(layout: Layout) -> Any:
    """One row of zeros, in NumPy."""

    def zeros(field: Field) -> npt.NDArray[Any]:
        return np.zeros(
            [1, *(UNKNOWN_SIZE if size is None else size for size in field.shape)], field.dtype or "float32"
        )

    return mapped(zeros, layout)
