"""Where rows come from: arrays, tables, files mapped into memory, data sets, and streams of any framework's batches."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from demur.errors import EmptyInput, InvalidSetting, ShapeMismatch, WrongType
from demur.rows.arrays import LIST, as_numpy, is_sparse, is_table
from demur.rows.endless import check_ends, watched
from demur.rows.layout import Field, Layout, describe_layout, fits, flat, mapped
from demur.rows.rows import Rows
from demur.rows.texts import Text, are_texts

LABELS = ("label", "labels", "target", "targets", "y")
"""What columns with labels are called in data sets."""


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
    streams of batches: `tf.data.Dataset`, PyTorch's `DataLoader`, `keras.utils.PyDataset`, and any other iterable
    of batches; and data sets that give one row at a time, by its number, as PyTorch's and Hugging Face's do. A batch or
    a row may be a tuple or list; its first element counts then, and labels are ignored, as they are in a pair `(X, y)`.

    Args:
        X: what the caller gave.
        layout: what one row is.
        name: what to call it in error messages.
        finite: whether NaN and infinity are errors.

    Raises:
        InvalidSetting: `X` is a stream that says that it never ends.
        WrongType, ShapeMismatch, EmptyInput, NonFinite: see `Rows.of`; for a stream, as it is drawn.
    """
    if not is_stream(X):
        X = X[0] if _is_pair(X, layout) else X
        X = X.raw if isinstance(X, Rows) else X
        if isinstance(layout, Field) and not (hasattr(X, "__array__") or is_sparse(X)) and not are_texts(X):
            raise WrongType(
                f"{name} must be an array of shape {describe_layout(layout)} or a stream of such batches; got "
                f"{type(X).__name__}{LIST if isinstance(X, list) else ''}"
            )
        return ArraySource(Rows.of(X, layout, name, finite=finite))
    check_ends(X, name)
    return StreamSource(DataSet(X) if is_data_set(X) else X, layout, name, finite=finite)


def is_stream(X: Any) -> bool:
    """Whether `X` is a stream of batches rather than rows."""
    if (
        isinstance(X, Rows | list | tuple | dict | str | bytes)
        or hasattr(X, "__array__")
        or is_sparse(X)
        or is_table(X)
    ):
        return False
    return hasattr(X, "__iter__") or _is_indexed(X) or is_data_set(X)


def is_data_set(X: Any) -> bool:
    """Whether `X` gives one row at a time, by its number: a `Dataset` of PyTorch or of Hugging Face."""
    by_number = hasattr(X, "__getitem__") and hasattr(X, "__len__") and not hasattr(X, "__array__")
    return by_number and not _is_indexed(X) and (not hasattr(X, "__iter__") or hasattr(X, "column_names"))


def _is_pair(X: Any, layout: Layout) -> bool:
    """Whether these are rows and their labels."""
    if not isinstance(X, tuple | list) or len(X) != 2 or isinstance(layout, tuple | dict):
        return False
    rows, labels = X
    are_rows = is_table(rows) or are_texts(rows)
    if isinstance(layout, Field) and hasattr(rows, "__array__"):
        are_rows = np.ndim(rows) == len(layout.shape) + 1
    return are_rows and np.ndim(labels) >= 1 and len(labels) == len(rows)


def collected(X: Any, layout: Layout, name: str = "X", *, labels: bool = False) -> tuple[Any, Any]:
    """Rows in memory, and their labels: as they are given, or put together out of a stream or a data set.

    Args:
        X: rows, a pair of rows and labels, or a stream or a data set of either.
        layout: what one row is.
        name: what to call it in error messages.
        labels: whether there must be labels; None in their place otherwise.

    Raises:
        InvalidSetting: there are no labels.
        WrongType, ShapeMismatch, EmptyInput: see `as_source`.
    """
    if not is_stream(X):
        if _is_pair(X, layout):
            return X[0], X[1]
        if labels:
            raise InvalidSetting(f"labels are missing: pass y, the true class of each row, or {name} as a pair of both")
        return X, None
    check_ends(X, name)
    rows: list[Rows] = []
    found: list[Any] = []
    for batch in _batches_of(DataSet(X) if is_data_set(X) else X):
        rows.append(_rows_of(batch, layout, f"batch {len(rows)} of {name}", finite=False).copied())
        found += [np.array(_labels_of(batch, name))] if labels else []
    if not rows:
        raise EmptyInput(f"{name} has no batches; pass at least one")
    return Rows.joined(rows).raw, np.concatenate(found) if labels else None


