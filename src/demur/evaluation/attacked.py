"""Attacked rows on disk, with what they were made from: never joined with other rows, labels or classifiers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.atomic import whole
from demur.documents import Malformed, arrays_in, as_type, from_text
from demur.errors import CorruptEvaluation

Array = npt.NDArray[Any]

ROUNDING = 0.02
"""Share of the rows on which a claim may fail: an attack that stops at the boundary leaves some to rounding."""


class AttackedRows(NamedTuple):
    """Rows after an attack.

    Examples:
        >>> made = AttackedRows(X_new, np.arange(40), y_new, np.ones(40, bool), {"data": "a"})
        >>> made.check({"data": "b"}, "rows.npz")
        Traceback (most recent call last):
        demur.errors.CorruptEvaluation: ...
    """

    x: Array
    """`(n, *input_shape)`."""
    rows: Array
    """`(n,)`, their numbers in the data that they were taken from."""
    y: Array
    """`(n,)`, their true classes."""
    fooled: Array
    """`(n,)`, whether the classifier was wrong on them when they were made: what the attack claims."""
    origin: Mapping[str, str]
    """What they were made from, by name: digests of data and classifier, and the attack's settings."""
    late: Array | None = None
    """See `demur.evaluation.attacks.Attacked`."""

    def write(self, file: Path) -> None:
        """Write them, whole or not at all."""
        arrays = {key: value for key, value in self._asdict().items() if value is not None and key != "origin"}
        with whole(file) as stream:
            np.savez(stream, origin=np.array(json.dumps(dict(self.origin))), **arrays)

    @classmethod
    def read(cls, file: Path) -> "AttackedRows | None":
        """Read them; None if there is no such file, or no whole one."""
        try:
            found = arrays_in(file)
            origin = as_type(from_text(str(found["origin"])), dict[str, str])
            return cls(found["x"], found["rows"], found["y"], found["fooled"], origin, found.get("late"))
        except Malformed:
            return None

    def check(self, origin: Mapping[str, str], file: Path | str, y: Array | None = None) -> None:
        """Raise CorruptEvaluation if they were made from something else.

        Args:
            origin: what they should have been made from.
            file: where they were read from.
            y: the classes that they should have, where that is known.
        """
        other = [name for name in {**self.origin, **origin} if self.origin.get(name) != origin.get(name)]
        other += [] if y is None or np.array_equal(self.y, y) else ["labels"]
        if other:
            raise CorruptEvaluation(
                f"{file} holds attacked rows that were made from something else; what differs: {', '.join(other)}. "
                "Remove that file and the attack runs again, or keep attacked rows in another folder"
            )

    def check_claim(self, wrong: Array, file: Path | str) -> None:
        """Raise CorruptEvaluation if the classifier is not wrong on the rows on which it was when they were made.

        Args:
            wrong: `(n,)`, whether the classifier is wrong on them now.
            file: where they were read from.
        """
        different = int((np.asarray(wrong) != self.fooled).sum())
        if different > max(1.0, ROUNDING * len(self.fooled)):
            raise CorruptEvaluation(
                f"the attacked rows in {file} fooled the classifier on {int(self.fooled.sum())} of {len(self.fooled)} "
                f"rows when they were made, and it is now wrong on {int(np.sum(wrong))}: the classifier or the labels "
                "have changed. Remove that file and the attack runs again, or keep attacked rows in another folder"
            )
