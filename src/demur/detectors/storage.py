"""A detector and its models in the folder that `demur.guards.folder` describes. No pickle."""

import functools
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from demur import backends
from demur._version import __version__
from demur.calibration.agreement import Agreement
from demur.classifiers.files.keras_file import reason
from demur.classifiers.torch_module import is_module
from demur.documents import as_type, reading
from demur.errors import CorruptDetector, InvalidSetting, NotADetector, NotFitted
from demur.guards import folder
from demur.guards.folder import Arrays
from demur.network.companion import is_wrapped, save_module
from demur.network.fit import Learner
from demur.network.routes import answered, is_own
from demur.private import without_tensorflow


class SavedClassifier(msgspec.Struct):
    """What tells the classifier of a saved detector."""

    fingerprint: str | None
    source: str | None = None
    """The name of the class that read the model."""
    title: str | None = None
    classes: dict[str, Any] | None = None
    """See `Classes.as_json`."""


class Saved(msgspec.Struct):
    """What `detector.json` says of a detector, beside the format and the files; earlier versions wrote less."""

    detector: str
    """The name of the detector's class."""
    threshold: float | list[float] | None
    settings: dict[str, Any]
    """The arguments of `__init__` that are no models."""
    classifier: SavedClassifier
    meta: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None
    """See `Route.settings`."""
    fitted: bool = True
    companion_is_given: bool = True
    agreement: Agreement | None = None
    uncertainty_weight: float = 0.0
    companion_preprocess: bool = False
    """Whether the caller's own function made the companion's rows."""
    table: dict[str, str] | None = None
    scale: float | None = None
    versions: dict[str, str] | None = None


def save(detector: Learner, path: Path, *, include_classifier: bool) -> None:
    """Write a detector, whole or not at all; see `Detector.save`.

    Models of Keras become one `.keras` file each, the state of a PyTorch module one `.safetensors` file, groups of
    arrays one `.npz` file each; other models are left out.
    """
    if not detector.is_ready:
        raise NotFitted("there is nothing to save yet: the shape of the rows is not known before fit(X)")
    _check_settings(detector.own_settings)
    threshold = detector.threshold.tolist() if isinstance(detector.threshold, np.ndarray) else detector.threshold
    classifier, name = detector.classifier, type(detector.classifier).__name__
    saved = Saved(
        type(detector).__name__,
        threshold,
        detector.settings,
        SavedClassifier(classifier.fingerprint(), name, detector.title, detector.labels.as_json()),
        meta=dict(detector.meta),
        inputs=detector.route.settings(),
        fitted=detector.is_fitted,
        companion_is_given=detector.companion_is_given,
        agreement=detector.agreement,
        uncertainty_weight=detector.uncertainty_weight,
        companion_preprocess=is_own(detector.companion_preprocess),
        table=detector.table,
        scale=detector.scale,
        versions={"demur": __version__, "keras": keras.__version__, "backend": backends.current().name},
    )
    parts = {name: part for name, part in detector.parts.items() if include_classifier or name != "classifier"}
    learned = {
        "calibration": detector.calibration,
        "harm": detector.harm,
        "probe": answered(detector.route),
        "trained_on": detector.trained_on,
    }
    arrays = {name: part.as_arrays() for name, part in learned.items() if part is not None}
    with without_tensorflow():
        for name, part in parts.items():
            _check_no_lambda(name, part)
        savers = {name: saver for name, part in parts.items() if (saver := _saver(part)) is not None}
        folder.write(path, msgspec.to_builtins(saved), savers, arrays)


def _check_settings(settings: dict[str, Any]) -> None:
    """Raise InvalidSetting where a detector's own setting cannot be written as JSON."""
    for name, value in settings.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise InvalidSetting(
                f"{name} cannot be saved: {error}. Keep numbers, texts, or lists and dicts of them, in self.{name}: "
                "float(...) and int(...) make such numbers of NumPy's"
            ) from error


