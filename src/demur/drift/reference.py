"""Scores that come, and the calibration scores that they are compared with."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import Calibration
from demur.drift.conditional import conditional_p_values
from demur.drift.evidence import Array, Observed
from demur.errors import EmptyInput, InvalidSetting, NonFinite, NotCalibrated, ShapeMismatch, WrongType
from demur.guards.base import Guard
from demur.lazy import above
from demur.rows.arrays import as_array, row_list
from demur.rows.classes import UNKNOWN
from demur.rows.sources import is_collection


class Given(NamedTuple):
    """Scores that came."""

    scores: Array
    """`(n,)`, the finite scores."""
    predicted: npt.NDArray[np.int64] | None
    """`(n,)`, the predicted classes of the rows with finite scores."""
    valid: npt.NDArray[np.bool_]
    """Which of all scores that came are finite."""


def calibration_of(detector: Guard | Calibration) -> Calibration:
    """The calibration of a detector, or the calibration that is given in place of the detector."""
    if isinstance(detector, Calibration):
        return detector
    if not isinstance(detector, Guard):
        raise WrongType(
            f"detector is an AdversarialAE or a ModelDistillation, or its calibration; got {type(detector).__name__}"
        )
    if detector.calibration is None:
        raise NotCalibrated(
            f"{type(detector).__name__} has no calibration scores to compare with: call "
            "infer_threshold(X_held_out, fpr=0.05) first, on rows that fit has not seen"
        )
    return detector.calibration


def scores_of(
    detector: Guard | Calibration,
    X: Any,
    scores: Any,
    predicted: Any = None,
    *,
    by_class: bool = False,
    batch_size: int = 256,
) -> Given:
    """The finite scores of rows `X`, or of `scores` in place of rows, with classes if they are needed (`by_class`).

    Raises:
        InvalidSetting: rows and scores are given, or neither; or classes are needed and missing.
        EmptyInput: there are no scores.
        NonFinite: a score is not finite, and the detector does not flag rows that cannot be judged.
        WrongType, ShapeMismatch: see `demur.errors`.
    """
    if (X is None) == (scores is None):
        raise InvalidSetting("pass rows, X, or scores=, and not both")
    if scores is not None:
        found = np.atleast_1d(as_array(scores, "scores"))
        if found.ndim != 1 or found.dtype.kind not in "fiu":
            raise ShapeMismatch(f"scores must be numbers of shape (n,); got shape {found.shape} of {found.dtype}")
        if len(found) and (by_class or predicted is not None):
            predicted = _classes(detector, predicted, len(found))
    elif not isinstance(detector, Guard):
        raise WrongType("there is nothing to score rows with: pass the detector, or scores=")
    elif is_collection(X):
        found, predicted = above("gathered")(detector, X, batch_size=batch_size)
    elif by_class:
        found, y, _ = detector.score(X, batch_size=batch_size, return_predictions=True)
        predicted = y.argmax(axis=1)
    else:
        found = detector.score(X, batch_size=batch_size)
    if len(found) == 0:
        raise EmptyInput("there are no scores: pass at least one")
    values = np.asarray(found, "float64")
    valid = np.isfinite(values)
    if not valid.all() and not flags_invalid(detector):
        raise NonFinite(
            f"{(~valid).sum()} of {len(valid)} scores are not finite: {row_list(np.flatnonzero(~valid))}; a detector "
            'with on_invalid="flag" has such rows counted apart'
        )
    classes = predicted if by_class else None
    return Given(values[valid], None if classes is None else classes[valid], valid)


def flags_invalid(detector: Guard | Calibration) -> bool:
    """Whether rows that cannot be judged are flagged; False for a calibration."""
    return isinstance(detector, Guard) and detector.on_invalid == "flag"


def _classes(detector: Guard | Calibration, predicted: Any, n: int) -> npt.NDArray[np.int64]:
    if predicted is None:
        raise InvalidSetting(
            "each predicted class has calibration scores of its own: pass predicted=, the classifier's classes, too"
        )
    classes = detector.labels if isinstance(detector, Guard) else UNKNOWN  # a calibration knows the indices alone
    predicted = [predicted] if np.ndim(predicted) == 0 else predicted
    return classes.indices(predicted, n, "predicted", "a class, for each of the {n} scores")


class Reference:
    """The calibration scores that scores are compared with.

    Args:
        calibration: of a detector.
        delta: the share of calibration sets on which p-values may fail.
        tolerance: share of the inputs that may be arbitrarily bad without that counting as drift.
    """

    def __init__(self, calibration: Calibration, delta: float, tolerance: float = 0.0) -> None:
        self.calibration = calibration
        groups = len(calibration.ordinary)
        self.sizes = np.array([distribution.n for distribution in calibration.ordinary.values()])
        # A share `tolerance` of the scores may be anything, so a p-value may be too small by as much.
        self.tables = {
            group: np.minimum(conditional_p_values(distribution.n, delta / groups) + tolerance, 1.0)
            for group, distribution in calibration.ordinary.items()
        }

    @property
    def smallest(self) -> float:
        """The smallest possible p-value."""
        return float(min(table[0] for table in self.tables.values()))

    def observed(self, given: Given, time: Array | None = None) -> Observed:
        """What is known of scores; InvalidSetting if a predicted class has no calibration scores."""
        if given.predicted is not None:
            check_known(self.calibration, given.predicted)
        p, place = np.empty((2, len(given.scores)))
        group_of = np.zeros(len(given.scores), "int64")
        for index, (group, distribution) in enumerate(self.calibration.ordinary.items()):
            chosen = np.ones(len(given.scores), bool) if group is None else given.predicted == group
            scores = given.scores[chosen].astype("float32")
            smaller = distribution.below(scores)
            p[chosen] = self.tables[group][distribution.n - smaller]
            place[chosen] = (smaller + distribution.below(scores, ties=True)) / (2 * distribution.n)
            group_of[chosen] = index
        return Observed(p, place, self.sizes, time, group_of)


def check_known(calibration: Calibration, predicted: npt.NDArray[np.int64]) -> None:
    """Raise InvalidSetting if a predicted class has no calibration scores."""
    unknown = predicted[~np.isin(predicted, np.array(list(calibration.ordinary), "int64"))]
    if len(unknown):
        raise InvalidSetting(f"the calibration has scores of classes {list(calibration.ordinary)}; got {unknown[0]}")


def fingerprint(calibration: Calibration) -> str:
    """A SHA-256 of the calibration scores, which tells detectors apart."""
    digest = hashlib.sha256()
    for name, array in sorted(calibration.as_arrays().items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
