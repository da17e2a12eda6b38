"""What an evaluation says while it runs: in a terminal a bar for each threat, and a line for each that is done."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demur.evaluation.outcomes import Outcome
from demur.progress import can_draw


class Reporter:
    """Writes to standard output, or nowhere where `verbose` is False."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = bool(verbose)
        self.console = Console(highlight=False, quiet=not verbose)
        columns = [TextColumn("{task.description:<30}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn()]
        self.bars = Progress(*columns, console=self.console, transient=True, disable=not (verbose and can_draw()))

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(text, style="dim")

    @contextlib.contextmanager
    def counting(self, title: str, rows: int) -> Iterator[Callable[[float], None]]:
        """Show a bar; the function that it gives is told how many rows more are done."""
        bar = self.bars.add_task(title, total=rows)
        try:
            yield lambda done: self.bars.advance(bar, done)
        finally:
            self.bars.remove_task(bar)

    def found(self, title: str, outcomes: Sequence[Outcome]) -> None:
        """Write the line of an attack, or of a corruption from the first severity to the last."""
        alone = _shares([outcome.right_alone.mean() for outcome in outcomes])
        guarded = _shares([outcome.right_guarded.mean() for outcome in outcomes])
        rows = max(len(outcome.changed.rows) for outcome in outcomes)
        seconds = sum(outcome.changed.seconds for outcome in outcomes)
        self.console.print(
            f"{title:<32} {rows:>6,} rows   right alone {alone:>14}   guarded {guarded:>14} {seconds:6.1f} s",
            soft_wrap=True,
        )


def _shares(values: Sequence[float]) -> str:
    first, last = 100 * values[0], 100 * values[-1]
    return f"{first:.1f} to {last:.1f} %" if len(values) > 1 else f"{first:.1f} %"
