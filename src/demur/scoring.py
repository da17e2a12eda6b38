"""Running compiled networks over rows, a batch at a time, and what becomes of rows that cannot be judged."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.data import batches, finite_rows, padded, row_list
from demur.errors import NonFinite
from demur.progress import progress
from demur.results import Floats, Labels

Network = Callable[[npt.NDArray[Any]], list[npt.NDArray[Any]]]
"""A compiled network: a batch in, arrays with as many rows out."""


class Scored(NamedTuple):
    """What a detector's graph says of `n` rows."""

    score: Floats
    """`(n,)`, in nats; infinite for an invalid row."""
    y: Floats
    """`(n, classes)`, the reference's probabilities."""
    y_opinion: Floats
    """`(n, classes)`, the opinion's."""
    invalid: Labels
    """`(k,)`, the rows that cannot be judged: they hold NaN or infinity, or the networks return it for them."""


def over_batches(network: Network, rows: npt.NDArray[Any], batch_size: int, dtype: str, verbose: bool) -> list[Any]:
    """Apply a network to all rows: one array for each of its outputs, in the order of the rows."""
    results: list[list[npt.NDArray[Any]]] = []
    for batch in progress(batches(rows, batch_size), math.ceil(len(rows) / batch_size), verbose):
        x = padded(batch, batch_size).astype(dtype, copy=False)
        results.append([output[: len(batch)] for output in network(x)])
    return [np.concatenate(outputs) for outputs in zip(*results, strict=True)]


def score_rows(
    network: Network, rows: npt.NDArray[Any], batch_size: int, dtype: str, *, verbose: bool, flag_invalid: bool
) -> Scored:
    """Run a detector's compiled graph over all rows.

    Args:
        network: the graph, compiled.
        rows: `(n, *shape)`.
        batch_size: rows a pass.
        dtype: what to cast a batch to.
        verbose: show a progress bar once it takes more than two seconds.
        flag_invalid: give rows that cannot be judged an infinite score, and list them; otherwise they are an error.
            Such rows never share a pass with others.

    Raises:
        NonFinite: a score is not finite, and `flag_invalid` is not set.
    """
    if flag_invalid and rows.dtype.kind == "f":
        network = _keep_apart(network)
    score, y, y_opinion = over_batches(network, rows, batch_size, dtype, verbose)
    invalid = np.flatnonzero(~np.isfinite(score))
    if len(invalid) and not flag_invalid:
        raise NonFinite(
            f"the score of {len(invalid)} of {len(rows)} rows is not finite: {row_list(invalid)}; the classifier or "
            "the companion returns NaN or infinity for them, which training with too high a learning rate can cause"
        )
    score[invalid] = np.inf
    return Scored(score, y, y_opinion, invalid.astype("int64"))


def _keep_apart(network: Network) -> Network:
    """Pass the rows of a batch that hold NaN or infinity through the network on their own, and mark their scores."""

    def apart(x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        is_finite = finite_rows(x)
        if is_finite.all():
            return network(x)
        outputs: list[npt.NDArray[Any]] = []
        for chosen in (is_finite, ~is_finite):
            if not chosen.any():
                continue
            # As many rows as before, so that nothing is compiled for the occasion.
            filled = x[np.resize(np.flatnonzero(chosen), len(x))]
            found = [output[: chosen.sum()] for output in network(filled)]
            outputs = outputs or [np.empty((len(x), *output.shape[1:]), output.dtype) for output in found]
            for output, part in zip(outputs, found, strict=True):
                output[chosen] = part
        outputs[0][~is_finite] = np.nan
        return outputs

    return apart
