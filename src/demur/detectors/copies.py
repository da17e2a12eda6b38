"""Copies of detectors. In memory the copies share the classifier; through pickle the classifier is pickled too."""

import copy
from typing import TYPE_CHECKING, Any

import keras

from demur.errors import WrongType
from demur.network.companion import is_wrapped
from demur.private import without_tensorflow

if TYPE_CHECKING:
    from demur.detectors.base import Detector

KEPT = ("said_before", "threshold", "calibration", "harm", "agreement", "table", "scale", "trained_on", "history")
"""What a detector has learned, or was told, apart from its networks and settings."""


def state_of(detector: "Detector") -> dict[str, Any]:
    """What makes a detector again; its networks as they are."""
    ready = detector.is_ready
    parts = dict(detector.parts) if ready else detector.given_parts
    companion: Any = parts.get(detector.companion_name)
    if is_wrapped(companion):
        parts[detector.companion_name] = companion.module
    settings = dict(detector.settings)
    if detector.companion_preprocess is not None:
        settings["companion_preprocess"] = detector.companion_preprocess
    if not ready and detector.input_shape is not None:
        settings["input_shape"] = detector.input_shape
    return {
        "class": type(detector),
        "parts": parts,
        "settings": settings,
        "inputs": detector.route.settings() if ready else None,
        "fitted": detector.is_fitted,
        "companion_is_given": detector.companion_is_given,
        "uncertainty_weight": detector.uncertainty_weight,
        "probe": detector.route.probe if ready else None,
        "kept": {name: getattr(detector, name) for name in KEPT},
    }


def made_again(state: dict[str, Any]) -> "Detector":
    """The detector that a state was taken of."""
    detector: Detector = state["class"].from_parts(state["parts"], state["settings"])
    detector.resume(
        state["inputs"],
        state["parts"],
        state["fitted"],
        state["uncertainty_weight"],
        companion_is_given=state["companion_is_given"],
    )
    if detector.is_ready and state["probe"] is not None:
        detector.route.probe = state["probe"]
    for name, value in state["kept"].items():
        setattr(detector, name, copy.copy(value))
    return detector


def copied(detector: "Detector") -> "Detector":
    """A detector like it on the same classifier, with a companion of its own.

    Raises:
        WrongType: the companion cannot be copied.
    """
    state = state_of(detector)
    name = detector.companion_name
    companion = state["parts"].get(name)
    try:
        with keras.saving.custom_object_scope({type(companion).__name__: type(companion)}), without_tensorflow():
            state["parts"][name] = copy.deepcopy(companion)
    except Exception as error:
        raise WrongType(
            f"the {name} cannot be copied: {error}. If it is a Keras model of your own class, register that with "
            "keras.saving.register_keras_serializable"
        ) from error
    return made_again(state)


def with_companion(detector: "Detector", companion: Any) -> "Detector":
    """A detector with the same settings, threshold and classifier, and with another companion."""
    state = state_of(detector)
    state["parts"][detector.companion_name] = companion
    state["companion_is_given"] = True
    return made_again(state)


def trained(detector: "Detector", X: Any, arguments: dict[str, Any] | None) -> "Detector":
    """The detector itself, if it is fitted already; otherwise a copy of it, fitted on `X`."""
    if detector.is_fitted:
        return detector
    found = copied(detector)
    found.fit(X, **{"verbose": False, **(arguments or {})})
    return found
