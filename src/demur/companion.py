"""What a companion must be, whichever detector it serves."""

import contextlib
from typing import Any

import keras

from demur.classifiers.keras_model import KerasClassifier, fits_either, graph_of, row_shape
from demur.data import Shape, describe
from demur.errors import InvalidSetting, ShapeMismatch, WrongType


def check_companion(companion: Any, classifier: KerasClassifier, name: str) -> None:
    """Raise unless the companion is a Keras model for the classifier's inputs with weights of its own."""
    if not isinstance(companion, keras.Model):
        raise WrongType(f"the {name} must be a Keras model; got {type(companion).__name__}")
    taken = row_shape(companion)
    if taken is not None and not fits_either(taken, classifier.row_shape):
        raise ShapeMismatch(
            f"the {name} must take the classifier's inputs, {describe(classifier.row_shape)}; "
            f"it takes {describe(taken)}"
        )
    if graph_of(companion) is None:
        with contextlib.suppress(Exception):  # builds it; what is wrong with it, if anything, shows below
            companion(classifier.probe(), training=False)
    theirs = {id(variable) for variable in classifier.model.variables}
    shared = [variable.path for variable in companion.trainable_variables if id(variable) in theirs]
    if shared:
        raise InvalidSetting(
            f"the {name} shares trainable weights with the classifier, which fit must not change: "
            f"{', '.join(shared[:5])}. Give it layers of its own, or set trainable = False on the shared ones"
        )


def known_shape(*models: Any) -> Shape | None:
    """The row shape that the first model with a known input gives."""
    shapes = (row_shape(model) for model in models if isinstance(model, keras.Model))
    return next((shape for shape in shapes if shape is not None), None)
