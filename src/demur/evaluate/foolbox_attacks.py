"""Attacks on the classifier through foolbox, on whichever backend Keras runs."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from demur.classifiers.keras_model import KerasClassifier
from demur.data import batches, check_rows
from demur.errors import InvalidSetting, MissingExtra, ShapeMismatch

ATTACKS = {
    "FGSM": ("LinfFastGradientAttack", {}),
    "PGD": ("LinfProjectedGradientDescentAttack", {"steps": 40}),
}


def attack(
    classifier: Any,
    X: npt.NDArray[Any],
    y: npt.NDArray[Any],
    *,
    name: str,
    epsilon: float,
    bounds: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
) -> npt.NDArray[np.float32]:
    """Change images, each by at most `epsilon` in L-infinity, so that the classifier errs. The guard is not attacked.

    FGSM is one step along the sign of the gradient (Goodfellow et al., 2015, arXiv:1412.6572); PGD is 40 smaller ones
    from a random start (Madry et al., 2018, arXiv:1706.06083). PGD draws from the backend's global random generator.

    Args:
        classifier: what to attack; its log-probabilities serve as logits, so that a saturated softmax hides nothing.
        X: `(n, *input_shape)`, within `bounds`.
        y: `(n,)`, the true classes.
        name: "FGSM" or "PGD".
        epsilon: largest change of a pixel, in the units of `X`.
        bounds: smallest and largest value of a pixel.
        batch_size: images attacked together.

    Returns:
        The images as the attack left them, `(n, *input_shape)` float32, also where it did not succeed.

    Raises:
        InvalidSetting: no attack of that name, or `epsilon` is not above 0.
        ShapeMismatch: images and classes do not match.
        MissingExtra: foolbox is not installed.
    """
    if name not in ATTACKS:
        raise InvalidSetting(f"an attack is one of {', '.join(ATTACKS)}; got {name!r}")
    if not epsilon > 0:
        raise InvalidSetting(f"epsilon is a number above 0; got {epsilon}")
    rows = check_rows(X, classifier.layout.shape)
    if np.shape(y) != (len(rows),):
        raise ShapeMismatch(f"y must hold one class for each of the {len(rows)} images; got shape {np.shape(y)}")
    try:
        import eagerpy
        import foolbox
    except ImportError as error:
        raise MissingExtra("foolbox", "attacks") from error
    kind, arguments = ATTACKS[name]
    method = getattr(foolbox.attacks, kind)(**arguments)
    target = _target(classifier, bounds)
    results = []
    for images, classes in zip(batches(rows, batch_size), batches(np.asarray(y), batch_size), strict=True):
        # The type of the backend's own argmax, which foolbox compares classes with.
        integers = "int32" if keras.backend.backend() == "jax" else "int64"
        x = eagerpy.astensor(keras.ops.convert_to_tensor(images, "float32"))
        labels = eagerpy.astensor(keras.ops.convert_to_tensor(classes.astype(integers)))
        _, attacked, _ = method(target, x, labels, epsilons=epsilon)
        results.append(np.asarray(attacked.numpy(), "float32"))
    return np.concatenate(results)


def _target(classifier: KerasClassifier, bounds: tuple[float, float]) -> Any:
    import foolbox

    def logits(x: Any) -> Any:
        return classifier(x, training=False)[0]

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return foolbox.TensorFlowModel(tf.function(logits, autograph=False), bounds=bounds)
    if backend == "jax":
        import jax

        return foolbox.JAXModel(jax.jit(logits), bounds=bounds)
    import torch

    class Module(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return logits(x)

    return foolbox.PyTorchModel(Module().eval(), bounds=bounds, device=keras.src.backend.torch.core.get_device())
