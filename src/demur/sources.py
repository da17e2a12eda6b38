"""Where rows come from: arrays, files mapped into memory, and streams of batches of any framework."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy.typing as npt

from demur.data import Shape, batches, check_rows, describe
from demur.errors import EmptyInput, WrongType

Batch = npt.NDArray[Any]


class Source(Protocol):
    """Rows that can be drawn a batch at a time; checked as they are drawn, neither cast nor copied whole."""

    rows: Batch | None
    """All of them, where they can be reached in any order."""
    again: bool
    """Whether they can be drawn more than once."""

    def draw(self, batch_size: int) -> Iterator[Batch]:
        """Yield batches of at most `batch_size` rows, in order."""

    def count(self, batch_size: int) -> int | None:
        """How many batches `draw` yields; None if only drawing tells."""


def as_source(X: Any, shape: Shape, name: str = "X", *, finite: bool = True) -> Source:
    """Return what a caller gave as a source of rows of a shape.

    Accepted are arrays of any framework and `np.memmap`, and streams of batches: `tf.data.Dataset`, PyTorch's
    `DataLoader`, `keras.utils.PyDataset`, and any other iterable of arrays. A batch may be a tuple or list; its first
    element counts then, and labels are ignored.

    Args:
        X: what the caller gave.
        shape: the shape of one row.
        name: what to call it in error messages.
        finite: whether NaN and infinity are errors.

    Raises:
        WrongType, ShapeMismatch, EmptyInput, NonFinite: see `demur.data.check_rows`; for a stream, as it is drawn.
    """
    if hasattr(X, "__array__"):
        return ArraySource(check_rows(X, shape, name, finite=finite))
    if isinstance(X, list | tuple | dict | str | bytes) or not (hasattr(X, "__iter__") or _is_indexed(X)):
        raise WrongType(
            f"{name} must be an array of shape {describe(shape)} or a stream of such batches; got {type(X).__name__}: "
            "np.asarray(...) makes an array of a list"
        )
    return StreamSource(X, shape, name, finite=finite)


class ArraySource:
    """An array, in memory or on disk."""

    again = True

    def __init__(self, rows: Batch) -> None:
        self.rows: Batch | None = rows
        self._rows = rows

    def draw(self, batch_size: int) -> Iterator[Batch]:
        """Yield slices."""
        return batches(self._rows, batch_size)

    def count(self, batch_size: int) -> int | None:
        """How many slices there are."""
        return math.ceil(len(self._rows) / batch_size)


class StreamSource:
    """An iterable of batches. A batch is never put together with another, only split if it is larger than asked for."""

    rows: Batch | None = None

    def __init__(self, stream: Any, shape: Shape, name: str, *, finite: bool) -> None:
        self.stream, self.shape, self.name, self.finite = stream, shape, name, finite
        self.again = iter(stream) is not stream if hasattr(stream, "__iter__") else True

    def draw(self, batch_size: int) -> Iterator[Batch]:
        """Yield the stream's batches, each checked."""
        drawn = 0
        for drawn, batch in enumerate(_batches_of(self.stream), start=1):
            x = batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
            if hasattr(x, "detach"):
                x = x.detach().cpu()
            rows = check_rows(x, self.shape, f"batch {drawn - 1} of {self.name}", finite=self.finite)
            # Copied, as a stream may fill one buffer again and again, and a device may still be reading it.
            yield from batches(rows.copy(), batch_size)
        if not drawn:
            raise EmptyInput(f"{self.name} has no batches; pass at least one")

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
    for index in range(stream.num_batches) if stream.num_batches is not None else itertools.count():
        yield stream[index]
    if hasattr(stream, "on_epoch_end"):
        stream.on_epoch_end()


class CheckedSource:
    """A source whose first batch is checked as it is drawn."""

    def __init__(self, source: Source, check: Callable[[Batch], None]) -> None:
        self.source, self.check = source, check
        self.rows, self.again = source.rows, source.again

    def draw(self, batch_size: int) -> Iterator[Batch]:
        """Yield the source's batches."""
        for index, batch in enumerate(self.source.draw(batch_size)):
            if index == 0:
                self.check(batch)
            yield batch

    def count(self, batch_size: int) -> int | None:
        """How many batches the source has."""
        return self.source.count(batch_size)
