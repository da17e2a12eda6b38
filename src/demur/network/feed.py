"""The batches that training draws, and how they reach each backend."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from demur.backends import ONE, Devices
from demur.calibration.held_out import PassingRows
from demur.errors import EmptyInput, InvalidSetting, ShapeMismatch
from demur.rows.layout import Layout
from demur.rows.rows import SOME, Rows
from demur.rows.sources import Source

Remake: TypeAlias = Callable[[Rows], Rows]
"""What applies the caller's `preprocess_fn` to a batch of training rows."""
Prepare: TypeAlias = Callable[[Rows], dict[str, Any]]
"""Makes the trainer's inputs from a batch: `x`, the companion's rows, and `reference` if it is known."""

WHOLE = 2**62
"""A batch size that splits no batch."""
SOME_BYTES = 64_000_000
"""Bytes of the first rows of a stream that are kept."""


class Drawn(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches for the trainer: cast, and preprocessed, as they are drawn.

    Args:
        layout: of the companion's rows.
        prepare: makes the trainer's inputs of a batch.
        devices: those that the batches go to.
    """

    again = True
    """Whether there is more than one epoch in it."""
    reference_shapes: Sequence[tuple[int, ...]] = ()
    """Of each view, `(classes,)`, if the inputs hold a reference."""

    def __init__(self, layout: Layout, prepare: Prepare, devices: Devices = ONE) -> None:
        super().__init__()
        self.layout, self.prepare, self.devices = layout, prepare, devices
        self.error: Exception | None = None
        """What went wrong in drawing a batch; TensorFlow would wrap it in an error of its own."""

    def __getitem__(self, index: int) -> tuple[dict[str, Any]]:
        try:
            return (self.inputs(index),)
        except Exception as error:
            self.error = error
            raise

    def inputs(self, index: int) -> dict[str, Any]:
        """One batch as the trainer takes it."""
        raise NotImplementedError

    def once(self) -> Iterator[tuple[dict[str, Any]]]:
        """Yield the one epoch there is."""
        raise NotImplementedError


class TrainingBatches(Drawn):
    """Batches of rows, in another order each epoch, with the reference views if they are known.

    Args:
        rows: what batches are taken from.
        reference: each view's log-probabilities `(n, classes)`, or None to have them computed in the training step, or
            by `prepare`.
        batch_size: rows a batch.
        layout: see `Drawn`.
        prepare: see `Drawn`.
        shuffle_seed: seed of the order; None keeps the rows in order.
        devices: see `Drawn`.
        chosen: the numbers of the rows that are drawn, ascending; None for all.
    """

    def __init__(
        self,
        rows: Rows,
        reference: list[npt.NDArray[Any]] | None,
        *,
        batch_size: int,
        layout: Layout,
        prepare: Prepare,
        shuffle_seed: int | None = None,
        devices: Devices = ONE,
        chosen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(layout, prepare, devices)
        self.rows, self.reference, self.size = rows, reference, batch_size
        self.reference_shapes = [view.shape[1:] for view in reference or ()]
        self.rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        self.order = np.arange(len(rows)) if chosen is None else chosen.copy()
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.size)

    def inputs(self, index: int) -> dict[str, Any]:
        """The batch of that number in this epoch's order."""
        # Sorted, so that rows on disk are read in one direction; the batch is the same set.
        chosen = np.sort(self.order[index * self.size : (index + 1) * self.size])
        own = self.devices.own(chosen)
        inputs = self.prepare(self.rows[own])
        if self.reference is not None:
            inputs["reference"] = tuple(view[own] for view in self.reference)
        return self.devices.sent(inputs, len(chosen))

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        if self.rng is not None:
            self.rng.shuffle(self.order)


class StreamBatches(Drawn):
    """A stream's own batches, in its own order; the reference is computed in the training step, or by `prepare`.

    Args:
        source: a stream.
        layout: see `Drawn`.
        prepare: see `Drawn`.
        epochs: how often it shall be drawn.
        devices: see `Drawn`.
        passing: looks at the rows until all of them have been drawn once.

    Raises:
        InvalidSetting: more often than once, of a stream that can be drawn only once; or to several processes, of
            which each would draw other batches.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        prepare: Prepare,
        epochs: int,
        devices: Devices,
        passing: PassingRows,
    ) -> None:
        super().__init__(layout, prepare, devices)
        if devices.processes > 1:
            raise InvalidSetting(
                f"a stream cannot be shared out among {devices.processes} processes, as each would draw its own: pass "
                "X as an array; np.memmap or np.load(..., mmap_mode='r') reads one from disk as it is needed"
            )
        if epochs > 1 and not source.again:
            raise InvalidSetting(
                f"X can be drawn only once, so it has one epoch; got epochs={epochs}: pass epochs=1, or a stream that "
                "starts anew each time it is iterated over (a tf.data.Dataset, a DataLoader, a keras.utils.PyDataset)"
            )
        self.source, self.again = source, source.again
        self.length = 0
        if self.again:
            counted = source.count(WHOLE)
            self.length = sum(1 for _ in source.draw(WHOLE)) if counted is None else counted
        self.iterator: Iterator[Rows] = iter(())
        self.kept: list[Rows] = []
        self.passing, self.has_ended = passing, False

    def __len__(self) -> int:
        return self.length

    def inputs(self, index: int) -> dict[str, Any]:
        """The next batch; the first one starts the stream anew."""
        if index == 0:
            self.iterator = self._drawn()
        try:
            return self._inputs_of(next(self.iterator))
        except StopIteration:
            raise EmptyInput(
                f"X ended after {index} batches, and had {self.length} before: pass a stream that is the same each time"
            ) from None

    def once(self) -> Iterator[tuple[dict[str, Any]]]:
        """Yield the one epoch there is."""
        try:
            for batch in self._drawn():
                yield (self._inputs_of(batch),)
        except Exception as error:
            self.error = error
            raise

    def some_rows(self) -> Iterator[Rows]:
        """Yield the first rows that were drawn."""
        yield from self.kept

    def _inputs_of(self, batch: Rows) -> dict[str, Any]:
        return self.devices.sent(self.prepare(batch), len(batch))

    def _drawn(self) -> Iterator[Rows]:
        """The source's batches; the first ones are kept."""
        self.kept = []
        rows = size = 0
        if not self.has_ended:
            self.passing.restart()
        for batch in self.source.draw(WHOLE):
            if not self.has_ended:
                self.passing.add(batch)
            if rows < SOME and size < SOME_BYTES:
                self.kept.append(batch[: SOME - rows])
                rows += len(self.kept[-1])
                size += self.kept[-1].nbytes
            yield batch
        self.has_ended = True


def preprocessed(preprocess_fn: Callable[[Any], Any], batch: Rows, *, finite: bool = True) -> Rows:
    """Apply the caller's function to a batch and check the layout and number of the rows that it returns."""
    result = Rows.of(preprocess_fn(batch.cast().raw), batch.layout, "the result of preprocess_fn", finite=finite)
    if len(result) != len(batch):
        raise ShapeMismatch(f"preprocess_fn must keep the number of rows; it made {len(result)} of {len(batch)}")
    return result.cast()
