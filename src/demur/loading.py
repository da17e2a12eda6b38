"""Detectors from the folders that `save` writes."""

from pathlib import Path
from typing import Any

from demur import storage
from demur.calibration import Calibration
from demur.classifiers import source_of
from demur.classifiers.torch_module import is_module
from demur.companion import as_companion, load_module
from demur.detectors.base import Detector
from demur.errors import NotADetector, WrongClassifier, WrongType
from demur.harm import HarmCalibration


def load_detector(
    path: str | Path,
    *,
    model: Any = None,
    companion: Any = None,
    companion_preprocess: Any = None,
    custom_objects: dict[str, Any] | None = None,
) -> Detector:
    """Load a detector that `save` has written, on whichever Keras backend is in use. Runs no code from the folder.

    Examples:
        >>> detector.save("guard")
        >>> guard = load_detector("guard")
        >>> np.allclose(guard.score(X_new), detector.score(X_new), atol=1e-5)
        True

    Args:
        path: the folder.
        model: the classifier, to use instead of the saved one; needed if it was not saved, and for any that is not a
            Keras model. It must be the one that the detector was saved with: what it has learned is compared, where a
            source can tell (not of a function without a fingerprint).
        companion: a `torch.nn.Module` like the one that was trained, if that was one: its weights are loaded into it.
        companion_preprocess: what makes the companion's rows, if one of your own did when the detector was saved.
        custom_objects: classes and functions of your own that the models use, by name; passed to Keras.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector, WrongClassifier, WrongType: see `demur.errors`.
    """
    document, parts, arrays = storage.read(Path(path), custom_objects, skip=() if model is None else ("classifier",))
    try:
        detector_class = Detector.registry[document["detector"]]
        classifier = document["classifier"]
        saved, settings, threshold = classifier["fingerprint"], document["settings"], document["threshold"]
        # What was saved before there was a score_type measured what training had minimised.
        settings = {"score_type": (settings or {}).get("loss_type", "kld"), "w_uncertainty": 0.0, **settings}
    except (KeyError, TypeError) as error:
        raise NotADetector(f"{path} does not describe a detector that is known here: {error!r}") from error
    if model is not None:
        _check_fingerprint(model, saved)
        parts["classifier"] = model
    elif "classifier" not in parts or isinstance(parts["classifier"], Path):
        state = parts.get("classifier")
        hint = "" if state is None else f". Its weights are in {state}: safetensors.torch.load_model(module, file)"
        raise WrongClassifier(f"{path} was saved without its classifier: pass load_detector(path, model=...){hint}")
    try:
        name = detector_class.companion_name
        parts[name] = _with_state(parts[name], companion, name)
        if document.get("companion_preprocess"):
            if companion_preprocess is None:
                raise WrongType(f"{path} was saved with a companion_preprocess of your own: pass it, as it was then")
            settings = {**settings, "companion_preprocess": companion_preprocess}
        detector = detector_class.from_parts(parts, settings)
        fitted, weight = document.get("fitted", True), document.get("uncertainty_weight", 0.0)
        detector.resume(document.get("inputs"), parts, fitted, weight)
        if "calibration" in arrays:
            detector.calibration = Calibration.from_arrays(arrays["calibration"])
        if "harm" in arrays:
            detector.harm = HarmCalibration.from_arrays(arrays["harm"])
    except (KeyError, TypeError) as error:
        if isinstance(error, WrongType):
            raise
        raise NotADetector(f"{path} does not describe a whole {document['detector']}: {error!r}") from error
    detector.threshold = threshold
    detector.table = document.get("table")
    return detector


def _with_state(part: Any, module: Any, name: str) -> Any:
    """A saved companion: a Keras model as it is, of a PyTorch module the one given, with the saved weights."""
    if not isinstance(part, Path):
        return part
    if not is_module(module):
        raise WrongType(
            f"the {name} is a PyTorch module, whose weights alone are saved: pass load_detector(path, companion=module)"
            f" with a module like it; got {type(module).__name__}"
        )
    as_companion(module, name)  # tells what to do on another backend
    load_module(module, part)
    return module


def _check_fingerprint(model: Any, saved: str | None) -> None:
    found = source_of(model).fingerprint_of(model)
    if saved is not None and found is not None and found != saved:
        raise WrongClassifier(
            "this is not the classifier that the detector was saved with: its weights are others. A detector judges "
            "one classifier; fit a new one for this"
        )
