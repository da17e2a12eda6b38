"""Detectors from the folders that `save` writes."""

from pathlib import Path
from typing import Any

import keras

from demur import storage
from demur.calibration import Calibration
from demur.detectors.base import Detector
from demur.errors import NotADetector, WrongClassifier, WrongType


def load_detector(path: str | Path, *, model: Any = None, custom_objects: dict[str, Any] | None = None) -> Detector:
    """Load a detector that `save` has written, on whichever Keras backend is in use. Runs no code from the folder.

    Args:
        path: the folder.
        model: the classifier, to use instead of the saved one; needed if it was not saved. Its weights must be those of
            the classifier that the detector was saved with.
        custom_objects: classes and functions of your own that the models use, by name; passed to Keras.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector, WrongClassifier: see `demur.errors`.
    """
    document, parts, arrays = storage.read(Path(path), custom_objects, skip=() if model is None else ("classifier",))
    try:
        detector_class = Detector.registry[document["detector"]]
        saved = document["classifier"]["fingerprint"]
        settings, threshold = document["settings"], document["threshold"]
    except (KeyError, TypeError) as error:
        raise NotADetector(f"{path} does not describe a detector that is known here: {error!r}") from error
    if model is not None:
        _check_fingerprint(model, saved)
        parts["classifier"] = model
    elif "classifier" not in parts:
        raise WrongClassifier(f"{path} was saved without its classifier: pass load_detector(path, model=...)")
    try:
        detector = detector_class.from_parts(parts, settings)
        if "calibration" in arrays:
            detector.calibration = Calibration.from_arrays(arrays["calibration"])
    except (KeyError, TypeError) as error:
        raise NotADetector(f"{path} does not describe a whole {document['detector']}: {error!r}") from error
    detector.threshold = threshold
    return detector


def _check_fingerprint(model: Any, saved: str) -> None:
    if not isinstance(model, keras.Model):
        raise WrongType(f"model must be a Keras model; got {type(model).__name__}")
    if storage.fingerprint(model) != saved:
        raise WrongClassifier(
            "this is not the classifier that the detector was saved with: its weights are others. A detector judges "
            "one classifier; fit a new one for this"
        )
