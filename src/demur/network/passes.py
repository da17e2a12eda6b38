"""Running compiled networks over rows, a batch at a time, and what becomes of rows that cannot be judged."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import NonFinite
from demur.guards.results import Scored
from demur.network.graph import Network, Outputs
from demur.progress import progress
from demur.rows.arrays import row_list
from demur.rows.rows import Rows
from demur.rows.sources import Source

IN_MEMORY = 100_000_000
"""Bytes up to which the classifier's answers for a data set are kept in memory during training."""


def over_batches(network: Network, source: Source, batch_size: int, verbose: bool = False) -> Iterator[Outputs]:
    """Apply a network to all rows, a batch at a time; yield its outputs for each batch, in the order of the rows.

    While the device works on a batch, the next one is drawn and sent to it, so that it never waits.
    """
    before: Callable[[], Outputs] | None = None
    for batch in progress(source.draw(batch_size), source.count(batch_size), verbose):
        started = network(batch, batch_size)
        if before is not None:
            yield before()
        before = started
    if before is not None:
        yield before()


def joined(parts: Iterable[Outputs]) -> list[Any]:
    """Put the outputs of all batches together."""
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def gathered(parts: Iterable[Outputs], n: int, allocate: Callable[[tuple[int, ...], Any], Any] = np.empty) -> list[Any]:
    """Put the outputs of all batches, n rows in all, together as they come: nothing is held twice.

    Args:
        parts: for each batch, the outputs.
        n: rows in all.
        allocate: `shape, dtype -> array`, for each output.
    """
    arrays: list[Any] = []
    start = 0
    for outputs in parts:
        arrays = arrays or [allocate((n, *output.shape[1:]), output.dtype) for output in outputs]
        for array, output in zip(arrays, outputs, strict=True):
            array[start : start + len(output)] = output
        start += len(outputs[0])
    return arrays


def spacious(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Allocate an array; a large one in a temporary file."""
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # stays while it is mapped, and is gone with the array
        return np.memmap(file, dtype, "w+", shape=shape)


def score_rows(
    network: Network,
    source: Source,
    batch_size: int,
    *,
    verbose: bool,
    flag_invalid: bool,
    probabilities: bool,
) -> Scored:
    """Run a detector's compiled graph over all rows.

    Args:
        network: the graph, compiled.
        source: the rows.
        batch_size: rows a pass.
        verbose: show a progress bar once it takes more than two seconds.
        flag_invalid: give rows that cannot be judged an infinite score, and list them; otherwise they are an error.
        probabilities: keep the probabilities of every class, and not only the most probable one.

    Raises:
        NonFinite: a score is not finite, and `flag_invalid` is not set.
    """

    def kept(outputs: Outputs) -> Outputs:
        score, *views = outputs
        return [score, *(view if probabilities else view.argmax(axis=-1).astype("int64") for view in views)]

    passes = over_batches(network, source, batch_size, verbose)
    parts = (kept(outputs) for outputs in passes)
    score, y, y_opinion = joined(parts) if source.rows is None else gathered(parts, len(source.rows))
    invalid = np.flatnonzero(~np.isfinite(score))
    if len(invalid) and not flag_invalid:
        raise NonFinite(
            f"the score of {len(invalid)} of {len(score)} rows is not finite: {row_list(invalid)}; the classifier or "
            "the companion returns NaN or infinity for them (as after training with too high a learning rate), a table "
            "holds infinity, or the classifier fails on a value that a table lacks"
        )
    score[invalid] = np.inf
    return Scored(score, y, y_opinion, invalid.astype("int64"))


def keep_apart(network: Network) -> Network:
    """Pass the rows of a batch that hold NaN or infinity through the network on their own, and mark their scores."""

    def apart(x: Rows, batch_size: int) -> Callable[[], Outputs]:
        is_finite = x.are_finite()
        if is_finite.all():
            return network(x, batch_size)
        outputs: Outputs = []
        for chosen in (is_finite, ~is_finite):
            if not chosen.any():
                continue
            # As many rows as before, so that nothing is compiled for the occasion.
            spread = np.resize(np.flatnonzero(chosen), len(chosen))
            found = [output[: chosen.sum()] for output in network(x[spread], batch_size)()]
            outputs = outputs or [np.empty((len(chosen), *output.shape[1:]), output.dtype) for output in found]
            for output, part in zip(outputs, found, strict=True):
                output[chosen] = part
        outputs[0][~is_finite] = np.nan
        return lambda: outputs

    return apart
