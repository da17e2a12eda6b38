"""From the columns of tables, and from encoded images, to the rows that a guard takes."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.errors import DemurError, ShapeMismatch, WrongType
from demur.extras import extra, imported
from demur.rows.layout import Columns, Field, Layout, Shape, fits
from demur.rows.texts import Text

Faults = dict[int, str]
"""Rows that cannot be used, by number, and why. In the arrays these rows are zeros."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for images of so many channels."""
NAME_THEM = "say which columns make a row by columns= (--column), and which name it by ids= (--id)"


class Batch(NamedTuple):
    """Some rows of a data set, what names them (a `pyarrow.Table` with as many rows), and those that cannot be used."""

    ids: Any
    rows: Any
    faults: Faults


class Reading(NamedTuple):
    """How rows are made of columns.

    Attributes:
        layout: what one row is.
        columns: the columns that a row is made of; None for all columns but the ids.
        scale: the factor that arrays are multiplied by, as float32; None for no scaling.
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
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and the guard finds it
            return rows.astype("float32") * np.float32(self.scale)


def arrow() -> Any:
    """Import pyarrow; raises MissingExtra where it is missing."""
    return imported("pyarrow", "batch")


def check_columns(
    names: Sequence[str],
    present: Sequence[str],
    text: str = "there is no column {}; the data have {}",
    error: type[DemurError] = ShapeMismatch,
) -> None:
    """Raise an error, with this text, unless all names are among the columns that are present."""
    missing = [name for name in names if name not in present]
    if missing:
        raise error(text.format(", ".join(missing), ", ".join(map(str, present))))


def rows_of(table: Any, reading: Reading, ids: Sequence[str] = ()) -> tuple[Any, Faults]:
    """Make rows of the columns of a `pyarrow.Table`; the columns `ids` are no part of the rows.

    A row that is one array is made of one column that holds arrays (lists, tensors, raw bytes of uint8 numbers, or
    encoded images), or of as many columns of numbers as the row has numbers. Several arrays are made of the columns
    with their names or, where arrays have no names, of one column each. A classifier of tables gets the columns by
    name, a classifier of texts one column.

    Raises:
        ShapeMismatch: a column is missing, or there are too few or too many.
        WrongType: a column holds something else than rows are made of.
    """
    layout = reading.layout
    if isinstance(layout, Columns | dict):
        names = list(layout.names if isinstance(layout, Columns) else layout)
    elif reading.columns is not None:
        names = list(reading.columns)
    else:
        names = [name for name in table.column_names if name not in ids]
    check_columns(names, table.column_names)
    if isinstance(layout, Columns):
        return table.select(names).to_pandas(), {}
    if isinstance(layout, Text):
        if len(names) != 1:
            raise ShapeMismatch(
                f"texts are one column, and there are {_some(names) or 'none'}: say which by columns=, and which names "
                "rows by ids="
            )
        return np.array([*table[names[0]].to_pylist(), None], object)[:-1], {}
    if not names:
        raise ShapeMismatch(f"there is no column but ids={', '.join(ids)}, so nothing to make a row of")
    faults: Faults = {}

    def array_of(names: Sequence[str], field: Field) -> npt.NDArray[Any]:
        if len(names) == 1 and not _is_number(table.schema.field(names[0]).type):
            return _nested(table, names[0], field, reading, faults)
        return _side_by_side(table, names, field)

    if isinstance(layout, Field):
        return reading.scaled(array_of(names, layout)), faults
    fields = list(layout.values()) if isinstance(layout, dict) else list(layout)
    if len(names) != len(fields):
        raise ShapeMismatch(
            f"a row is made of {len(fields)} arrays, and there are the columns {', '.join(names)}: name them, in "
            "order, by columns= (--column)"
        )
    arrays = [array_of([name], field) for name, field in zip(names, fields, strict=True)]
    return (dict(zip(layout, arrays, strict=True)) if isinstance(layout, dict) else tuple(arrays)), faults


def rows_of_arrays(columns: Mapping[str, Any], reading: Reading, column: str) -> Any:
    """Make rows of columns that are NumPy arrays, `(n, ...)` each, as engines without Arrow hand them over.

    The rows are in one column; several arrays with names are found by these names instead. Raises ShapeMismatch where
    a column is missing, or holds rows of another size.
    """
    layout = reading.layout
    names = list(layout) if isinstance(layout, dict) else [column]
    check_columns(names, list(columns))
    arrays = {name: np.asarray(columns[name]) for name in names}
    if not isinstance(layout, Field):
        return arrays
    rows = arrays[column]
    if len(rows) == 0:
        return rows.reshape(0, *(size or 1 for size in layout.shape))
    return reading.scaled(_shaped(rows.reshape(len(rows), -1), layout, f"column {column}"))


def decoded(contents: bytes, shape: Shape, channels_first: bool) -> npt.NDArray[Any] | str:
    """An encoded image (PNG, JPEG, WebP, ...) as uint8 numbers, never resized; where that fails, the reason.

    The shape is `(height, width, channels)`, `(channels, height, width)` or `(height, width)`. Raises MissingExtra
    without Pillow.
    """
    with extra("pillow", "batch"):
        from PIL import Image
    channels = 1 if len(shape) == 2 else shape[0 if channels_first else -1]
    try:
        with Image.open(io.BytesIO(contents)) as image:
            pixels = np.asarray(image.convert(MODES.get(channels or 3, "RGB")))
    except Exception as error:  # Pillow's decoders raise errors of any kind, even SyntaxError
        return f"it is no image that can be read: {type(error).__name__}"
    if len(shape) == 3:
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        pixels = np.moveaxis(pixels, -1, 0) if channels_first else pixels
    return pixels if fits(pixels.shape, shape) else f"its shape is {pixels.shape}; the classifier takes {shape}"


def stacked(arrays: Iterable[npt.NDArray[Any] | str], field: Field, faults: Faults) -> npt.NDArray[Any]:
    """One array of several, with zeros where there is a fault: a reason, or a shape that is not the first array's."""
    found = list(arrays)
    first = next((array for array in found if not isinstance(array, str)), None)
    if first is None:
        first = np.zeros([size or 1 for size in field.shape], "uint8")
    rows = np.zeros((len(found), *first.shape), first.dtype)
    for number, array in enumerate(found):
        if isinstance(array, str):
            faults[number] = array
        elif array.shape != first.shape:
            faults[number] = f"its shape is {array.shape}; the others have {first.shape}"
        else:
            rows[number] = array
    return rows


