"""What the checks have in common."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur.detectors.base import Detector
from demur.private import layers_within
from demur.rows.classes import Classes
from demur.rows.rows import Rows

Array: TypeAlias = npt.NDArray[Any]
MakeDetector: TypeAlias = Callable[[], Detector]
Check: TypeAlias = Callable[[MakeDetector, Array], None]

TOLERANCE = 1e-5
"""How far two float32 computations of one score may be apart, in nats, on values of order 1."""


def made(make_detector: MakeDetector) -> Any:
    """Return a fresh detector that answers as if it had been trained, without the time that training takes."""
    detector = make_detector()
    detector.is_fitted = True
    return detector


def fitted(make_detector: MakeDetector, X: Array, **arguments: Any) -> Any:
    """Return a fresh detector, fitted for one short epoch unless told otherwise."""
    return fit(make_detector(), X, **arguments)


def fit(detector: Any, X: Array, **arguments: Any) -> Any:
    """Call `fit` for one short and silent epoch, with the optimizer that is quickest to compile, or as told."""
    detector.fit(X, **{"epochs": 1, "batch_size": 16, "verbose": False, "optimizer": "sgd", **arguments})
    detector.trained_on = None  # checks have no other rows to calibrate on
    return detector


def standing_still() -> Any:
    """An optimizer that changes nothing, so that a reported loss is that of the detector as it is."""
    return keras.optimizers.SGD(learning_rate=0.0)


def assert_same_scores(scores: Any, expected: Any, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise unless two arrays of scores are the same, by more than rounding."""
    np.testing.assert_allclose(scores, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def added_loss(companion: Any, X: Array) -> float:
    """What a companion's regularisers add to the loss on `X`, in inference mode."""
    companion(ops.convert_to_tensor(X), training=False)
    return sum(float(ops.convert_to_numpy(term)) for term in companion.losses)


def log_views(detector: Any, X: Array) -> tuple[list[Array], list[Array]]:
    """The log-probabilities of each view, in inference mode: the reference's and the opinion's."""
    rows = Rows.of(X, detector.layout, finite=False)
    reference = detector.route.reference(detector.views, detector.layers)(rows, len(X))()
    x = ops.convert_to_tensor(detector.route.companion_rows(rows).cast().raw)
    opinion = detector.views.opinion(x, False).log_probabilities
    return reference, [ops.convert_to_numpy(view) for view in opinion]


def divergences(detector: Any, X: Array) -> Array:
    """What training minimises of each row, in inference mode, in nats."""
    reference, opinion = ([ops.convert_to_tensor(view) for view in views] for views in log_views(detector, X))
    return np.asarray(ops.convert_to_numpy(detector.views.losses(reference, opinion)))


def own_classes(detector: Any, X: Array) -> Array:
    """The classes that the classifier itself predicts; what is no Keras model is asked as the detector asks it."""
    labels: Classes = detector.labels
    if not isinstance(detector.model, keras.Model):
        return labels.named(log_views(detector, X)[0][0].argmax(axis=-1))
    output = ops.convert_to_numpy(detector.model(ops.convert_to_tensor(X), training=False))
    is_one = output.shape[1:] in ((), (1,))
    found = output.reshape(-1) > (0 if detector.from_logits else 0.5) if is_one else output.argmax(axis=-1)
    return labels.named(np.asarray(found).astype("int64"))


def layers_of(model: Any, *kinds: Any) -> list[Any]:
    """Every layer in a model, at any depth, of the given kinds."""
    return [layer for layer in layers_within(model) if isinstance(layer, kinds)]


def is_same_in_training(companion: Any) -> bool:
    """Whether a companion computes in training what it computes in inference."""
    dropout = keras.layers.Dropout, keras.layers.GaussianNoise, keras.layers.GaussianDropout, keras.layers.AlphaDropout
    live = layers_of(companion, *dropout, keras.layers.SpatialDropout2D, keras.layers.BatchNormalization)
    return not live
