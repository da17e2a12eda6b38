"""What an evaluation has done so far, on disk: a long run that was interrupted goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from demur.detectors.base import Detector
from demur.evaluation.attacked import AttackedRows
from demur.evaluation.result import Knowledge
from demur.rows.arrays import is_table
from demur.rows.layout import flat


class Store:
    """Attacked rows by what was done to which, in a folder; or nowhere.

    Args:
        folder: made if it does not exist; None keeps nothing.
        about: what all of them have in common, by name: digests of detector or classifier and of the rows, the seed.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, str]) -> None:
        self.folder, self.about = folder, dict(about)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def file(self, key: Mapping[str, Any]) -> Path | None:
        """The file of what is kept under a key: another one for everything else that rows are made from."""
        if self.folder is None:
            return None
        text = json.dumps(self.origin(key), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"

    def origin(self, key: Mapping[str, Any]) -> dict[str, str]:
        """What rows kept under a key are made from."""
        return {**self.about, "attack": json.dumps(dict(key), sort_keys=True, default=str)}

    def get(self, key: Mapping[str, Any], y: Any) -> AttackedRows | None:
        """The rows kept under a key; None if there are none, or they cannot be read.

        Raises:
            CorruptEvaluation: the file under that key holds rows that were made from something else.
        """
        file = self.file(key)
        kept = None if file is None else AttackedRows.read(file)
        if kept is not None and file is not None:
            kept.check(self.origin(key), file, y)
        return kept

    def put(self, key: Mapping[str, Any], made: AttackedRows) -> None:
        """Keep rows under a key; a file is there whole or not at all."""
        file = self.file(key)
        if file is not None:
            made._replace(origin=self.origin(key)).write(file)


class Stores(NamedTuple):
    """Where attacked rows are kept, by what the attack knows."""

    classifier: Store = Store(None, {})
    """For all detectors of the classifier."""
    guard: Store = Store(None, {})
    """For this one alone."""

    def of(self, knowledge: Knowledge) -> Store:
        """The store for attacks that know this."""
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
    """A SHA-256 of what the classifier has learned and how it is read."""
    read_as = [detector.from_logits, detector.channels_last, detector.classifier.fingerprint()]
    return hashlib.sha256(json.dumps(read_as, default=str).encode()).hexdigest()


def digest_of_detector(detector: Detector) -> str:
    """A SHA-256 of what a detector has learned, how it is set, and of its classifier."""
    digest = hashlib.sha256(json.dumps([type(detector).__name__, detector.settings], default=str).encode())
    digest.update(digest_of_classifier(detector).encode())
    for number in (detector.threshold, detector.uncertainty_weight):
        digest.update(np.asarray(number, "float64").tobytes())
    for part in detector.parts.values():
        for variable in part.variables if part is not detector.model else []:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()
