"""Dask's collections as parts: arrays, DataFrames and bags."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from demur.batch.formats import Store
from demur.batch.formats.base import ROW
from demur.batch.tables import Batch, Faults, Reading, arrow, rows_of, stacked
from demur.errors import EmptyInput, InvalidSetting, ShapeMismatch, WrongType
from demur.rows.arrays import is_table
from demur.rows.layout import Field, Layout, describe_layout, fits, flat
from demur.rows.rows import Rows
from demur.rows.texts import Text, as_texts

INDEX = "index"
"""What the index of a DataFrame is called among the ids if it has no name."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows of a block; their ids are their numbers."""

    rows: Any
    layout: Layout
    start: int

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:  # noqa: ARG002 - there are no files
        """Cut the block."""
        start = self.start
        for rows in Rows(self.rows, self.layout).batches(size):
            stop = start + len(rows)
            yield Batch(arrow().table({ROW: np.arange(start, stop)}), reading.scaled(rows.raw), {})
            start = stop


@dataclass(frozen=True)
class FrameRows:
    """Rows of a partition of a DataFrame; their ids are its index and the columns that were named."""

    frame: Any
    ids: tuple[str, ...]

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:  # noqa: ARG002
        """Cut the partition."""
        if len(self.frame) == 0:  # an empty partition still has a schema
            yield Batch(frame_ids(self.frame, self.ids), None, {})
        for frame in (self.frame[start : start + size] for start in range(0, len(self.frame), size)):
            table = arrow().Table.from_pandas(frame, preserve_index=False)
            rows, faults = rows_of(table, reading, self.ids)
            yield Batch(frame_ids(frame, self.ids), rows, faults)


def frame_ids(frame: Any, ids: Sequence[str]) -> Any:
    """What tells the rows of a DataFrame apart: the columns that were named, or else its index."""
    pa = arrow()
    if ids:
        return pa.Table.from_pandas(frame[list(ids)], preserve_index=False).replace_schema_metadata(None)
    name = str(frame.index.name or INDEX)
    return pa.table({name: pa.Array.from_pandas(frame.index)})


@dataclass(frozen=True)
class ListRows:
    """Rows of a partition of a bag: arrays, which are numbered, or pairs of an id and an array."""

    rows: list[Any]
    start: int

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:  # noqa: ARG002
        """Stack rows."""
        layout = reading.layout
        if not self.rows:  # an empty partition still has a schema
            yield Batch(arrow().table({ROW: np.zeros(0, "int64")}), None, {})
        if not isinstance(layout, Field | Text):
            raise WrongType(f"the rows of a bag are one array each; the classifier takes {describe_layout(layout)}")
        for start in range(0, len(self.rows), size):
            entries = self.rows[start : start + size]
            first = self.start + start
            names = [entry[0] if isinstance(entry, tuple) else first + number for number, entry in enumerate(entries)]
            faults = Faults()
            if isinstance(layout, Text):
                texts = as_texts([entry[1] if isinstance(entry, tuple) else entry for entry in entries])
                yield Batch(arrow().table({ROW: names}), texts, faults)
                continue
            arrays = []
            for number, entry in enumerate(entries):
                array = np.asarray(entry[1] if isinstance(entry, tuple) else entry)
                fine = array.dtype.kind in "buif" and fits(array.shape, layout.shape)
                if not fine:
                    faults[number] = f"it is of shape {array.shape} and type {array.dtype}; a row has {layout.shape}"
                arrays.append(array if fine else None)
            ids = arrow().table({ROW: names})
            yield Batch(ids, reading.scaled(stacked(arrays, layout, faults)), faults)


def parts_of(data: Any, layout: Layout, ids: tuple[str, ...]) -> list[Any]:
    """The parts of a collection, each delayed.

    Raises:
        ShapeMismatch: its rows are none of the layout.
        InvalidSetting: its rows cannot be numbered, or ids are asked for of what has no columns.
        WrongType: it is another collection.
    """
    import dask

    if hasattr(data, "to_delayed") and is_frame(data):
        check_ids(data, ids)
        return [dask.delayed(FrameRows)(part, ids) for part in data.to_delayed()]
    if ids:
        raise InvalidSetting("ids: arrays and bags have no columns; pass pairs of an id and a row in a bag")
    if all(hasattr(part, "chunks") for part in flat(data)):
        return _blocks(data, layout)
    if hasattr(data, "to_delayed"):
        parts = data.to_delayed()
        counts = [dask.delayed(len)(part) for part in parts]
        starts = itertools.accumulate(counts, lambda a, b: a + b, initial=dask.delayed(0))
        return [dask.delayed(ListRows)(part, start) for part, start in zip(parts, starts, strict=False)]
    raise WrongType(f"data is a Dask array, bag or DataFrame, or files; got {type(data).__name__}")


def check_ids(frame: Any, ids: tuple[str, ...]) -> None:
    """Raise InvalidSetting unless a DataFrame has the columns that name its rows."""
    missing = [name for name in ids if name not in frame.columns]
    if missing:
        raise InvalidSetting(
            f"ids: there is no column {', '.join(missing)}; the data have {', '.join(map(str, frame.columns))}"
        )


def is_frame(data: Any) -> bool:
    """Whether a collection is a DataFrame."""
    return hasattr(data, "columns") and hasattr(data, "dtypes")


def _blocks(data: Any, layout: Layout) -> list[Any]:
    import dask

    if not isinstance(data, dict | tuple | list) and not isinstance(layout, Field):
        raise WrongType(f"the classifier takes {describe_layout(layout)}; got one array")
    if type(data) is not type(layout) and isinstance(data, dict | tuple) and not is_table(data):
        raise WrongType(f"the classifier takes {describe_layout(layout)}; got a {type(data).__name__} of arrays")
    given = [data[name] for name in layout] if isinstance(layout, dict) else flat(data)
    arrays = [array.rechunk(dict.fromkeys(range(1, array.ndim), -1)) if array.ndim > 1 else array for array in given]
    for array, field in zip(arrays, flat(layout), strict=True):
        if array.ndim == 0 or not fits(array.shape[1:], field.shape):
            raise ShapeMismatch(f"rows must have shape {describe_layout(field)}; got {array.shape}")
        if np.isnan(array.shape[0]):
            raise InvalidSetting("the lengths of the chunks are not known: call X.compute_chunk_sizes() first")
    arrays = [array.rechunk({0: arrays[0].chunks[0]}) for array in arrays]
    lengths = arrays[0].chunks[0]
    if not sum(lengths):
        raise EmptyInput("the array has no rows; pass at least one")
    starts = itertools.accumulate(lengths, initial=0)
    blocks = zip(*(array.to_delayed().ravel() for array in arrays), strict=True)

    def structure(parts: Sequence[Any]) -> Any:
        if isinstance(layout, dict):
            return dict(zip(layout, parts, strict=True))
        return tuple(parts) if isinstance(layout, tuple) else parts[0]

    return [
        dask.delayed(ArrayRows)(structure(parts), layout, start)
        for parts, start, n in zip(blocks, starts, lengths, strict=False)
        if n
    ]
