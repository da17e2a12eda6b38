"""From columns to the rows that a guard takes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.batch.pictures import decoded
from demur.errors import ShapeMismatch, WrongType
from demur.extras import extra
from demur.rows.layout import Columns, Field, Layout
from demur.rows.texts import Text

Faults = dict[int, str]
"""Rows that cannot be used, by number, and why. In the arrays they are zeros."""


class Batch(NamedTuple):
    """Some rows of a data set."""

    ids: Any
    """A `pyarrow.Table`, `n` rows: what tells them apart."""
    rows: Any
    """`n` rows."""
    faults: Faults


class Reading(NamedTuple):
    """How rows are made.

    Attributes:
        layout: what one row is.
        columns: the columns they are made of; None for all that are no ids.
        scale: what they are multiplied by, as float32; None for not at all.
        channels_first: whether images are `(channels, height, width)`.
    """

    layout: Layout
    columns: tuple[str, ...] | None = None
    scale: float | None = None
    channels_first: bool = False

    def scaled(self, rows: Any) -> Any:
        """Arrays, multiplied."""
        if self.scale is None or not isinstance(rows, np.ndarray):
            return rows
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and the guard finds it
            return rows.astype("float32") * np.float32(self.scale)


def arrow() -> Any:
    """Import pyarrow.

    Raises:
        MissingExtra: it is not installed.
    """
    with extra("pyarrow", "batch"):
        import pyarrow
    return pyarrow


def rows_of(table: Any, reading: Reading, ids: Sequence[str] = ()) -> tuple[Any, Faults]:
    """Make rows of a table's columns.

    A row that is one array is made of one column that holds arrays (lists, tensors, raw bytes of uint8 numbers, or
    encoded images), or of as many columns of numbers as it has numbers. Several arrays are made of columns with their
    names, or of as many columns as they are. What takes a table gets the columns by name; what takes texts, one column.

    Args:
        table: a `pyarrow.Table` of `n` rows.
        reading: how.
        ids: columns that are none of the data.

    Raises:
        ShapeMismatch: a column is missing, or there are not as many as a row needs.
        WrongType: a column holds something else.
    """
    layout = reading.layout
    if isinstance(layout, Columns):
        return table.select(_present(table, layout.names)).to_pandas(), {}
    if isinstance(layout, Text):
        return _texts(table, reading, ids), {}
    if isinstance(layout, dict):
        names = list(layout)
    elif reading.columns is not None:
        names = list(reading.columns)
    else:
        names = [name for name in table.column_names if name not in ids]
    _present(table, names)
    if not names:
        raise ShapeMismatch(f"there is no column but ids={', '.join(ids)}, so nothing to make a row of")
    faults: Faults = {}
    if isinstance(layout, Field):
        if len(names) == 1 and not _is_number(table.schema.field(names[0]).type):
            rows = _array(table, names[0], layout, reading, faults)
        else:
            rows = _side_by_side(table, names, layout)
        return reading.scaled(rows), faults
    fields = list(layout.values()) if isinstance(layout, dict) else list(layout)
    if len(names) != len(fields):
        raise ShapeMismatch(
            f"a row is made of {len(fields)} arrays, and there are the columns {', '.join(names)}: name them, in "
            "order, by columns= (--column)"
        )
    arrays = [
        _side_by_side(table, [name], field)
        if _is_number(table.schema.field(name).type)
        else _array(table, name, field, reading, faults)
        for name, field in zip(names, fields, strict=True)
    ]
    return (dict(zip(layout, arrays, strict=True)) if isinstance(layout, dict) else tuple(arrays)), faults


def rows_of_arrays(columns: Mapping[str, Any], reading: Reading, column: str) -> Any:
    """Make rows of a batch of columns that are arrays, `(n, ...)` each, as engines other than Arrow's hand them over.

    Args:
        columns: by name.
        reading: how.
        column: with the rows; several arrays with names of their own are found by these.

    Raises:
        ShapeMismatch: a column is missing, or holds rows of another size.
    """
    layout = reading.layout
    names = list(layout) if isinstance(layout, dict) else [column]
    missing = [name for name in names if name not in columns]
    if missing:
        raise ShapeMismatch(f"there is no column {', '.join(missing)}; the data have {', '.join(columns)}")
    arrays = {name: np.asarray(columns[name]) for name in names}
    if not isinstance(layout, Field):
        return arrays
    rows = arrays[column]
    if len(rows) == 0:
        return rows.reshape(0, *(size or 1 for size in layout.shape))
    return reading.scaled(_shaped(rows.reshape(len(rows), -1), layout, f"column {column}"))


def _texts(table: Any, reading: Reading, ids: Sequence[str]) -> npt.NDArray[np.object_]:
    """The one column of texts, None where there is none."""
    names = list(reading.columns or (name for name in table.column_names if name not in ids))
    _present(table, names)
    if len(names) != 1:
        raise ShapeMismatch(
            f"texts are one column, and there are {_some(names) or 'none'}: say which by columns=, and which names "
            "rows by ids="
        )
    return np.array([*table[names[0]].to_pylist(), None], object)[:-1]


def _present(table: Any, names: Sequence[str]) -> list[str]:
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ShapeMismatch(f"there is no column {', '.join(missing)}; the data have {', '.join(table.column_names)}")
    return list(names)


def _is_number(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _side_by_side(table: Any, names: Sequence[str], field: Field) -> npt.NDArray[Any]:
    """Columns of numbers, one beside the other."""
    wrong = [name for name in names if not _is_number(table.schema.field(name).type)]
    if wrong:
        raise WrongType(
            f"column {wrong[0]} holds {table.schema.field(wrong[0]).type} and no numbers: say which columns make a row "
            "by columns= (--column), and which name it by ids= (--id)"
        )
    numbers = [table[name].to_numpy() for name in names]
    rows = np.column_stack(numbers).astype("float64" if any(a.dtype.kind == "f" for a in numbers) else "int64")
    return _shaped(rows, field, f"{len(names)} columns of numbers ({_some(names)})")


def _array(table: Any, name: str, field: Field, reading: Reading, faults: Faults) -> npt.NDArray[Any]:
    """A column that holds one array in each row."""
    pa = arrow()
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # as some versions return
        column = pa.concat_arrays(column.chunks)
    if isinstance(column, pa.ExtensionArray):  # a tensor
        column = column.storage
    if pa.types.is_struct(column.type) and "bytes" in [entry.name for entry in column.type]:
        column = column.field("bytes")  # as data sets of images have it
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _from_bytes(column, field, reading, faults)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise WrongType(f"column {name} holds {kind}; a row is made of numbers, lists, tensors, bytes or images")
    size = None if None in field.shape else math.prod(field.shape)  # type: ignore[arg-type]
    lengths = _lengths(column)
    if size is None:
        known = lengths[lengths >= 0]
        size = int(np.bincount(known).argmax()) if len(known) else 0
    usual = lengths == size
    for number in np.flatnonzero(~usual).tolist():
        have = "no value" if lengths[number] < 0 else f"{lengths[number]} numbers"
        faults[number] = f"column {name} has {have}; a row has {size}"
    chosen = column if usual.all() else column.filter(pa.array(usual))
    while pa.types.is_nested(chosen.type):
        chosen = chosen.flatten()
    if not _is_number(chosen.type):
        raise WrongType(f"column {name} holds lists of {chosen.type}, and no numbers")
    values = chosen.to_numpy(zero_copy_only=False).reshape(-1, size)
    if usual.all():
        rows = values
    else:
        rows = np.zeros((len(usual), size), values.dtype)
        rows[usual] = values
    return _shaped(rows, field, f"column {name}")


def _lengths(column: Any) -> npt.NDArray[np.int64]:
    """How many numbers each row of a column of lists, of lists perhaps, has; -1 for none."""
    import pyarrow.compute as pc

    pa = arrow()
    inner = column.type.value_type
    if not pa.types.is_nested(inner):
        lengths = pc.list_value_length(column)
        return np.asarray(lengths.fill_null(-1).to_numpy(zero_copy_only=False), "int64")
    below = np.maximum(_lengths(column.flatten()), 0)  # of what the rows hold, one after the other
    own = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(own)])
    sums = np.concatenate([[0], np.cumsum(below)])
    total = sums[ends[1:]] - sums[ends[:-1]]
    total[~column.is_valid().to_numpy(zero_copy_only=False)] = -1
    return np.asarray(total, "int64")


def _from_bytes(column: Any, field: Field, reading: Reading, faults: Faults) -> npt.NDArray[Any]:
    """Raw numbers of uint8, or encoded images."""
    pa = arrow()
    size = None if None in field.shape else math.prod(field.shape)  # type: ignore[arg-type]
    fixed = pa.types.is_fixed_size_binary(column.type)
    if fixed and column.type.byte_width == size and column.null_count == 0:
        start, end = column.offset * size, (column.offset + len(column)) * size
        return np.frombuffer(column.buffers()[1], "uint8")[start:end].reshape(len(column), *field.shape)
    found: list[npt.NDArray[Any] | None] = []
    for number, value in enumerate(column):
        contents = value.as_buffer()
        if contents is None:
            faults[number] = "it has no value"
            found.append(None)
        elif len(contents) == size:
            found.append(np.frombuffer(contents, "uint8").reshape(field.shape))  # type: ignore[arg-type]
        else:
            found.append(decoded(contents.to_pybytes(), field.shape, reading.channels_first, faults, number))
    return stacked(found, field, faults)


def stacked(images: Sequence[npt.NDArray[Any] | None], field: Field, faults: Faults) -> npt.NDArray[Any]:
    """Arrays of one shape as one; zeros for those that are missing, and for those of another shape than the first."""
    first = next((image for image in images if image is not None), None)
    if first is None:
        return np.zeros((len(images), *(size or 1 for size in field.shape)), "uint8")
    rows = np.zeros((len(images), *first.shape), first.dtype)
    for number, image in enumerate(images):
        if image is not None and image.shape == first.shape:
            rows[number] = image
        elif image is not None:
            faults[number] = f"its shape is {image.shape}; that of the others {first.shape}"
    return rows


def _shaped(rows: npt.NDArray[Any], field: Field, what: str) -> npt.NDArray[Any]:
    """Rows of numbers `(n, k)` in the shape of a field."""
    if None in field.shape:
        return rows.reshape(len(rows), *(-1 if size is None else size for size in field.shape))
    if rows.shape[1] != math.prod(field.shape):  # type: ignore[arg-type]
        raise ShapeMismatch(
            f"a row has the shape {field.shape}, {math.prod(field.shape)} numbers; {what} make {rows.shape[1]}: say "  # type: ignore[arg-type]
            "which columns make a row by columns= (--column), and which name it by ids= (--id)"
        )
    return rows.reshape(len(rows), *field.shape)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
