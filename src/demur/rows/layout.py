"""The layout of rows, which says what one row is.

Rows are an array, several arrays with as many rows (a tuple, or a dict by name), a table with named columns (a
pandas or polars DataFrame), or texts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from demur.documents import Malformed, as_type
from demur.errors import InvalidSetting
from demur.rows.texts import Text

Shape: TypeAlias = tuple[int | None, ...]
"""The shape of one row; `None` where any size will do."""


@dataclass(frozen=True)
class Field:
    """One array of rows."""

    shape: Shape
    """Of one row."""
    dtype: str | None = "float32"
    """The type that numbers are cast to, a batch at a time; None to leave them as they are."""
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

UNKNOWN_SIZE = 32
"""Stands in a probe for a size that may be any."""


def describe(shape: Shape) -> str:
    """Write the shape of a row as the shape of a batch: `(n, 28, 28, 1)`."""
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


def as_layout(input_shape: Any) -> Layout:
    """The layout of rows of a given shape, as a setting: one shape, or a tuple or dict of them.

    Raises:
        InvalidSetting: `input_shape` is anything else.
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
    field: Field = as_type({**stored, "columns": stored.get("names")}, Field)
    if field.dtype is not None and field.dtype not in np.sctypeDict and field.dtype != "bfloat16":
        raise Malformed(f"there is no type of numbers {field.dtype!r}")
    return field


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    """Whether one row's shape is the expected one."""
    return len(shape) == len(expected) and all(want in (None, have) for have, want in zip(shape, expected, strict=True))


def probe_rows(layout: Layout) -> Any:
    """One row of zeros, in NumPy."""

    def zeros(field: Field) -> npt.NDArray[Any]:
        return np.zeros(
            [1, *(UNKNOWN_SIZE if size is None else size for size in field.shape)], field.dtype or "float32"
        )

    return mapped(zeros, layout)