def is_collection(X: Any) -> bool:
    """Whether these are rows of Dask's: a collection, or a tuple or dict of its arrays."""
    parts = flat(X)
    return bool(parts) and all(hasattr(part, "__dask_graph__") for part in parts)


def first_rows(X: Any, name: str = "X") -> tuple[Rows, Any]:
    """Return the first rows there are, in the layout that they are seen to have, and `X`, still to be drawn from.

    Raises:
        InvalidSetting: `X` is a stream that says that it never ends.
        WrongType: `X` is neither rows nor a stream of them.
        EmptyInput: it has none.
    """
    if is_stream(X):
        check_ends(X, name)
        stream = _batches_of(DataSet(X, 1) if is_data_set(X) else X)
        batch = next(iter(stream), None)
        if batch is None:
            raise EmptyInput(f"{name} has no batches; pass at least one")
        if hasattr(X, "__iter__") and iter(X) is X:
            X = itertools.chain([batch], stream)
        rows, name = _inputs_of(batch, None), f"batch 0 of {name}"
    else:
        rows = X
    is_array = isinstance(rows, Rows | tuple | dict) or hasattr(rows, "__array__") or is_sparse(rows)
    if not (is_array or is_table(rows) or are_texts(rows)):
        raise WrongType(
            f"{name} must be an array, a tuple or dict of arrays, a DataFrame, texts or a stream of such batches; got "
            f"{type(rows).__name__}{LIST if isinstance(rows, list) else ''}"
        )
    found = rows if isinstance(rows, Rows) else Rows.unchecked(rows)
    return Rows.of(found, found.layout, name, finite=False), X


def _inputs_of(batch: Any, layout: Layout | None) -> Any:
    """The inputs of a stream's batch, which may hold labels too."""
    if isinstance(batch, Rows):
        return batch.raw
    if are_texts(batch):
        return batch
    if isinstance(batch, tuple | list) and len(batch):
        several = isinstance(layout, tuple)
        batch = batch if several and not isinstance(batch[0], tuple | list) and len(batch) == len(layout) else batch[0]  # type: ignore[arg-type]
    elif isinstance(batch, Mapping):
        batch = _columns_of(batch, layout)
    if (is_table(batch) and not hasattr(batch, "detach")) or isinstance(layout, Text) or are_texts(batch):
        return batch
    return mapped(lambda x: as_numpy(x) if hasattr(x, "detach") or is_sparse(x) else x, batch)


def _columns_of(batch: Mapping[Any, Any], layout: Layout | None) -> Any:
    """The inputs of a batch that holds columns by name, as data sets of Hugging Face do; labels are left out."""
    if isinstance(layout, dict):
        return {name: batch[name] for name in batch if name in layout}
    inputs = {name: values for name, values in batch.items() if name not in LABELS}
    if len(inputs) == 1 and (layout is not None or len(batch) > 1):
        return next(iter(inputs.values()))
    if layout is None:
        return inputs
    raise WrongType(
        f"a batch holds the columns {', '.join(map(str, batch))}, and the classifier takes one array: leave one column "
        "beside the labels, as select_columns([...]) does, or give tuples, (rows, labels)"
    )


def _rows_of(batch: Any, layout: Layout, name: str, *, finite: bool) -> Rows:
    """The rows of a stream's batch, checked."""
    x = _inputs_of(batch, layout)
    if isinstance(layout, Field) and hasattr(x, "__array__") and not is_table(x) and fits(np.shape(x), layout.shape):
        raise ShapeMismatch(
            f"{name} is a single row, of shape {np.shape(x)}, and batches of rows are wanted: batch the stream, as "
            "dataset.batch(32) or DataLoader(dataset, batch_size=32) does"
        )
    return Rows.of(x, layout, name, finite=finite)


