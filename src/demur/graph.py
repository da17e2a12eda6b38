"""The one graph of a detector, `x -> [score, reference, opinion]`, and its compiled call."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur.data import Shape
from demur.divergence import Tensor


class Opinion(NamedTuple):
    """What a companion says of a batch."""

    log_probabilities: list[Tensor]
    """Of each view, `(n, classes of the view)`; the prediction comes first."""
    reconstruction: Tensor | None = None
    """`x'`, where the companion makes one."""


class Views(NamedTuple):
    """The two halves of a detector's graph and how they are compared."""

    reference: Callable[[Tensor], list[Tensor]]
    """`x -> log-probabilities of each view`, from the classifier. Never trained."""
    opinion: Callable[[Tensor, bool], Opinion]
    """`x, training -> Opinion`, through the companion."""
    divergence: Callable[[Tensor, Tensor], Tensor]
    """`log reference, log opinion -> (n,)`, in nats."""
    weights: Sequence[float]
    """Of each view, in the score and in the loss."""

    def compare(self, reference: list[Tensor], opinion: list[Tensor]) -> Tensor:
        """Return the weighted sum over the views of their divergence: `(n,)`, in nats."""
        terms = zip(self.weights, reference, opinion, strict=True)
        return functools.reduce(ops.add, [weight * self.divergence(r, o) for weight, r, o in terms])


class DetectorGraph(keras.Model):  # type: ignore[misc]
    """`x -> [score (n,), reference probabilities (n, classes), opinion probabilities (n, classes)]`.

    Args:
        views: the halves and how they are compared.
        parts: every Keras layer that `views` uses, so that saving and exporting find their weights.
    """

    def __init__(self, views: Views, parts: Sequence[Any]) -> None:
        super().__init__(dtype="float32", autocast=False, name="detector")
        self.views = views
        self.parts = list(parts)

    def call(self, x: Tensor) -> list[Tensor]:
        """Score a batch; the companion is in inference mode."""
        reference = self.views.reference(x)
        opinion, reconstruction = self.views.opinion(x, False)
        score = self.views.compare(reference, opinion)
        if reconstruction is not None:
            # The classifier may hide what is wrong with its input: TensorFlow's fused ReLU turns NaN into 0.
            finite = ops.isfinite(ops.cast(reconstruction, "float32"))
            score = ops.where(ops.all(finite, axis=list(range(1, len(reconstruction.shape)))), score, np.nan)
        return [score, ops.exp(reference[0]), ops.exp(opinion[0])]


Outputs: TypeAlias = list[npt.NDArray[Any]]
Network: TypeAlias = Callable[[npt.NDArray[Any]], Callable[[], Outputs]]
"""A compiled network: a batch in; out comes a function that waits for the outputs, arrays with as many rows."""


def compiled(network: Any, row_shape: Shape, dtype: str) -> Network:
    """Compile a Keras network for inference.

    One traced call, without `predict`'s data pipeline, which costs 40 ms a call on TensorFlow. The call starts the
    work; where the device works on its own, the caller can do something else before fetching the outputs. Calls share
    no state, so several threads may use the same one. XLA is left off for TensorFlow on a CPU, where it halves the
    speed.
    """
    backend = keras.backend.backend()
    call = functools.partial(_flat_call, network)
    if backend == "tensorflow":
        start = _on_tensorflow(call, row_shape, dtype)
    elif backend == "jax":
        start = _on_jax(network, call, row_shape, dtype)
    elif backend == "torch":
        start = _on_torch(call)
    else:
        start = lambda x: call(ops.convert_to_tensor(x))  # noqa: E731 - one of four ways
    return lambda x: functools.partial(_fetched, start(x))


def _on_tensorflow(call: Any, row_shape: Shape, dtype: str) -> Callable[[npt.NDArray[Any]], list[Tensor]]:
    import tensorflow as tf

    xla = None if tf.config.list_physical_devices("GPU") else False
    signature = [tf.TensorSpec([None, *row_shape], dtype)]
    function = tf.function(call, input_signature=signature, jit_compile=xla, autograph=False)
    run = function.get_concrete_function()  # looking it up anew costs 0.15 ms a call
    return lambda x: run(tf.constant(x))


def _on_jax(network: Any, call: Any, row_shape: Shape, dtype: str) -> Callable[[npt.NDArray[Any]], list[Tensor]]:
    import jax

    network(ops.zeros([1, *(32 if size is None else size for size in row_shape)], dtype=dtype))  # build
    variables = network.variables

    @jax.jit  # type: ignore[untyped-decorator]
    def stateless(values: list[Any], x: Any) -> list[Any]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return call(x)  # type: ignore[no-any-return]

    return lambda x: stateless([variable.value for variable in variables], x)


def _on_torch(call: Any) -> Callable[[npt.NDArray[Any]], list[Tensor]]:
    import torch

    def eager(x: npt.NDArray[Any]) -> list[Tensor]:
        with torch.no_grad():
            return call(ops.convert_to_tensor(x))  # type: ignore[no-any-return]

    return eager


def _fetched(outputs: list[Tensor]) -> Outputs:
    return [ops.convert_to_numpy(output) for output in outputs]


def _flat_call(network: Any, x: Tensor) -> list[Tensor]:
    outputs = network(x, training=False)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
