"""Guards that were read from a file or a folder: the facts come from a description, the answers as arrays by name."""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from demur.guards.base import Guard
from demur.guards.description import Description
from demur.rows.layout import Field

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


def told(name: str) -> Any:
    """A property of a guard: the entry of that name in the description."""
    return property(lambda guard: getattr(guard.description, name))


class DescribedGuard(Guard):
    """A guard whose facts are those of a description."""

    detector = told("detector")
    labels = told("labels")
    layout = told("layout")
    threshold = told("threshold")
    calibration = told("calibration")
    harm = told("harm")
    trained_on = told("trained_on")
    scale = told("scale")
    temperature = told("temperature")
    on_invalid = told("on_invalid")
    data_type = told("data_type")
    channels_first = told("channels_first")

    def __init__(self, description: Description) -> None:
        self._description = description

    @property
    def description(self) -> Description:
        """All that is known of the guard."""
        return self._description


class TensorGuard(DescribedGuard):
    """A guard from a file or a folder that answers with arrays by name, as a server passes them on.

    Attributes:
        path: the file, or the folder.
        name: what the guard is called.
        sha256: of the file, or of the document in the folder.
        metadata: what the guard says of itself, as texts.
        inputs: the field of one row of each input array, by name.
        outputs: the field of one row of each output array, by name.
        default_outputs: names of the outputs that are returned where none is asked for.
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
        """Answer once; nothing is checked, cast or split.

        A row that cannot be judged gets a score of infinity and is flagged, whatever `on_invalid` says. Classes are
        indices here: `labels.named(...)` turns them into names.

        Args:
            feed: `(n, ...)`, for each name in `inputs`.
            outputs: names of the outputs; None for `default_outputs`.
            threshold: in nats, to use this once: a number, or `(classes,)` for a guard that has one for each.

        Returns:
            `(n, ...)`, for each output.
        """

    def checked(self, feed: Arrays) -> Arrays:
        """Return inputs, after a check of the answers of a classifier that is outside of the guard.

        Raises:
            NonFinite, NotADistribution: the classifier cannot have answered so.
        """
        return feed
