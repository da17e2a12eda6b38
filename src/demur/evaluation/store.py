"""Attacked rows on disk: an evaluation that was interrupted goes on, and never with rows made from something else."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from demur.atomic import whole
from demur.detectors.base import Detector
from demur.documents import Malformed, arrays_in, as_type, from_text
from demur.errors import CorruptEvaluation
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Array
from demur.rows.arrays import is_table
from demur.rows.layout import flat

ROUNDING = 0.02
"""Share of the rows on which a claim may fail: at the boundary, rounding decides."""


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
    """`(n,)`, the numbers of the rows in the data."""
    y: Array
    """`(n,)`, the true classes."""
    fooled: Array
    """`(n,)`, whether the classifier was wrong when the rows were made: what the attack claims."""
    origin: Mapping[str, str]
    """What the rows were made from, by name: digests of data and classifier, and the settings of the attack."""
    late: Array | None = None
    """See `demur.evaluation.attacks.Attacked`."""

    def write(self, file: Path) -> None:
        """Write the rows, whole or not at all."""
        arrays = {key: value for key, value in self._asdict().items() if value is not None and key != "origin"}
        with whole(file) as stream:
            np.savez(stream, origin=np.array(json.dumps(dict(self.origin))), **arrays)

    @classmethod
    def read(cls, file: Path) -> "AttackedRows | None":
        """Read rows; None if there is no such file, or it is not whole."""
        try:
            found = arrays_in(file)
            origin = as_type(from_text(str(found["origin"])), dict[str, str])
            return cls(found["x"], found["rows"], found["y"], found["fooled"], origin, found.get("late"))
        except Malformed:
            return None

    def check(self, origin: Mapping[str, str], file: Path | str, y: Array | None = None) -> None:
        """Raise CorruptEvaluation if the rows were made from something else, or have other classes than `y`."""
        other = [name for name in {**self.origin, **origin} if self.origin.get(name) != origin.get(name)]
        other += [] if y is None or np.array_equal(self.y, y) else ["labels"]
        if other:
            raise CorruptEvaluation(
                f"{file} holds attacked rows that were made from something else; what differs: {', '.join(other)}. "
                "Remove that file and the attack runs again, or keep attacked rows in another folder"
            )

    def check_claim(self, wrong: Array, file: Path | str) -> None:
        """Raise CorruptEvaluation if the classifier is `wrong` now, `(n,)`, on other rows than it was then."""
        different = int((np.asarray(wrong) != self.fooled).sum())
        if different > max(1.0, ROUNDING * len(self.fooled)):
            raise CorruptEvaluation(
                f"the attacked rows in {file} fooled the classifier on {int(self.fooled.sum())} of {len(self.fooled)} "
                f"rows when they were made, and it is now wrong on {int(np.sum(wrong))}: the classifier or the labels "
                "have changed. Remove that file and the attack runs again, or keep attacked rows in another folder"
            )


class Store:
    """Attacked rows in a folder (None keeps nothing), by attack and rows.

    All have in common, by name, what they are `about`: digests of detector or classifier and of the rows, the seed.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, str]) -> None:
        self.folder, self.about = folder, dict(about)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def file(self, key: Mapping[str, Any]) -> Path | None:
        """The file of the rows under a key; the name depends on everything that the rows are made from."""
        if self.folder is None:
            return None
        text = json.dumps(self.origin(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"

    def origin(self, key: Mapping[str, Any]) -> dict[str, str]:
        """What the rows under a key are made from."""
        return {**self.about, "attack": json.dumps(dict(key), sort_keys=True, default=str)}

    def get(self, key: Mapping[str, Any], y: Any) -> AttackedRows | None:
        """The rows under a key; None if there are none; CorruptEvaluation if they were made from something else."""
        file = self.file(key)
        kept = None if file is None else AttackedRows.read(file)
        if kept is not None:
            kept.check(self.origin(key), file or "", y)
        return kept

    def put(self, key: Mapping[str, Any], made: AttackedRows) -> None:
        """Keep rows under a key."""
        file = self.file(key)
        if file is not None:
            made._replace(origin=self.origin(key)).write(file)


class Stores(NamedTuple):
    """Where attacked rows are kept."""

    classifier: Store = Store(None, {})
    """Rows that serve all detectors of the classifier."""
    guard: Store = Store(None, {})
    """Rows for this detector alone."""

    @classmethod
    def inside(cls, folder: Path, about: Mapping[str, str], detector: Detector) -> Self:
        """The stores in a folder, for rows that have so much in common."""
        classifier, guard = digest_of_classifier(detector), digest_of_detector(detector)
        return cls(Store(folder, {**about, "classifier": classifier}), Store(folder, {**about, "detector": guard}))

    def of(self, knowledge: Knowledge) -> Store:
        """The store for attacks of this knowledge."""
        return self.guard if knowledge == "white-box" else self.classifier


def digest_of_rows(X: Any, y: Any) -> str:
    """A SHA-256 of rows and their classes."""
    digest = hashlib.sha256()
    if is_table(X):
        arrays = [
            np.asarray(repr(list(X.columns)).encode()),
            *(np.asarray(X[name].to_numpy()).astype("U") for name in X.columns),
        ]
    else:
        arrays = [np.asarray(part) for part in flat(X)]
    for array in (*arrays, np.asarray(y)):
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digest_of_classifier(detector: Detector) -> str:
    """A SHA-256 of what the classifier has learned, and of how it is read."""
    read_as = [detector.from_logits, detector.channels_last, detector.classifier.fingerprint()]
    return hashlib.sha256(json.dumps(read_as, default=str).encode()).hexdigest()


def digest_of_detector(detector: Detector) -> str:
    """A SHA-256 of the settings of a detector, of what it has learned, and of the classifier."""
    digest = hashlib.sha256(json.dumps([type(detector).__name__, detector.settings], default=str).encode())
    digest.update(digest_of_classifier(detector).encode())
    for number in (detector.threshold, detector.uncertainty_weight):
        digest.update(np.asarray(number, "float64").tobytes())
    for part in detector.parts.values():
        for variable in part.variables if part is not detector.model else []:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()
