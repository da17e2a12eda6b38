"""Guards that take and return arrays by name, as a server passes them on."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from demur.guards.described import DescribedGuard, told
from demur.rows.layout import Field

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


class TensorGuard(DescribedGuard):
    """A guard from a file or a folder, asked for named arrays.

    Attributes:
        path: the file, or the folder.
        name: what it is called.
        sha256: of what it was read from.
        metadata: what it says of itself, as texts.
        inputs: name and field, of one row, of each array that it takes.
        outputs: the same of what it returns.
        default_outputs: names of what it returns where nothing is asked for.
    """

    path: Path
    name: str
    sha256: str
    metadata: dict[str, str]
    inputs: dict[str, Field]
    outputs: dict[str, Field]
    default_outputs: tuple[str, ...]
    classes = told("classes")

    @abc.abstractmethod
    def run(
        self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None, threshold: float | Array | None = None
    ) -> Arrays:
        """Answer once, on arrays as they are taken: nothing is checked, cast or split.

        A row that cannot be judged gets a score of infinity and is flagged, whatever `on_invalid` says. Classes are
        indices here: `labels.named(...)` makes of them what they are called.

        Args:
            feed: `(n, ...)`, for each name in `inputs`.
            outputs: names of what is wanted; None for `default_outputs`.
            threshold: in nats, to use this once: a number, or `(classes,)` for a guard that has one for each.

        Returns:
            `(n, ...)`, for each output.
        """

    def checked(self, feed: Arrays) -> Arrays:
        """Return inputs, with what a classifier outside of the guard has answered checked.

        Raises:
            NonFinite, NotADistribution: these are not answers of the classifier.
        """
        return feed
