"""The batches that training draws, and how they reach each backend."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from demur.data import Shape, check_rows
from demur.errors import EmptyInput, InvalidSetting, ShapeMismatch
from demur.sources import Source

Preprocess: TypeAlias = Callable[[npt.NDArray[Any]], Any]

WHOLE = 2**62
"""A batch size that splits no batch."""


class Drawn(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches for the trainer: cast, and preprocessed, as they are drawn.

    Args:
        shape: the shape of one row.
        dtype: what to cast a batch to.
        preprocess_fn: applied to each batch, cast, as it is drawn; may be random. NumPy in, array out.
    """

    again = True
    """Whether there is more than one epoch in it."""
    reference: list[npt.NDArray[Any]] | None = None
    """Of each view, the log-probabilities of every row `(n, classes)`, if they are known beforehand."""

    def __init__(self, shape: Shape, dtype: str, preprocess_fn: Preprocess | None) -> None:
        super().__init__()
        self.shape, self.dtype, self.preprocess_fn = shape, dtype, preprocess_fn
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

    def prepared(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cast and preprocess a batch."""
        cast = x.astype(self.dtype, copy=False)
        if self.preprocess_fn is None:
            return cast
        return preprocessed(self.preprocess_fn, cast, x.shape[1:], self.dtype)

    def once(self) -> Iterator[tuple[dict[str, Any]]]:
        """Yield the one epoch there is."""
        raise NotImplementedError


class TrainingBatches(Drawn):
    """Batches of an array's rows, in another order each epoch, with the reference views if they are known.

    Args:
        rows: `(n, *shape)`.
        reference: each view's log-probabilities `(n, classes)`, or None to have them computed in the training step.
        batch_size: rows a batch.
        shape: see `Drawn`.
        dtype: see `Drawn`.
        preprocess_fn: see `Drawn`.
        shuffle_seed: seed of the order; None keeps the rows in order.
    """

    def __init__(
        self,
        rows: npt.NDArray[Any],
        reference: list[npt.NDArray[Any]] | None,
        *,
        batch_size: int,
        shape: Shape,
        dtype: str,
        preprocess_fn: Preprocess | None = None,
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__(shape if preprocess_fn else rows.shape[1:], dtype, preprocess_fn)
        self.rows, self.reference, self.size = rows, reference, batch_size
        self.rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        self.order = np.arange(len(rows))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def inputs(self, index: int) -> dict[str, Any]:
        """The batch of that number in this epoch's order."""
        # Sorted, so that rows on disk are read in one direction; the batch is the same set.
        chosen = np.sort(self.order[index * self.size : (index + 1) * self.size])
        inputs: dict[str, Any] = {"x": self.prepared(self.rows[chosen])}
        if self.reference is not None:
            inputs["reference"] = tuple(view[chosen] for view in self.reference)
        return inputs

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        if self.rng is not None:
            self.rng.shuffle(self.order)


class StreamBatches(Drawn):
    """A stream's own batches, in its own order; the reference is computed in the training step.

    Args:
        source: a stream.
        shape: see `Drawn`.
        dtype: see `Drawn`.
        preprocess_fn: see `Drawn`.
        epochs: how often it shall be drawn.

    Raises:
        InvalidSetting: more often than once, of a stream that can be drawn only once.
    """

    def __init__(self, source: Source, shape: Shape, dtype: str, preprocess_fn: Preprocess | None, epochs: int) -> None:
        super().__init__(shape, dtype, preprocess_fn)
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
        self.iterator: Iterator[npt.NDArray[Any]] = iter(())

    def __len__(self) -> int:
        return self.length

    def inputs(self, index: int) -> dict[str, Any]:
        """The next batch; the first one starts the stream anew."""
        if index == 0:
            self.iterator = self.source.draw(WHOLE)
        try:
            return {"x": self.prepared(next(self.iterator))}
        except StopIteration:
            raise EmptyInput(
                f"X ended after {index} batches, and had {self.length} before: pass a stream that is the same each time"
            ) from None

    def once(self) -> Iterator[tuple[dict[str, Any]]]:
        """Yield the one epoch there is."""
        try:
            for batch in self.source.draw(WHOLE):
                yield ({"x": self.prepared(batch)},)
        except Exception as error:
            self.error = error
            raise


def preprocessed(preprocess_fn: Preprocess, x: npt.NDArray[Any], shape: Shape, dtype: str) -> npt.NDArray[Any]:
    """Apply the caller's function to a batch and check that it is still one."""
    result = check_rows(preprocess_fn(x), shape, "the result of preprocess_fn")
    if len(result) != len(x):
        raise ShapeMismatch(f"preprocess_fn must keep the number of rows; it made {len(result)} of {len(x)}")
    return result.astype(dtype, copy=False)


def fed(batches: Drawn) -> Any:
    """Return batches as Keras's `fit` shall take them."""
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_dataset(batches)
    return batches if batches.again else batches.once()


def _tensorflow_dataset(batches: Drawn) -> Any:
    """Return a `tf.data.Dataset` that draws the batches, two ahead of the training step.

    Keras would make one by itself, with `from_generator` and autotuning. On TensorFlow 2.21 the first makes the whole
    process return freed memory to the system at once, and the second can hold an epoch up, idle, at its end:
    docs/speed.md.
    """
    import tensorflow as tf

    classes = [view.shape[1:] for view in batches.reference or ()]
    types = [tf.as_dtype(batches.dtype), *(tf.float32 for _ in classes)]
    shapes = [[None, *shape] for shape in (batches.shape, *classes)]
    once = None if batches.again else batches.once()

    def draw(index: npt.NDArray[Any]) -> list[Any]:
        if once is not None:
            drawn = next(once, None)
            return [drawn is not None, _no_rows(batches) if drawn is None else drawn[0]["x"]]
        (inputs,) = batches[int(index)]
        if index == len(batches) - 1:
            batches.on_epoch_end()
        return [True, inputs["x"], *inputs.get("reference", ())]

    def shaped(_: Any, *arrays: Any) -> Any:
        for array, shape in zip(arrays, shapes, strict=True):
            array.set_shape(shape)
        x, *reference = arrays
        return ({"x": x, **({"reference": tuple(reference)} if reference else {})},)

    steps = tf.data.Dataset.counter() if once is not None else tf.data.Dataset.range(len(batches))
    dataset = steps.map(lambda index: tuple(tf.numpy_function(draw, [index], [tf.bool, *types])))
    if once is not None:
        dataset = dataset.take_while(lambda more, *_: more)
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.map(shaped).prefetch(2).with_options(options)


def _no_rows(batches: Drawn) -> npt.NDArray[Any]:
    return np.zeros((0, *(size or 0 for size in batches.shape)), batches.dtype)
