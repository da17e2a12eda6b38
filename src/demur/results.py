"""What detectors return: plain dicts of NumPy arrays, typed."""

from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Scored(NamedTuple):
    """What a detector's graph says of `n` rows."""

    score: Floats
    """`(n,)`, in nats; infinite for an invalid row."""
    y: npt.NDArray[Any]
    """The reference: class labels `(n,)`, int64, or probabilities `(n, classes)` if they were asked for."""
    y_opinion: npt.NDArray[Any]
    """The opinion, likewise."""
    invalid: Labels
    """`(k,)`, the rows that cannot be judged: they hold NaN or infinity, or the networks return it for them."""


class Meta(TypedDict):
    """What a result says of the detector it comes from."""

    name: str
    detector_type: str
    data_type: str | None
    online: bool
    version: str


class PredictData(TypedDict):
    """What is said of each of `n` instances."""

    is_adversarial: npt.NDArray[np.bool_]
    """`(n,)`."""
    instance_score: Floats | None
    """`(n,)`, in nats; None where not asked for."""
    p_value: NotRequired[npt.NDArray[np.float64]]
    """`(n,)`, from a calibrated detector: one that `infer_threshold` was called on."""
    harm_probability: NotRequired[npt.NDArray[np.float64]]
    """`(n,)`, that the classifier is wrong on a row with this score, given that the row is like the labelled rows that
    `demur.drift.calibrate_accuracy` was called on."""
    invalid: NotRequired[Labels]
    """`(k,)`, the rows that could not be judged, from a detector with `on_invalid="flag"`; they are all flagged."""


class CorrectData(PredictData):
    """The same, and classes."""

    corrected: npt.NDArray[Any]
    """`(n,)`: the opinion's class where flagged, the classifier's elsewhere and where invalid. As the classifier's
    classes are called, where that is known (`Detector.classes`); otherwise int64."""
    no_defense: npt.NDArray[Any] | None
    """`(n,)`, the classifier's class; None where not asked for."""
    defense: npt.NDArray[Any] | None
    """`(n,)`, the opinion's class; None where not asked for."""


class PredictResult(TypedDict):
    """What `predict` returns."""

    meta: Meta
    data: PredictData


class CorrectResult(TypedDict):
    """What `correct` returns."""

    meta: Meta
    data: CorrectData