def _labels_of(batch: Any, name: str) -> Any:
    """The labels of a stream's batch."""
    if isinstance(batch, Mapping):
        found = [batch[label] for label in LABELS if label in batch]
    else:
        found = list(batch[1:2]) if isinstance(batch, tuple | list) else []
    if not found:
        raise InvalidSetting(f"{name} gives rows without labels: pass y=, the true class of each, or a stream of pairs")
    return np.atleast_1d(as_numpy(found[0]))


class DataSet:
    """The batches of a data set that gives one row at a time.

    Args:
        rows: the data set: `rows[i]` is a row, a tuple of a row and its label, or a dict of columns.
        size: rows a batch.
        seed: of the order, another one each time; None for the data set's own.
    """

    def __init__(self, rows: Any, size: int = 128, seed: int | None = None) -> None:
        self.rows, self.size = rows, size
        self.rng = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.rows)
        order = np.arange(n) if self.rng is None else self.rng.permutation(n)
        for start in range(0, n, self.size):
            rows = [self.rows[int(i)] for i in order[start : start + self.size]]
            yield _collated([tuple(row) if isinstance(row, list) else row for row in rows])


def _collated(rows: list[Any]) -> Any:
    """One batch of rows, in their structure."""
    if isinstance(rows[0], Mapping):
        return {name: _collated([row[name] for row in rows]) for name in rows[0]}
    if isinstance(rows[0], tuple):
        return tuple(_collated(list(parts)) for parts in zip(*rows, strict=True))
    return rows if isinstance(rows[0], str) else np.stack([as_numpy(row) for row in rows])


class ArraySource:
    """Rows that can be reached in any order, in memory or on disk."""

    again = True

    def __init__(self, rows: Rows) -> None:
        self.rows: Rows | None = rows
        self._rows = rows

    def draw(self, batch_size: int) -> Iterator[Rows]:
        """Yield slices."""
        return self._rows.batches(batch_size)

    def first(self, n: int) -> list[Rows]:
        """Some of the rows, spread evenly over all of them."""
        return [self._rows.some(n)]

    def count(self, batch_size: int) -> int | None:
        """How many slices there are."""
        return math.ceil(len(self._rows) / batch_size)


class StreamSource:
    """An iterable of batches. Batches are never joined; a batch that is larger than asked for is split."""

    rows: Rows | None = None

    def __init__(self, stream: Any, layout: Layout, name: str, *, finite: bool) -> None:
        self.stream, self.layout, self.name, self.finite = stream, layout, name, finite
        self.again = iter(stream) is not stream if hasattr(stream, "__iter__") else True

    def draw(self, batch_size: int) -> Iterator[Rows]:
        """Yield the stream's batches, each checked."""
        drawn, stream = 0, _batches_of(self.stream)
        stream = watched(stream, self.name) if self.count(batch_size) is None else stream
        for drawn, batch in enumerate(stream, start=1):
            yield from self._checked(batch, drawn - 1).batches(batch_size)
        if not drawn:
            raise EmptyInput(f"{self.name} has no batches; pass at least one")

    def first(self, n: int) -> list[Rows]:
        """The first batches, at least one."""
        found: list[Rows] = []
        stream = _batches_of(self.stream)
        while sum(map(len, found)) < n and (batch := next(stream, None)) is not None:
            found.append(self._checked(batch, len(found)))
        if not self.again:
            self.stream = itertools.chain(found, self.stream)
        return found

    def _checked(self, batch: Any, number: int) -> Rows:
        """The rows of a batch, copied, as a stream may fill one buffer again and again."""
        return _rows_of(batch, self.layout, f"batch {number} of {self.name}", finite=self.finite).copied()

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
    """A source that calls `check` on its first batch, and `look`, if given, on every batch."""

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