def read(
    path: Path, custom_objects: dict[str, Any] | None = None, skip: Sequence[str] = ()
) -> tuple[Saved, dict[str, Any], dict[str, Arrays]]:
    """Read what `save` wrote: the document, the Keras models and the arrays by name. Runs no code from the folder.

    Args:
        path: the folder.
        custom_objects: passed to Keras.
        skip: names of models that are not wanted; their files need not be there.

    Returns:
        The document, the models (of a PyTorch module, the path of its state) and the arrays.

    Raises:
        DetectorNotFound: there is nothing at `path`.
        NotADetector: it is not a detector's folder, or of a newer format; or an entry is missing or has another type.
        CorruptDetector: a file is missing or changed, or a model cannot be made from it.
    """
    document, files = folder.read_document(path)
    with reading(f"{path} does not describe a whole detector", NotADetector):
        saved = as_type(document, Saved)
    wanted = {name: folder.verified(path, entry) for name, entry in files.items() if name not in skip}
    arrays = {name: folder.load_arrays(file) for name, file in wanted.items() if file.suffix == ".npz"}
    saved_with = (saved.versions or {}).get("keras", "unknown")
    models = {
        name: file if file.suffix == ".safetensors" else _load(file, custom_objects, saved_with)
        for name, file in wanted.items()
        if name not in arrays
    }
    return saved, models, arrays


def _saver(model: Any) -> tuple[str, Callable[[Path], Any]] | None:
    """The suffix of a model's file and what writes it; None for a model that is not written."""
    if is_wrapped(model) or is_module(model):
        module = model.module if is_wrapped(model) else model
        return "safetensors", functools.partial(save_module, module)
    return ("keras", model.save) if isinstance(model, keras.Model) else None


def _check_no_lambda(name: str, model: Any) -> None:
    """Raise InvalidSetting if a Keras model holds a Python lambda: it is saved as code, and `read` runs no code."""
    if is_wrapped(model) or not isinstance(model, keras.Model):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of lambdas, too
            found = _lambda_in(model.get_config(), name)
    except NotImplementedError:  # a model of the caller's class, whose configuration Keras does not know
        return
    if found is not None:
        apart = "; or save(path, include_classifier=False), and load_detector(path, model=...)"
        raise InvalidSetting(
            f"{found!r} in the {name} holds a Python lambda. It would be saved as code, which is never run when a "
            "detector is loaded: make it a function with a name, decorated with "
            f"@keras.saving.register_keras_serializable(){apart if name == 'classifier' else ''}"
        )


def _lambda_in(config: Any, name: str) -> str | None:
    """The name of the layer whose configuration holds a Python lambda; None if there is none."""
    if isinstance(config, dict):
        # An activation is written without its class: the code as text, defaults and closure alone.
        is_code = (
            set(config) == {"value"} and isinstance(config["value"], tuple) and isinstance(config["value"][0], str)
        )
        if is_code or config.get("class_name") == "__lambda__":
            return name
        own = config.get("name")
        parts, name = list(config.values()), own if isinstance(own, str) else name
    else:
        parts = list(config) if isinstance(config, list | tuple) else []
    return next((found for part in parts if (found := _lambda_in(part, name)) is not None), None)


def _load(file: Path, custom_objects: dict[str, Any] | None, saved_with: str) -> Any:
    known = {"softmax_v2": keras.activations.softmax, **(custom_objects or {})}  # what tf.nn.softmax calls itself
    try:
        with without_tensorflow():
            return keras.saving.load_model(file, custom_objects=known, compile=False, safe_mode=True)
    except Exception as error:
        other = f" It was saved with Keras {saved_with}, and this is {keras.__version__}."
        raise CorruptDetector(
            f"{file.name} cannot be made into a model: {reason(error)}."
            f"{other if saved_with != keras.__version__ else ''} "
            "If it holds layers or models of your own, pass load_detector(path, custom_objects={'Name': Class})"
        ) from error
