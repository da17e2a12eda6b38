"""Where rows come from: arrays, tables, files mapped into memory, and streams of batches of any framework."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from demur.data import (
    Field,
    Layout,
    Rows,
    as_numpy,
    batches,
    check_layout,
    describe_layout,
    flat,
    is_sparse,
    is_table,
    layout_of,
    mapped,
    row_count,
    taken,
)
from demur.endless import check_ends, watched
from demur.errors import EmptyInput, WrongType
from demur.texts import Text, are_texts

SOME = 2048
"""Rows that tell what scores, or numbers, are usual."""


class Source(Protocol):
    """Rows that can be drawn a batch at a time; checked as they are drawn, neither cast nor copied whole."""

    rows: Rows | None
    """All of them, where they can be reached in any order."""
    again: bool
    """Whether they can be drawn more than once."""

    def draw(self, batch_size: int) -> Iterator[Rows]:
        """Yield batches of at most `batch_size` rows, in order."""

    def first(self, n: int) -> list[Rows]:
        """At least n rows, if there are so many, as they come first; they come again when the source is drawn."""

    def count(self, batch_size: int) -> int | None:
        """How many batches `draw` yields; None if only drawing tells."""


def as_source(X: Any, layout: Layout, name: str = "X", *, finite: bool = True) -> Source:
    """Return what a caller gave as a source of rows of a layout.

    Accepted are arrays of any framework and `np.memmap`; tuples, dicts, DataFrames and texts where the layout is one;
    and streams of batches: `tf.data.Dataset`, PyTorch's `DataLoader`, `keras.utils.PyDataset`, and any other iterable
    of batches. A batch may be a tuple or list; its first element counts then, and labels are ignored.

    Args:
        X: what the caller gave.
        layout: what one row is.
        name: what to call it in error messages.
        finite: whether NaN and infinity are errors.

    Raises:
        InvalidSetting: `X` is a stream that says that it never ends.
        WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.data.check_layout`; for a stream, as it is drawn.
    """
    if not is_stream(X):
        if isinstance(layout, Field) and not (hasattr(X, "__array__") or is_sparse(X)) and not are_texts(X):
            raise WrongType(
                f"{name} must be an array of shape {describe_layout(layout)} or a stream of such batches; got "
                f"{type(X).__name__}: np.asarray(...) makes an array of a list"
            )
        return ArraySource(check_layout(X, layout, name, finite=finite))
    check_ends(X, name)
    return StreamSource(X, layout, name, finite=finite)


def some_of(rows: Rows, n: int = SOME) -> Rows:
    """At most n of the rows, spread evenly over all of them, and copied."""
    every = row_count(rows)
    return taken(rows, np.linspace(0, every - 1, min(n, every)).astype(int))


def is_stream(X: Any) -> bool:
    """Whether `X` is a stream of batches rather than rows."""
    if hasattr(X, "__array__") or is_sparse(X) or is_table(X) or isinstance(X, list | tuple | dict | str | bytes):
        return False
    return hasattr(X, "__iter__") or _is_indexed(X)


def is_collection(X: Any) -> bool:
    """Whether these are rows of Dask's: a collection, or a tuple or dict of its arrays."""
    parts = flat(X)
    return bool(parts) and all(hasattr(part, "__dask_graph__") for part in parts)


def first_rows(X: Any, name: str = "X") -> tuple[Rows, Any]:
    """Return the first rows there are, and `X` as it can be drawn from still: for what learns its layout from rows.

    Raises:
        InvalidSetting: `X` is a stream that says that it never ends.
        WrongType: `X` is neither rows nor a stream of them.
        EmptyInput: it has none.
    """
    if is_stream(X):
        check_ends(X, name)
        stream = _batches_of(X)
        batch = next(iter(stream), None)
        if batch is None:
            raise EmptyInput(f"{name} has no batches; pass at least one")
        if hasattr(X, "__iter__") and iter(X) is X:
            X = itertools.chain([batch], stream)
        rows, name = _inputs_of(batch, None), f"batch 0 of {name}"
    else:
        rows = X
    if is_table(rows) or are_texts(rows):
        return rows, X
    is_array = hasattr(rows, "__array__") or is_sparse(rows)
    if isinstance(rows, list) or not (isinstance(rows, tuple | dict) or is_array):
        raise WrongType(
            f"{name} must be an array, a tuple or dict of arrays, a DataFrame, texts or a stream of such batches; got "
            f"{type(rows).__name__}: np.asarray(...) makes an array of a list"
        )
    arrays = mapped(as_numpy, rows)
    return check_layout(arrays, layout_of(arrays), name, finite=False), X


def _inputs_of(batch: Any, layout: Layout | None) -> Any:
    """The inputs of a stream's batch, which may hold labels too."""
    if are_texts(batch):
        return batch
    if isinstance(batch, tuple | list) and len(batch):
        several = isinstance(layout, tuple)
        batch = batch if several and not isinstance(batch[0], tuple | list) and len(batch) == len(layout) else batch[0]  # type: ignore[arg-type]
    if (is_table(batch) and not hasattr(batch, "detach")) or isinstance(layout, Text) or are_texts(batch):
        return batch
    return mapped(lambda x: as_numpy(x) if hasattr(x, "detach") or is_sparse(x) else x, batch)


class ArraySource:
    """Rows that can be reached in any order, in memory or on disk."""

    again = True

    def __init__(self, rows: Rows) -> None:
        self.rows: Rows | None = rows
        self._rows = rows

    def draw(self, batch_size: int) -> Iterator[Rows]:
        """Yield slices."""
        return batches(self._rows, batch_size)

    def first(self, n: int) -> list[Rows]:
        """Some of the rows, spread evenly over all of them."""
        return [some_of(self._rows, n)]

    def count(self, batch_size: int) -> int | None:
        """How many slices there are."""
        return math.ceil(row_count(self._rows) / batch_size)


class StreamSource:
    """An iterable of batches. A batch is never put together with another, only split if it is larger than asked for."""

    rows: Rows | None = None

    def __init__(self, stream: Any, layout: Layout, name: str, *, finite: bool) -> None:
        self.stream, self.layout, self.name, self.finite = stream, layout, name, finite
        self.again = iter(stream) is not stream if hasattr(stream, "__iter__") else True

    def draw(self, batch_size: int) -> Iterator[Rows]:
        """Yield the stream's batches, each checked."""
        drawn, stream = 0, _batches_of(self.stream)
        stream = watched(stream, self.name) if self.count(batch_size) is None else stream
        for drawn, batch in enumerate(stream, start=1):
            yield from batches(self._checked(batch, drawn - 1), batch_size)
        if not drawn:
            raise EmptyInput(f"{self.name} has no batches; pass at least one")

    def first(self, n: int) -> list[Rows]:
        """The first batches, at least one."""
        found: list[Rows] = []
        stream = _batches_of(self.stream)
        while sum(map(row_count, found)) < n and (batch := next(stream, None)) is not None:
            found.append(self._checked(batch, len(found)))
        if not self.again:
            self.stream = itertools.chain(found, self.stream)
        return found

    def _checked(self, batch: Any, number: int) -> Rows:
        """The rows of a batch, copied, as a stream may fill one buffer again and again."""
        x = _inputs_of(batch, self.layout)
        rows = check_layout(x, self.layout, f"batch {number} of {self.name}", finite=self.finite)
        return rows if is_table(rows) else mapped(np.copy, rows)

    def count(self, batch_size: int) -> int | None:  # noqa: ARG002 - batches are as large as the stream makes them
        """What the stream says of its own length."""
        length = getattr(self.stream, "num_batches", None)
        try:
            length = len(self.stream) if length is None else length
        except TypeError:
            return None
        return length if isinstance(length, int) and length > 0 else None


def _is_indexed(stream: Any) -> bool:
    """Whether a stream is a `keras.utils.PyDataset`, or the like: batches by index, and a number of them."""
    return hasattr(stream, "__getitem__") and hasattr(stream, "num_batches")


def _batches_of(stream: Any) -> Iterator[Any]:
    if hasattr(stream, "as_numpy_iterator"):
        return iter(stream.as_numpy_iterator())
    if _is_indexed(stream):
        return _indexed(stream)
    return iter(stream)


def _indexed(stream: Any) -> Iterator[Any]:
    for index in range(stream.num_batches):
        yield stream[index]
    if hasattr(stream, "on_epoch_end"):
        stream.on_epoch_end()


class CheckedSource:
    """A source whose first batch is checked as it is drawn, and each looked at, if somebody wants to."""

    def __init__(
        self, source: Source, check: Callable[[Rows], None], look: Callable[[Rows], None] | None = None
    ) -> None:
        self.source, self.check, self.look = source, check, look
        self.rows, self.again = source.rows, source.again

    def draw(self, batch_size: int) -> Iterator[Rows]:
        """Yield the source's batches."""
        for index, batch in enumerate(self.source.draw(batch_size)):
            if index == 0:
                self.check(batch)
            if self.look is not None:
                self.look(batch)
            yield batch

    def first(self, n: int) -> list[Rows]:
        """The source's first rows, unchecked."""
        return self.source.first(n)

    def count(self, batch_size: int) -> int | None:
        """How many batches the source has."""
        return self.source.count(batch_size)
