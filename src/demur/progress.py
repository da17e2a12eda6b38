"""A progress bar for work that turns out to be long."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

PATIENCE = 2.0
"""Seconds of work before a bar appears."""


def can_draw() -> bool:
    """Whether standard output is a terminal or a notebook, where a line can be drawn over."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


T = TypeVar("T")


class _Count:
    """What stands for Keras's bar where Keras is not there: how many steps are done."""

    def __init__(self, total: int | None) -> None:
        self.total = total

    def update(self, done: int) -> None:
        """Write it over what was written before."""
        end = "\n" if done == self.total else ""
        print(f"\r{done}" if self.total is None else f"\r{done}/{self.total}", end=end, flush=True)


def progress(steps: Iterable[T], total: int | None, verbose: bool) -> Iterator[T]:
    """Pass `steps` through; once they have taken two seconds, show a progress bar: Keras's, or without Keras a count.

    In a file or a pipe, where a bar would be a line for each step, none is shown.
    """
    if not (verbose and can_draw()):
        yield from steps
        return
    started, bar = time.monotonic(), None
    for done, step in enumerate(steps, start=1):
        yield step
        if bar is None and time.monotonic() - started > PATIENCE and done != total:
            bar = sys.modules["keras"].utils.Progbar(total) if "keras" in sys.modules else _Count(total)
        if bar is not None:
            bar.update(done)
