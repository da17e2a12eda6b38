"""Detectors made again of what a folder holds."""

from pathlib import Path
from typing import Any

from demur import checks
from demur.backends.forks import computing
from demur.classifiers import BlackBox, source_of
from demur.classifiers.estimator import EstimatorClassifier, earlier_fingerprint
from demur.classifiers.function import FunctionClassifier, PatientClassifier
from demur.classifiers.likeness import Probe
from demur.classifiers.torch_module import is_module
from demur.detectors import storage
from demur.detectors.base import Detector
from demur.documents import Malformed
from demur.errors import NotADetector, ShapeMismatch, WrongClassifier, WrongType
from demur.guards.description import learned
from demur.guards.folder import Arrays
from demur.network.companion import as_companion, copy_of, load_module
from demur.network.routes import asked
from demur.rows.classes import Classes

JOBLIB_DIGITS = 40
"""Of joblib's hash of an estimator, which earlier versions saved in the place of a SHA-256."""
OTHER = "this is not the classifier that the detector was saved with"
WHAT_NOW = "A detector judges one classifier; fit a new one for this"


def restored(
    path: Path,
    model: Any,
    companion: Any,
    companion_preprocess: Any,
    custom_objects: dict[str, Any] | None,
) -> Detector:
    """See `demur.load_detector`."""
    computing()
    saved, parts, arrays = storage.read(path, custom_objects, skip=() if model is None else ("classifier",))
    if saved.detector not in Detector.registry:
        raise NotADetector(f"{path} does not describe a detector that is known here: {saved.detector!r}")
    detector_class, digest = Detector.registry[saved.detector], saved.classifier.fingerprint
    # What was saved before there was a score_type measured what training had minimised.
    settings = {"score_type": saved.settings.get("loss_type", "kld"), "w_uncertainty": 0.0, **saved.settings}
    is_same = model is None or _same_by_digest(model, digest)
    if model is not None:
        parts["classifier"] = model
    elif "classifier" not in parts or isinstance(parts["classifier"], Path):
        state = parts.get("classifier")
        hint = "" if state is None else f". Its weights are in {state}: safetensors.torch.load_model(module, file)"
        raise WrongClassifier(f"{path} was saved without its classifier: pass load_detector(path, model=...){hint}")
    if saved.companion_preprocess and companion_preprocess is None:
        raise WrongType(f"{path} was saved with a companion_preprocess of your own: pass it, as it was then")
    try:
        name, given = detector_class.companion_name, saved.companion_is_given
        if companion is None and not given and isinstance(parts[name], Path):
            companion = copy_of(parts["classifier"], name)  # of modules, demur makes nothing but copies
        parts[name] = _with_state(parts[name], companion, name)
        own = {"companion_preprocess": companion_preprocess} if saved.companion_preprocess else {}
        detector = detector_class.from_parts(parts, {**settings, **own})
        detector.resume(saved.inputs, parts, saved.fitted, saved.uncertainty_weight, companion_is_given=given)
        detector.agreement = saved.agreement
        probe = _take_learned(detector, arrays)
        said = saved.classifier.classes
        before = None if said is None else Classes.from_json(said, detector.labels.count)
    except ShapeMismatch as error:
        if is_same or digest is None:
            raise
        raise WrongClassifier(f"{OTHER}: {error}. {WHAT_NOW}") from error
    except (KeyError, TypeError, Malformed) as error:
        if isinstance(error, WrongType) and not checks.is_misfit(error):
            raise
        raise NotADetector(f"{path} does not describe a whole {saved.detector}: {error!r}") from error
    if not is_same:
        _check_answers(detector, digest, probe, path)
    if before is not None:
        _check_classes(detector, before)
    detector.threshold, detector.table, detector.scale = saved.threshold, saved.table, saved.scale
    return detector


def _take_learned(detector: Detector, arrays: dict[str, Arrays]) -> Probe | None:
    """Give a detector what it had learned from scores; return what tells its classifier, if there is anything."""
    for name, part in learned(arrays).items():
        if part is not None:
            setattr(detector, name, part)
    probe = Probe.from_arrays(arrays["probe"]) if "probe" in arrays else None
    if probe is not None and detector.is_ready:
        detector.route.probe = probe
    return probe


def _with_state(part: Any, module: Any, name: str) -> Any:
    """The saved companion: a Keras model, or the given PyTorch module with the saved weights."""
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


def _same_by_digest(model: Any, saved: str | None) -> bool:
    """Whether the digest of what a classifier has learned is the saved one.

    Raises:
        WrongClassifier: it is not, and digests of such classifiers change with nothing but what they have learned.
    """
    source = source_of(model)
    found = source.fingerprint_of(source.resolved(model))
    if saved is None or found == saved:
        return saved is not None
    if len(saved) == JOBLIB_DIGITS and issubclass(source, EstimatorClassifier):  # what earlier versions saved
        return earlier_fingerprint(model) == saved
    is_named = isinstance(model, BlackBox) and model.fingerprint is not None
    if is_named or (source.in_graph and found is not None):
        raise WrongClassifier(
            f"{OTHER}: its {'fingerprint is another' if is_named else 'weights are others'}. {WHAT_NOW}"
        )
    return False


def _check_answers(detector: Detector, saved: str | None, probe: Probe | None, path: Path) -> None:
    """Check a classifier whose digest does not tell: by its answers on made-up rows, where it may be asked.

    A library of another version reads the same estimator into other attributes, and a function has no digest.

    Args:
        detector: with the classifier.
        saved: the digest of the classifier that was saved.
        probe: made-up rows, with the answers of the classifier that was saved; None if there are none.
        path: of the detector, for messages.

    Raises:
        WrongClassifier: it answers otherwise, or was not asked and its weights are others.
    """
    source, classifier = source_of(detector.model), detector.classifier
    found = None if probe is None or not classifier.is_free else asked(classifier, probe)
    differs = None if probe is None or found is None else probe.differs(found)
    has_weights = not issubclass(source, FunctionClassifier | PatientClassifier | EstimatorClassifier)
    if saved is not None and (differs or (differs is None and has_weights)):
        raise WrongClassifier(f"{OTHER}: {'it answers otherwise' if differs else 'its weights are others'}. {WHAT_NOW}")
    if differs:
        checks.warn(
            f"{OTHER}, as it seems: a function, it answers otherwise on the made-up rows that are in {path}. {WHAT_NOW}"
            ". demur.BlackBox(function, fingerprint='name and version') is told by that name"
        )
    elif saved is not None:
        answers = "" if differs is None else ". Its answers are the same on the made-up rows that are in the folder"
        checks.warn(
            f"whether this is the classifier that {path} was saved with cannot be told for certain: it is stored "
            f"otherwise, as when another version of its library reads it{answers}. If it is the same one, "
            "detector.save(path) remembers it as it is now; if not, fit a new detector"
        )


def _check_classes(detector: Detector, before: Classes) -> None:
    """Check that a classifier calls its classes as before, or call them so where it does not say.

    Raises:
        WrongClassifier: it calls them otherwise.
    """
    if detector.classes is None:
        detector.said_before = None if before.names is None else (before.names, before.or_indices)
    elif detector.classes != before.names:
        raise WrongClassifier(
            f"{OTHER}: its classes were {before.described} and are {detector.labels.described}. {WHAT_NOW}"
        )
