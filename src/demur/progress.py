"""A progress bar for work that turns out to be long."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import keras

PATIENCE = 2.0
"""Seconds of work before a bar appears."""

T = TypeVar("T")


def progress(steps: Iterable[T], total: int, verbose: bool) -> Iterator[T]:
    """Pass `steps` through; once they have taken two seconds, show Keras's progress bar, if `verbose`."""
    if not verbose:
        yield from steps
        return
    started, bar = time.monotonic(), None
    for done, step in enumerate(steps, start=1):
        yield step
        if bar is None and time.monotonic() - started > PATIENCE and done < total:
            bar = keras.utils.Progbar(total)
        if bar is not None:
            bar.update(done)