def _is_number(kind: Any) -> bool:
    types = arrow().types
    return any(test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal))


def _side_by_side(table: Any, names: Sequence[str], field: Field) -> npt.NDArray[Any]:
    """Columns of numbers, one beside the other."""
    for name in names:
        if not _is_number(kind := table.schema.field(name).type):
            raise WrongType(f"column {name} holds {kind} and no numbers: {NAME_THEM}")
    numbers = [table[name].to_numpy() for name in names]
    rows = np.column_stack(numbers).astype("float64" if any(a.dtype.kind == "f" for a in numbers) else "int64")
    return _shaped(rows, field, f"{len(names)} columns of numbers ({_some(names)})")


def _nested(table: Any, name: str, field: Field, reading: Reading, faults: Faults) -> npt.NDArray[Any]:
    """A column that holds one array in each row."""
    pa = arrow()
    types = pa.types
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # as some versions return
        column = pa.concat_arrays(column.chunks)
    if isinstance(column, pa.ExtensionArray):  # a tensor
        column = column.storage
    if types.is_struct(column.type) and "bytes" in [entry.name for entry in column.type]:
        column = column.field("bytes")  # as data sets of images have it
    kind = column.type
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _from_bytes(column, field, reading, faults)
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        raise WrongType(f"column {name} holds {kind}; a row is made of numbers, lists, tensors, bytes or images")
    lengths, size = _lengths(column), _size(field)
    if size is None:
        known = lengths[lengths >= 0]
        size = int(np.bincount(known).argmax()) if len(known) else 0
    usual = lengths == size
    for number in np.flatnonzero(~usual).tolist():
        have = "no value" if lengths[number] < 0 else f"{lengths[number]} numbers"
        faults[number] = f"column {name} has {have}; a row has {size}"
    chosen = column if usual.all() else column.filter(pa.array(usual))
    while types.is_nested(chosen.type):
        chosen = chosen.flatten()
    if not _is_number(chosen.type):
        raise WrongType(f"column {name} holds lists of {chosen.type}, and no numbers")
    rows = values = chosen.to_numpy(zero_copy_only=False).reshape(-1, size)
    if not usual.all():
        rows = np.zeros((len(usual), size), values.dtype)
        rows[usual] = values
    return _shaped(rows, field, f"column {name}")


def _lengths(column: Any) -> npt.NDArray[np.int64]:
    """How many numbers each row of a column of lists, or of lists of lists, has; -1 for a missing row."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column)
    if not arrow().types.is_nested(column.type.value_type):
        return np.asarray(lengths.fill_null(-1).to_numpy(zero_copy_only=False), "int64")
    inner = np.maximum(_lengths(column.flatten()), 0)
    ends = np.concatenate([[0], np.cumsum(lengths.fill_null(0).to_numpy(zero_copy_only=False))])
    sums = np.concatenate([[0], np.cumsum(inner)])
    total = sums[ends[1:]] - sums[ends[:-1]]
    total[~column.is_valid().to_numpy(zero_copy_only=False)] = -1
    return np.asarray(total, "int64")


def _from_bytes(column: Any, field: Field, reading: Reading, faults: Faults) -> npt.NDArray[Any]:
    """A column of raw uint8 numbers, or of encoded images."""
    size = _size(field)
    fixed = arrow().types.is_fixed_size_binary(column.type)
    if fixed and column.type.byte_width == size and column.null_count == 0:
        start, end = column.offset * size, (column.offset + len(column)) * size
        return np.frombuffer(column.buffers()[1], "uint8")[start:end].reshape(len(column), *field.shape)

    def array_of(contents: Any) -> npt.NDArray[Any] | str:
        if contents is None:
            return "it has no value"
        if len(contents) == size:
            return np.frombuffer(contents, "uint8").reshape(field.shape)  # type: ignore[arg-type]
        return decoded(contents.to_pybytes(), field.shape, reading.channels_first)

    return stacked((array_of(value.as_buffer()) for value in column), field, faults)


def _size(field: Field) -> int | None:
    """How many numbers a row has; None where that is not known."""
    return None if None in field.shape else math.prod(field.shape)  # type: ignore[arg-type]


def _shaped(rows: npt.NDArray[Any], field: Field, what: str) -> npt.NDArray[Any]:
    """Rows of numbers `(n, k)` in the shape of a field."""
    size = _size(field)
    if size is not None and rows.shape[1] != size:
        raise ShapeMismatch(
            f"a row has the shape {field.shape}, {size} numbers; {what} make {rows.shape[1]}: {NAME_THEM}"
        )
    return rows.reshape(len(rows), *(-1 if size is None else size for size in field.shape))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
